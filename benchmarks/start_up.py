"""How long from Ray being up to the first scored rows: lanes start, import, load the model, score and stage one slice.

    python benchmarks/start_up.py

Each round is a process of its own. The last line is one JSON object; `theirs` is the goal of 2 s. Loading the model is included.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from spine_data import write_data, write_model

GOAL_S = 2.0


class FirstRows:
    """Watches a run and keeps when its first slice was finished."""

    def __init__(self) -> None:
        self.at = 0.0

    def begin(self, *facts: Any) -> None: ...

    def planned(self, partition: str, slices: int, rows: int) -> None: ...

    def finished(self, receipt: Any) -> None:
        self.at = self.at or time.monotonic()

    def end(self, record: Any) -> None: ...


def seconds(data: Path, bundle: Path, workspace: Path) -> float:
    from scoring.jobs.run import run
    from scoring.pool.ray import Session
    from scoring.settings import Job, Source
    from scoring.settings import Model as ModelSettings

    shutil.rmtree(workspace, ignore_errors=True)
    job = Job(str(workspace), Source("parquet", str(data), carry=("id",), slice_rows=50_000), ModelSettings(str(bundle)))
    session = Session(cpus=2)
    watch, up = FirstRows(), time.monotonic()
    try:
        run(job, "", watch)
    finally:
        session.close()
    return watch.at - up


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--folder", type=Path, default=Path(".bench/spine"))
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--one", action="store_true", help="one round in this process")
    given = ask.parse_args()
    data, bundle = write_data(given.folder, 100_000, files=2), write_model(given.folder)
    if given.one:
        print(seconds(data, bundle, given.folder / "start"))
        return
    command = [sys.executable, __file__, "--folder", str(given.folder), "--one"]
    found = []
    for _ in range(given.rounds):
        found.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]))
        print(f"first scored rows after {found[-1]:.2f} s", flush=True)
    ours = round(statistics.median(found), 2)
    row = {"name": "first scored rows after ray.init", "ours": ours, "theirs": GOAL_S, "ratio": round(ours / GOAL_S, 2)}
    print(json.dumps(row | {"unit": "s", "n": given.rounds}))


if __name__ == "__main__":
    main()
