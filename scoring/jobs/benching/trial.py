"""One measurement, seen from outside: what is asked for, how the process that makes it is started and ended, what it answers.

A process for each round of each configuration: nothing that one leaves behind (memory, compiled kernels, a GPU's context) is there
for the next, and what differs from process to process is in the spread.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from scoring.jobs.benching.sample import Sample
from scoring.jobs.preparation import Prepared
from scoring.settings import Job

_CHILD = "import sys; sys.path[:] = sys.argv[2:]; from scoring.jobs.benching.child import main; main(sys.argv[1])"
_SPARE_S = 60.0
_LOOK_S = 0.1  # how often it is seen whether the user wants to stop


@dataclass(frozen=True)
class Task:
    """`job` has a workspace of its own, that is removed afterwards. `rows` None: find out what lasts `seconds`. `golden`: also say
    how far the golden scores are off.
    """

    job: Job
    prepared: Prepared
    sample: Sample
    round: int
    rows: int | None
    seconds: float
    golden: bool


@dataclass(frozen=True)
class Trial:
    """What one round of one configuration gave. `asked` are the rows that were to be taken, of `bytes` of files; `start_seconds`:
    until all lanes were ready; `exhausted`: there are no more rows.
    """

    asked: int
    rows: int
    bytes: int
    seconds: float
    tokens: int
    stages: dict[str, float]
    routes: dict[str, int]
    notes: tuple[str, ...]
    device: str
    start_seconds: float
    exhausted: bool
    host_gb: float | None
    gpu_gb: float | None
    deviation: float | None
    load: float


@dataclass(frozen=True)
class Lost:
    """Why there is no trial."""

    reason: str


def attempt(task: Task, folder: Path, should_stop: Callable[[], str | None]) -> Trial | Lost:
    """Run a task in a process of its own, which is ended when `should_stop` says why."""
    answer, log = folder / "answer.json", folder / "log.txt"
    answer.unlink(missing_ok=True)
    command = [sys.executable, "-c", _CHILD, str(answer), *sys.path]
    limit = time.monotonic() + _limit_s(task)
    with open(log, "wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True)
        try:
            _hand(process, pickle.dumps(task))
            why = _awaited(process, limit, should_stop)
        finally:
            _end(process)
    if why:
        return Lost(why)
    if not answer.exists():
        return Lost(_died(process.returncode, log))
    found = json.loads(answer.read_text())
    if "lost" in found:
        return Lost(found["lost"])
    return Trial(**found | {"notes": tuple(found["notes"])})


def _limit_s(task: Task) -> float:
    """Longer than all that has deadlines of its own."""
    retry, pieces = task.job.engine.retry, task.prepared.lanes.count * task.job.engine.in_flight
    return retry.start_deadline_s * (1 + retry.attempts) + retry.call_deadline_s * (2 + pieces) + _SPARE_S


def _hand(process: subprocess.Popen[bytes], task: bytes) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as pipe:  # its end says more
        pipe.write(task)


def _awaited(process: subprocess.Popen[bytes], limit: float, should_stop: Callable[[], str | None]) -> str:
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LOOK_S)
            return ""
        if why := should_stop():
            return why
        if time.monotonic() > limit:
            return "no answer within all time limits of engine.retry together"


def _end(process: subprocess.Popen[bytes]) -> None:
    """With all that it started; the next round must find the machine as this one did."""
    family: list[psutil.Process] = []
    with suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    for one in family:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait()


def _died(code: int, log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    if code == -signal.SIGKILL:
        return "its process was killed (SIGKILL): most likely the machine ran out of memory"
    return f"its process ended with {code}: {lines[-1][:300] if lines else 'it said nothing'}"
