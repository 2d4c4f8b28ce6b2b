"""What can be done to a run, and how to wait until the right moment: conditions that are polled, signals that are sent."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from forker import Forker
from workload import HERE, ROOT, RUN, Quiet, assert_sound, manifests, quarantine, score_bytes

from scoring.jobs.run import run
from scoring.settings import Job
from scoring.types import RunRecord

DEADLINE_S = 90.0


def until(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S, pause_s: float = 0.001) -> Any:
    """Poll until the condition holds, and return its value."""
    end = time.monotonic() + deadline_s
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {deadline_s:g} s in vain: {what}"
        time.sleep(pause_s)
    return found


def staged(workspace: Path) -> int:
    return len(names(workspace / "runs" / RUN / "staged"))


def spooling(workspace: Path) -> int:
    return len(names(workspace / "runs/.spool"))


def shown(workspace: Path) -> int:
    """Manifests that were written."""
    return sum(1 for _ in (workspace / "scores/_manifests").glob("*/v*.json"))


def names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


@dataclass(frozen=True)
class Published:
    """All that a run is judged by."""

    scores: bytes
    quarantine: Counter[str]
    counts: dict[str, dict[str, int]]
    files: dict[str, list[str]]

    @classmethod
    def of(cls, workspace: Path) -> Published:
        assert_sound(workspace)
        found = manifests(workspace)
        files = {key: [f"{file.path} {file.rows}" for file in m.files] for key, m in found.items()}
        return cls(score_bytes(workspace), quarantine(workspace), {key: m.counts for key, m in found.items()}, files)

    def same_as(self, other: Published) -> None:
        assert self.counts == other.counts
        assert self.files == other.files
        assert self.quarantine == other.quarantine
        assert self.scores == other.scores, "the published rows differ"


class Immutable:
    """Holds a workspace to its word: what is staged or published never changes."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace
        self._seen: dict[str, tuple[int, int, int]] = {}

    def look(self) -> None:
        found = {str(path): _mark(path) for path in self._files()}
        for path, mark in self._seen.items():
            assert found.get(path) == mark, f"{path} has changed"
        self._seen = found

    def _files(self) -> Iterable[Path]:
        yield from (self._workspace / "runs" / RUN / "staged").glob("*.parquet")
        yield from (self._workspace / "scores/_manifests").rglob("*.json")
        yield from (self._workspace / "ledger").glob("*.json")


def _mark(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


class Drivers(Forker):
    """The process that forks drivers; one runs at a time."""

    def __init__(self, log: Path) -> None:
        self._log = log
        with open(log, "w") as out:
            super().__init__([sys.executable, str(HERE / "driver.py")], os.environ | {"PYTHONPATH": f"{ROOT}:{HERE}"}, out)
        self._codes: list[int] = []

    def run(self, given: dict[str, Any], kill: Callable[[int, Callable[[], bool]], None] = lambda pid, ended: None) -> int:
        """Run a job; `kill` is handed its pid and whether it has ended. Returns the exit status, -9 if killed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(given) + "\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        codes: list[int] = []
        waiting = threading.Thread(target=lambda: codes.append(int(self._process.stdout.readline())))  # type: ignore[union-attr]
        waiting.start()
        try:
            kill(pid, lambda: not waiting.is_alive())
        finally:
            waiting.join(DEADLINE_S)
        assert codes, f"driver {pid} does not end\n{self.said()}"
        return codes[0]

    def said(self) -> str:
        return self._log.read_text()[-3000:]


class Running:
    """A run in this process, so that its lanes and nodes can be hurt while it goes on."""

    def __init__(self, job: Job) -> None:
        self.record: RunRecord | None = None
        self._error: BaseException | None = None
        self.watcher = Quiet()
        self._thread = threading.Thread(target=self._go, args=(job,))
        self._thread.start()

    def _go(self, job: Job) -> None:
        try:
            self.record = run(job, "", self.watcher)
        except BaseException as error:
            self._error = error

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def end(self) -> RunRecord:
        self._thread.join(DEADLINE_S)
        assert self.ended, "the run does not end"
        if self._error is not None:
            raise self._error
        assert self.record is not None
        return self.record


def raylet(node: Any) -> psutil.Process:
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


def lanes(node: Any) -> list[psutil.Process]:
    """The lanes on a Ray node."""
    return [child for child in _below(raylet(node)) if _title(child).startswith("ray::LaneActor")]


def family(node: Any) -> list[psutil.Process]:
    """The node's raylet and all its processes."""
    top = raylet(node)
    return [top, *_below(top)]


def send(number: signal.Signals, processes: Iterable[psutil.Process]) -> int:
    """How many were there to be hit."""
    hit = 0
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
        hit += 1
    return hit


def writing(process: psutil.Process) -> bool:
    """Whether a process has a file of the spool open."""
    try:
        links = [os.readlink(f"/proc/{process.pid}/fd/{n}") for n in os.listdir(f"/proc/{process.pid}/fd")]
    except OSError:
        return False
    return any("/runs/.spool/" in link for link in links)


def stopped(process: psutil.Process) -> bool:
    """A signal takes a moment to be obeyed, by each thread: one may still be in a system call, closing a file."""
    tasks = Path(f"/proc/{process.pid}/task")
    try:
        states = [(tasks / n / "stat").read_text().rpartition(")")[2].split()[0] for n in os.listdir(tasks)]
    except OSError:
        return gone(process)
    return all(state in "TtZX" for state in states)


def gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _below(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
