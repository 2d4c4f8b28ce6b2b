"""The forest benchmark: boosted trees and a random forest, trained on the spot, beside Ray Data and the library that trained them.

    make bench-forest           or: python benchmarks/forest.py --rounds 5 --kinds lightgbm,xgboost,sklearn

Contenders take turns, so that a noisy neighbour hits all alike; medians of the rounds are compared. Start-up, loading and compiling
are apart everywhere. In the first round the scores of all contenders are compared, row by row. Slow contenders score a part of the
rows (see forest_data.py); rates are compared. The last lines are one JSON object each, with `name`, `ours`, `theirs`, `ratio`,
`unit`, `n`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from forest_data import KINDS, write_data, write_model
from spine import HERE, last_json

PAIRS = (
    ("ray", "ray-data"), ("inline", "ray-data"), ("ray", "library"), ("inline", "library"),
    ("bare", "library"), ("bare", "library-1"), ("ray", "bare"),
)  # fmt: skip
MOST_OFF = 1e-6  # relative, of probabilities
FLOAT32_SUMS = 1e-4  # the same where a library adds 500 leaves in float32
Measured = dict[str, float]


def ours(engine: str, kind: str, data: Path, bundle: Path, folder: Path) -> Callable[[Path | None], Measured]:
    """The whole job: Parquet in, scores published."""

    def once(out: Path | None) -> Measured:
        workspace = folder / f"workspace-{kind}-{engine}"
        shutil.rmtree(workspace, ignore_errors=True)
        overrides = ["source=parquet", f"source.path={data}", "source.carry=[id]", f"model.bundle={bundle}"]
        overrides += [f"workspace={workspace}", f"engine={engine}"] + (["engine.lanes=2"] if engine == "ray" else [])
        record: dict[str, Any] = last_json("-m", "scoring", "run", *overrides, "--json")  # type: ignore[assignment]
        if out:
            import scoring

            np.save(out, scoring.read_scores(str(workspace)).sort("id").collect()[KINDS[kind].score].to_numpy())
        return {"rows_per_second": record["rates"]["rows_per_second"]}

    return once


def peer(name: str, kind: str, folder: Path, rows: int) -> Callable[[Path | None], Measured]:
    command = [str(HERE / "forest_peers.py"), name, "--folder", str(folder), "--kind", kind, "--rows", str(rows)]
    return lambda out: last_json(*command, *(["--out", str(out)] if out else []))


def largest_difference(found: Path, other: Path) -> float:
    """Relative, of the rows that both have scored."""
    a, b = (np.load(path).astype(np.float64) for path in (found, other))
    rows = min(len(a), len(b))
    return float((np.abs(a[:rows] - b[:rows]) / np.maximum(np.abs(b[:rows]), 1e-30)).max())


def compared(kind: str, folder: Path, rows: int, rounds: int) -> list[dict[str, Any]]:
    data, (_, bundle) = write_data(folder, rows), write_model(folder, kind)
    contenders = {engine: ours(engine, kind, data, bundle, folder) for engine in ("ray", "inline")}
    contenders |= {name: peer(name, kind, folder, rows) for name in ("bare", "library", "library-1", "ray-data")}
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds):
        for name, measure in contenders.items():
            out = folder / f"{kind}-{name}.npy" if turn == 0 else None
            rates[name].append(measure(out)["rows_per_second"])
            print(f"{kind}, round {turn + 1}: {name:9} {rates[name][-1]:>12,.0f} rows/s", flush=True)
    rows_out = [_agreement(kind, name, folder) for name in contenders if name != "library"]
    medians = {name: statistics.median(found) for name, found in rates.items()}
    for mine, other in PAIRS:
        row = {"name": f"forest {kind} {mine} / {other}", "ours": round(medians[mine]), "theirs": round(medians[other])}
        rows_out.append(row | {"ratio": round(medians[mine] / medians[other], 3), "unit": "rows/s", "n": rounds})
    return rows_out


def _agreement(kind: str, name: str, folder: Path) -> dict[str, Any]:
    """Beside the library's predict, on all rows that both scored."""
    off = largest_difference(folder / f"{kind}-{name}.npy", folder / f"{kind}-library.npy")
    allowed = FLOAT32_SUMS if kind == "xgboost" else MOST_OFF
    if not off <= allowed:
        raise SystemExit(f"{kind}: scores of {name} differ from the library's by {off:.1e}, relative; allowed are {allowed:g}.")
    row = {"name": f"forest {kind} {name}, largest difference from the library", "ours": off, "theirs": allowed}
    return row | {"ratio": round(off / allowed, 4), "unit": "relative", "n": 1}


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--folder", type=Path, default=Path(".bench/forest"))
    ask.add_argument("--kinds", default=",".join(KINDS))
    ask.add_argument("--rows", type=int, help="of each kind; a small number is a smoke test")
    ask.add_argument("--rounds", type=int, default=5)
    given = ask.parse_args()
    folder = given.folder.absolute()
    rows = [row for k in given.kinds.split(",") for row in compared(k, folder, given.rows or KINDS[k].rows, given.rounds)]
    for row in rows:
        print(json.dumps(row))


if __name__ == "__main__":
    main()
