"""How far one driver goes: lanes, slices, plans and resumed runs, each measured in a process of its own, one after the other.

    make bench-scale            some 20 minutes on two cores, into benchmarks/results/scale-<date>.json
    make bench-scale QUICK=1    everything small, in two minutes: does it run? Writes nothing

Two real lanes beside one score the rows of the spine benchmark. More lanes than cores are simulated: real processes of Ray, with
the real dispatcher, whose device time is a wait (scaling/lanes.py). What 100,000 slices cost the driver is measured without Ray
on a simulated clock (scaling/driver.py), a plan and a resumed run of a million slices on files (scaling/planning.py, resuming.py),
and a resumed run of 100,000 that publishes, too. What it means: docs/scaling.md. A million staged files are made in --scratch, and
taken away. The last lines are one JSON object each; `theirs` is the goal, or what it is compared with.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from peers import machine

ROOT = Path(__file__).parents[1]
PARTS = Path(__file__).parent / "scaling"
GOAL, PLAN_S, PLAN_MB, RESUME_S, DRIVER_MS = 0.95, 60.0, 1_000.0, 60.0, 1.0
Facts = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """`lanes` are (lanes, seconds of a slice, slices for each lane)."""

    lanes: tuple[tuple[int, float, int], ...]
    slices: int
    many: int
    rows: int
    rounds: int


FULL = Size(((1, 2, 10), (8, 2, 20), (32, 2, 20), (64, 1, 60), (64, 2, 40), (64, 4, 20)), 100_000, 1_000_000, 4_000_000, 3)
QUICK = Size(((2, 0.5, 10), (8, 0.5, 10)), 10_000, 20_000, 500_000, 1)


def part(name: str, **given: Any) -> Facts:
    """What a script of scaling/ found."""
    words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    done = subprocess.run([sys.executable, str(PARTS / f"{name}.py"), *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} {given}: {done.stderr[-3000:]}")
    found: Facts = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{name:10} {_load()} " + " ".join(f"{key}={value:,.4g}" for key, value in found.items() if isinstance(value, float | int))
    )
    sys.stdout.flush()
    return found | {"load": _load()}


def real(folder: Path, rows: int, rounds: int) -> Facts:
    """Rows per second of one lane and of two, in turn: medians."""
    from spine_data import write_data, write_model

    data, bundle = write_data(folder, rows), write_model(folder)
    rates: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for lanes, found in rates.items():
            workspace = folder / "scale-workspace"
            shutil.rmtree(workspace, ignore_errors=True)
            words = ["source=parquet", f"source.path={data}", "source.carry=[id]", f"source.slice_rows={rows // 16}", "engine=ray"]
            words += [f"model.bundle={bundle}", f"workspace={workspace}", f"engine.lanes={lanes}", "hardware.device=cpu"]
            words += ["hardware.cpus_per_lane=1", "respond.report=false", "respond.lineage.enabled=false", "--json"]
            done = subprocess.run([sys.executable, "-m", "scoring", "run", *words], capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(done.stderr[-3000:])
            found.append(json.loads(done.stdout)["rates"]["rows_per_second"])
            print(f"real lanes {_load()} lanes={lanes} rows/s={found[-1]:,.0f}", flush=True)
    one, two = (statistics.median(found) for found in rates.values())
    return {"one": one, "two": two, "efficiency": two / one / 2, "load": _load()}


def told(found: Facts, rounds: int) -> list[Facts]:
    """The lines that are compared from day to day."""
    lines = [_line("rows per second of 2 real lanes beside 1", found["real"]["two"], found["real"]["one"], "rows/s", rounds)]
    for one in found["lanes"]:
        name = f"efficiency of {one['lanes']} simulated lanes, slices of {one['seconds']:g} s"
        lines.append(_line(name, one["efficiency"], GOAL, "share"))
    most, driver, plan, resume = found["lanes"][-1], found["driver"], found["plan"], found["resume"]
    lines += [
        _line(f"driver CPU per slice, {driver['slices']:,} slices, without Ray", driver["driver_ms"], DRIVER_MS, "ms"),
        _line(f"driver CPU per slice, {most['lanes']} lanes, Ray alone", most["driver_ms"], DRIVER_MS, "ms"),
        _line(f"driver memory, {driver['slices']:,} slices beside none", driver["mb"], driver["mb_before"], "MB"),
        _line(f"plan of {plan['slices']:,} slices", plan["seconds"], PLAN_S, "s"),
        _line(f"plan of {plan['slices']:,} slices, memory", plan["mb"], PLAN_MB, "MB"),
        _line(f"resume with {resume['known']:,} receipts", resume["resume_s"], RESUME_S, "s"),
        _line(f"resume with {found['publish']['known']:,} receipts, all published", found["publish"]["total_s"], RESUME_S, "s"),
    ]
    return lines


def _line(name: str, ours: float, theirs: float, unit: str, n: int = 1) -> Facts:
    return {
        "name": name,
        "ours": round(ours, 3),
        "theirs": round(theirs, 3),
        "ratio": round(ours / theirs, 3),
        "unit": unit,
        "n": n,
    }


def _load() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


def _machine() -> Facts:
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {"cpu": machine.cpu(), "cores": os.cpu_count(), "python": platform.python_version()} | {
        "commit": commit.stdout.strip(),
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
    }


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--quick", action="store_true")
    ask.add_argument("--folder", type=Path, default=ROOT / ".bench")
    ask.add_argument("--scratch", type=Path, help="where staged files lie: below --folder, or say /dev/shm where disks are slow")
    given = ask.parse_args()
    size, folder = QUICK if given.quick else FULL, given.folder.absolute()
    scratch = given.scratch or folder / "scale"
    found: Facts = {"machine": _machine(), "scratch": str(scratch)}
    found["driver"] = part("driver", scratch=scratch, slices=size.slices)
    found["plan"] = part("planning", folder=folder / "scale", slices=size.many)
    found["resume"] = part("resuming", folder=folder / "scale", scratch=scratch, slices=size.many)
    found["publish"] = part("resuming", folder=folder / "scale", scratch=scratch, slices=size.slices, publish=1)
    found["lanes"] = [
        part("lanes", scratch=scratch, lanes=lanes, seconds=seconds, each=each) for lanes, seconds, each in size.lanes
    ]
    # last: what it imports would count as memory of the others
    found["real"] = real(folder / "spine", size.rows, size.rounds)
    found["lines"] = told(found, size.rounds)
    if not given.quick:
        target = ROOT / "benchmarks/results" / f"scale-{datetime.now(UTC).date()}.json"
        target.write_text(json.dumps(found, indent=2) + "\n")
    for line in found["lines"]:
        print(json.dumps(line))


if __name__ == "__main__":
    main()
