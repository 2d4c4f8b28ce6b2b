"""Rounds of measurements in turn, each kept as a line of raw.jsonl as soon as it is made, so that an interrupted run goes on.

Round 0 is not timed: answers are compared row by row there, caches are filled, and proportional memory is read. In each round every
contender that takes part has one turn per case, in an order that is shuffled anew, so that a noisy neighbour hits all alike. A
contender that fails is a line with its error, and is tried again when the run is continued.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pyarrow.parquet as pq
from peers import agree, machine, ours, watched
from peers.cases import ROOT, Case, Place
from peers.contenders import CONTENDERS, OURS, takes_part
from peers.forwards import answer
from peers.task import Task

FOREIGN = ROOT / ".venv-peers/bin/python"
LIMIT_S = 600.0
CHECKED = 0  # the round in which answers are compared
Line = dict[str, Any]


@dataclass(frozen=True)
class Log:
    """raw.jsonl. The first line is the machine."""

    path: Path

    def lines(self) -> list[Line]:
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def begin(self) -> None:
        """Raises: SystemExit: what is there was measured on or with something else."""
        facts = machine.facts(Path(sys.executable), FOREIGN, ROOT)
        before = next((line["machine"] for line in self.lines() if "machine" in line), None)
        if before is None:
            self.add({"machine": facts, "at": _now()})
        elif before != facts:
            changed = sorted(name for name in facts if facts[name] != before.get(name))
            raise SystemExit(
                f"{self.path}: was measured with another {', '.join(changed)}. Name another folder with --into, or remove it."
            )

    def add(self, line: Line) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def compared(self) -> set[tuple[str, str]]:
        """Whose answers of the latest untimed round were compared."""
        found: set[tuple[str, str]] = set()
        for line in (one for one in self.lines() if "contender" in one):
            key = line["case"], line["contender"]
            if line.get("round") == CHECKED:
                found.discard(key)
            elif "agreement" in line and not line["agreement"].get("error"):
                found.add(key)
        return found

    def done(self) -> set[tuple[str, str, int]]:
        return {(line["case"], line["contender"], line["round"]) for line in self.lines() if "round" in line and not line["error"]}


class Turns:
    """`out` holds what contenders write, until their next turn. `only` says who takes part where not all do."""

    def __init__(self, log: Log, out: Path, places: Mapping[str, Place], only: Mapping[str, Sequence[str]]) -> None:
        self._log, self._out, self._places, self._only = log, out, places, only

    def go(self, cases: Sequence[Case], names: Iterable[str], rounds: int) -> None:
        self._log.begin()
        done, names = self._log.done(), list(names)
        for turn in range(rounds + 1):
            for case in cases:
                wanted = [n for n in self._only.get(case.name, names) if n in names and takes_part(n, case.name)]
                for name in Random(f"{case.name} {turn}").sample(wanted, len(wanted)):
                    if (case.name, name, turn) not in done:
                        self._measure(case, name, turn)
                if turn == CHECKED:
                    self._compare(case, wanted)

    def _task(self, case: Case, name: str) -> Task:
        folder = self._out / name / case.name.replace(" ", "-")
        return self._places[case.name].task(case, folder, folder.with_name(folder.name + "-marks"))

    def _measure(self, case: Case, name: str, turn: int) -> None:
        task = self._task(case, name)
        for folder in (task.out, task.marks):
            shutil.rmtree(folder, ignore_errors=True)
            Path(folder).mkdir(parents=True)
        os.sync()  # what another wrote is no load of this one
        load = machine.load()
        seen = watched.run(_command(name, task), _environment(), LIMIT_S, exact=turn == CHECKED)
        line = {"case": case.name, "contender": name, "round": turn, "rows": task.rows, "copies": case.copies, "at": _now()}
        line |= seen.facts() | {"load": load, "error": seen.error}
        if not seen.error:
            try:
                line |= _facts(name, task, seen)
            except (ValueError, KeyError, OSError) as error:
                line["error"] = f"{type(error).__name__}: {error}"[:300]
        self._log.add(line)
        print(_told(line), flush=True)

    def _compare(self, case: Case, names: list[str]) -> None:
        """Beside the library for trees, the hand loop otherwise. Rows of several copies were compared in the smaller dataset."""
        known = self._log.compared()
        other = "library" if case.family == "forest" else "hand" if "hand" in names else "encode"
        if case.copies > 1 or other not in names or all((case.name, name) in known for name in names):
            return
        column = answer(case.family)
        try:
            reference = agree.read(_answers(other, self._task(case, other)), column)
        except (OSError, ValueError, KeyError) as error:
            print(f"{case.name}: nothing to compare with: {error}", flush=True)
            return
        for name in names:
            self._log.add({"case": case.name, "contender": name, "agreement": self._agreement(case, name, reference), "at": _now()})

    def _agreement(self, case: Case, name: str, reference: Any) -> Line:
        try:
            found = agree.read(_answers(name, self._task(case, name)), _column(name, case))
            beside = agree.compare(_kind(name, case), found, reference)
        except (OSError, ValueError, KeyError, agree.DisagreementError) as error:
            return {"holds": False, "error": f"{type(error).__name__}: {error}"[:300]}
        return {"holds": beside.holds, "rows": beside.rows, "largest": beside.largest, "allowed": beside.allowed}


def _kind(name: str, case: Case) -> str:
    """How near the answers have to be."""
    if case.family == "text" and name.endswith("-bf16"):
        return "text bf16"
    return case.kind if case.family == "forest" else case.family


def _column(name: str, case: Case) -> str:
    return "probability_1" if name in OURS and case.kind == "sklearn" else answer(case.family)


def _answers(name: str, task: Task) -> list[Path]:
    found = ours.answers(task) if name in OURS else sorted(Path(task.out).glob("**/*.parquet"))
    if not found:
        raise OSError(f"{name} has left no file in {task.out}")
    return found


def _command(name: str, task: Task) -> list[str]:
    if name in OURS:
        return ours.command(name, task)
    python = str(FOREIGN) if CONTENDERS[name].foreign else sys.executable
    return [python, str(ROOT / "benchmarks/contend.py"), name, task.written()]


def _environment() -> dict[str, str]:
    """The same for all; nobody asks the network for anything."""
    wanted = {
        "PYTHONPATH": f"{ROOT / 'benchmarks'}{os.pathsep}{ROOT}", "HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0",
        "DAFT_ANALYTICS_ENABLED": "0", "DO_NOT_TRACK": "true", "DAFT_PROGRESS_BAR": "0",
    }  # fmt: skip
    return os.environ | wanted


def _facts(name: str, task: Task, seen: watched.Seen) -> Line:
    """Rows per second, seconds to the first scored rows and of the whole job.

    Raises: ValueError, KeyError, OSError: what was said or written is not what was asked for.
    """
    written = sum(pq.read_metadata(path).num_rows for path in _answers(name, task))
    if written != task.rows:
        raise ValueError(f"{written:,} rows were written, {task.rows:,} were given")
    found = ours.facts(seen.said, task) if name in OURS else json.loads(seen.said.strip().splitlines()[-1])
    rate = found.get("rate") or task.rows / (found["ended"] - found["ready"])
    first = None if found.get("first") is None else round(found["first"] - seen.spawned, 3)
    more = {key: found[key] for key in ("stages", "work", "gemm_gflops", "of_gemm_rate", "workers") if found.get(key)}
    return {"rate": round(rate, 2), "first_s": first, "job_s": round(seen.exited - seen.spawned, 3)} | more


def _told(line: Line) -> str:
    where = f"{line['case']}, round {line['round']}: {CONTENDERS[line['contender']].title:40}"
    if line["error"]:
        return f"{where} failed: {line['error']}"
    first = "" if line["first_s"] is None else f", first rows {line['first_s']:.1f} s"
    job = f"job {line['job_s']:.1f} s, {line['rss_mb']:,.0f} MB, load {line['load'][0]:g}"
    return f"{where} {line['rate']:>12,.0f} rows/s{first}, {job}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
