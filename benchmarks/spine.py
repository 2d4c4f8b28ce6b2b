"""The spine benchmark: our main job against the hand loop and against Ray Data, side by side in one run.

    make bench-spine            or: python benchmarks/spine.py --rows 4000000 --rounds 5

Contenders take turns, so that a noisy neighbour hits all alike; medians of the rounds are compared. Start-up and shut-down are
apart everywhere: rows per second count from the moment that a worker (ours: the first, theirs: all) holds the model to the last row
published. The last lines are one JSON object each, with `name`, `ours`,
`theirs`, `ratio`, `unit`, `n`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from spine_data import repeated, write_data, write_model

HERE = Path(__file__).parent


def last_json(*command: str) -> dict[str, float]:
    """Run a command of this Python and read the last line it prints."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout if done.stdout.lstrip().startswith("{") else done.stdout.strip().splitlines()[-1])


def ours(engine: str, data: Path, bundle: Path, folder: Path) -> Callable[[], float]:
    def once() -> float:
        workspace = folder / f"workspace-{engine}"
        shutil.rmtree(workspace, ignore_errors=True)
        overrides = [
            "source=parquet",
            f"source.path={data}",
            "source.carry=[id]",
            "source.duplicates=keep",
            f"model.bundle={bundle}",
        ]
        record = last_json("-m", "scoring", "run", *overrides, f"workspace={workspace}", f"engine={engine}", "--json")
        return float(record["rates"]["rows_per_second"])  # type: ignore[index]

    return once


def script(name: str, *options: str) -> Callable[[], float]:
    return lambda: last_json(str(HERE / name), *options)["rows_per_second"]


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--folder", type=Path, default=Path(".bench/spine"))
    ask.add_argument("--rows", type=int, default=4_000_000)
    ask.add_argument("--copies", type=int, default=6, help="score the files so many times: a window of seconds, not of one")
    ask.add_argument("--rounds", type=int, default=5)
    given = ask.parse_args()
    data, bundle = repeated(write_data(given.folder, given.rows), given.copies).absolute(), write_model(given.folder).absolute()
    where = ("--folder", str(given.folder), "--rows", str(given.rows), "--copies", str(given.copies))
    contenders = {
        "ray": ours("ray", data, bundle, given.folder.absolute()),
        "inline": ours("inline", data, bundle, given.folder.absolute()),
        "hand loop, two processes": script("spine_hand.py", *where, "--variant", "folded-arrow", "--repeat", "1"),
        "hand loop, one process": script("spine_hand.py", *where, "--variant", "folded-arrow", "--repeat", "1", "--processes", "1"),
        "Ray Data": script("spine_ray_data.py", *where),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(given.rounds):
        for name, measure in contenders.items():
            rates[name].append(measure())
            print(f"round {turn + 1}: {name:28} {rates[name][-1]:>12,.0f} rows/s", flush=True)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    for mine in ("ray", "inline"):
        for other in ("hand loop, two processes", "hand loop, one process", "Ray Data"):
            row = {"name": f"spine {mine} / {other}", "ours": medians[mine], "theirs": medians[other]}
            row |= {"ratio": round(medians[mine] / medians[other], 3), "unit": "rows/s", "n": given.rounds}
            print(json.dumps(row))


if __name__ == "__main__":
    main()
