"""The text benchmark: embedding real texts with the real MiniLM, beside sentence-transformers, Ray Data and our own bare encoder.

    make bench-text             or: python benchmarks/text.py --data DATA --rounds 5

DATA is a folder with `clinc_oos` and `twenty_newsgroups` (see text_data.py). Contenders take turns, so that a noisy neighbour hits
all alike; medians of the rounds are compared. Start-up is apart everywhere. The last lines are one JSON object each, with `name`,
`ours`, `theirs`, `ratio`, `unit`, `n`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spine import HERE, last_json
from text_data import ROOT, ROWS, write_model, write_texts


def ours(file: Path, bundle: Path, folder: Path) -> Callable[[], dict[str, float]]:
    """The whole job: Parquet in, vectors published."""

    def once() -> dict[str, float]:
        workspace = folder / "workspace"
        shutil.rmtree(workspace, ignore_errors=True)
        overrides = ["source=parquet", f"source.path={file}", "source.carry=[id]", "source.slice_rows=1"]
        overrides += [f"model.bundle={bundle}", f"workspace={workspace}", "watch=off", "engine.lanes=2"]
        record: dict[str, Any] = last_json("-m", "scoring", "run", *overrides, "--json")  # type: ignore[assignment]
        return record["rates"]

    return once


def peer(name: str, file: Path, folder: Path) -> Callable[[], dict[str, float]]:
    return lambda: last_json(str(HERE / "text_peers.py"), name, "--folder", str(folder), "--file", str(file))


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--folder", type=Path, default=Path(".bench/text"))
    ask.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/text")
    ask.add_argument("--kinds", default="short,mixed,long")
    ask.add_argument("--rounds", type=int, default=5)
    given = ask.parse_args()
    folder = given.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    bundle = write_model(folder)
    rows = []
    for kind in given.kinds.split(","):
        file = write_texts(folder, kind, ROWS[kind], given.data)
        contenders = {"ours": ours(file, bundle, folder)}
        contenders |= {name: peer(name, file, folder) for name in ("encode", "ray-data", "bare")}
        found: dict[str, list[dict[str, float]]] = {name: [] for name in contenders}
        for turn in range(given.rounds):
            for name, measure in contenders.items():
                found[name].append(measure())
                said = ", ".join(f"{k} {v:,.2f}" for k, v in found[name][-1].items())
                print(f"{kind}, round {turn + 1}: {name:9} {said}", flush=True)
        rows += _compared(kind, found, given.rounds)
    for row in rows:
        print(json.dumps(row))


def _compared(kind: str, found: dict[str, list[dict[str, float]]], rounds: int) -> list[dict[str, Any]]:
    medians = {name: statistics.median(f["rows_per_second"] for f in all_) for name, all_ in found.items()}
    pairs = [("ours", other) for other in ("encode", "ray-data", "bare")] + [("bare", "encode")]
    rows: list[dict[str, Any]] = [
        {"name": f"text {kind} {mine} / {other}", "ours": round(medians[mine], 1), "theirs": round(medians[other], 1),
         "ratio": round(medians[mine] / medians[other], 3), "unit": "rows/s", "n": rounds}
        for mine, other in pairs
    ]  # fmt: skip
    share = statistics.median(f["of_gemm_rate"] for f in found["bare"])
    gemm = statistics.median(f["gemm_gflops"] for f in found["bare"])
    row = {"name": f"text {kind} encoder / matrix products", "ours": round(share * gemm, 1), "theirs": round(gemm, 1)}
    return [*rows, row | {"ratio": round(share, 3), "unit": "GFLOP/s", "n": rounds}]


if __name__ == "__main__":
    main()
