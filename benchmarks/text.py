"""The text benchmark: embedding real texts with the real MiniLM, beside sentence-transformers, Ray Data and our own bare encoder.

    make bench-text             or: python benchmarks/text.py --data DATA --rounds 5

A part of `make bench-peers` by itself, with the same contenders and the same clock (peers/turns.py). DATA is a folder with
`clinc_oos` and `twenty_newsgroups` (see text_data.py). Contenders take turns; medians of the rounds are compared. Start-up is apart
everywhere. The last lines are one JSON object each, with `name`, `ours`, `theirs`, `ratio`, `unit`, `n`.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from peers.cases import TEXTS, Case
from peers.lines import Pair, measured, printed

ROWS = {"short": 3_072, "mixed": 1_200, "long": 240}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--folder", type=Path, default=Path(".bench"))
    ask.add_argument("--data", type=Path, default=TEXTS)
    ask.add_argument("--kinds", default="short,mixed,long")
    ask.add_argument("--rounds", type=int, default=5)
    given = ask.parse_args()
    cases = [Case("text", kind, ROWS[kind]) for kind in given.kinds.split(",")]
    contenders = ["ray", "ray-bf16", "encode", "encode-bf16", "ray-data", "bare"]
    found = measured(cases, contenders, given.folder, given.rounds, given.data)
    names = {"ray": "ours", "ray-bf16": "ours, bf16"}
    wanted = (
        ("ray", "encode"),
        ("ray-bf16", "encode"),
        ("ray-bf16", "encode-bf16"),
        ("ray", "ray-data"),
        ("ray", "bare"),
        ("bare", "encode"),
    )
    for case in cases:
        printed(found, [Pair(f"text {case.kind} {names.get(mine, mine)} / {other}", case, mine, other) for mine, other in wanted])
        turns = [line for line in found if line["case"] == case.name and "round" in line]
        print(json.dumps(_products(case, [line for line in turns if line["contender"] == "bare"])))


def _products(case: Case, lines: list[dict[str, Any]]) -> dict[str, Any]:
    share, product = (statistics.median(line[key] for line in lines) for key in ("of_gemm_rate", "gemm_gflops"))
    row = {"name": f"text {case.kind} encoder / matrix products", "ours": round(share * product, 1), "theirs": round(product, 1)}
    return row | {"ratio": round(share, 3), "unit": "GFLOP/s", "n": len(lines)}


if __name__ == "__main__":
    main()
