"""Does the memory of a lane depend on how much it scores? Peak resident memory of one lane after 1 M and after 20 M rows.

    python benchmarks/lane_memory.py

The 20 M rows are the 4 M rows of the spine benchmark under five names. The last line is one JSON object; `ratio` should be within
0.9 and 1.1.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from spine_data import repeated, write_data, write_model

SMALL, LARGE = 1_000_000, 20_000_000


def peak_mb(data: Path, bundle: Path, workspace: Path, rows: int, slice_rows: int = 500_000) -> float:
    """Score about `rows` rows in one lane in this process; peak resident memory in MB."""
    from scoring.engine.lane import LaneSpec, build
    from scoring.settings import Job, Source
    from scoring.settings import Model as ModelSettings
    from scoring.sources import discover, parquet, slices
    from scoring.types import Receipt

    shutil.rmtree(workspace, ignore_errors=True)
    source = Source("parquet", str(data), carry=("id",), slice_rows=slice_rows, duplicates="keep")
    job = Job(str(workspace), source, ModelSettings(str(bundle)))
    lane, done = build(LaneSpec(job, "memory", 1), "cpu"), 0
    for partition in discover.partitions(source, parquet.SUFFIXES):
        for n, work in enumerate(slices.plan(partition, source)):
            if done >= rows:
                break
            receipt = lane.process(work, str(n))
            if not isinstance(receipt, Receipt):
                raise SystemExit(receipt.message)
            done += receipt.rows_in
    shutil.rmtree(workspace, ignore_errors=True)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--folder", type=Path, default=Path(".bench/spine"))
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--one", type=int, help="score so many rows in this process and print the peak")
    given = ask.parse_args()
    data = repeated(write_data(given.folder, 4_000_000), LARGE // 4_000_000)
    bundle = write_model(given.folder)
    if given.one:
        print(peak_mb(data, bundle, given.folder / "memory", given.one))
        return
    command = [sys.executable, __file__, "--folder", str(given.folder)]
    compare(command, SMALL, LARGE, given.rounds, "lane peak memory, 20 M / 1 M rows")


def compare(command: list[str], small: int, large: int, rounds: int, name: str) -> None:
    """Let `command --one ROWS` print the peak of a process of its own, in turn for both numbers of rows; compare the medians."""
    peaks: dict[int, list[float]] = {small: [], large: []}
    for _ in range(rounds):
        for rows, found in peaks.items():
            done = subprocess.run([*command, "--one", str(rows)], capture_output=True, text=True, check=True)
            found.append(float(done.stdout.split()[-1]))
            print(f"{rows:>12,} rows: peak {found[-1]:,.0f} MB", flush=True)
    theirs, ours = (round(statistics.median(found), 1) for found in peaks.values())
    row = {"name": name, "ours": ours, "theirs": theirs, "ratio": round(ours / theirs, 3)}
    print(json.dumps(row | {"unit": "MB", "n": rounds}))


if __name__ == "__main__":
    main()
