"""While a run goes on: the process that tells of it, for whoever listens now. Cannot fail a run, nor make it wait.

The run hands it nothing: it reads what stands in the workspace. It is started from a thread of its own, and only for a run that
lasts, for the libraries take a second of a core, and it has the least right to the cores; what is over sooner is told at its end
alone. When its stdin ends without a word, the run has died.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from scoring.jobs import asked
from scoring.settings import Job
from scoring.stores import Store
from scoring.types import RunRecord

_NICE = 19  # the run comes first: where it takes all cores, START is a minute late
_CHILD = f"import os, sys; os.nice({_NICE}); sys.path[:] = sys.argv[1:]; from scoring.respond.live import main; main()"
_SOON_S = 2.0
_GRACE_S = 1.0  # for what is being sent when the run ends: after it the same message is sent by whoever tells of the end
_LAST_S = 1.0  # for the kernel to end it


class Live:
    """Stands before the watcher of a run; knows which run began. A context manager: leaving it ends the telling."""

    def __init__(self, job: Job, watcher: Any) -> None:
        self._job, self._watcher, self._run_id = job, watcher, ""
        self._lock, self._over = threading.Lock(), False
        self._soon: threading.Timer | None = None
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._soon is not None:
            self._soon.cancel()
        with self._lock:
            self._over = True
        if self._process is not None:
            _end(self._process)

    def begin(self, run_id: str, resumed: bool, lanes: int, store: Store) -> None:
        self._run_id = run_id
        lineage, metrics = self._job.respond.lineage, self._job.respond.metrics
        if (lineage.enabled and lineage.url) or metrics.textfile:
            self._soon = threading.Timer(_SOON_S, self._start)
            self._soon.daemon = True
            self._soon.start()
        self._watcher.begin(run_id, resumed, lanes, store)

    def planned(self, partition: str, slices: int, rows: int) -> None:
        self._watcher.planned(partition, slices, rows)

    def finished(self, receipt: Any) -> None:
        self._watcher.finished(receipt)

    def end(self, record: RunRecord) -> None:
        self._watcher.end(record)

    def _start(self) -> None:
        given = {
            "workspace": self._job.workspace,
            "name": asked.name(self._job),
            "run_id": self._run_id,
            "respond": asdict(self._job.respond),
        }
        quiet: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with suppress(OSError), self._lock:
            if not self._over:
                # A group, no session: Linux gives every session its share of the cores, whatever is in it (autogroups).
                command = [sys.executable, "-I", "-c", _CHILD, *sys.path]
                self._process = subprocess.Popen(command, text=True, process_group=0, **quiet)
                _say(self._process, json.dumps(given))


def _say(process: subprocess.Popen[str], line: str) -> None:
    with suppress(OSError):
        assert process.stdin is not None
        process.stdin.write(f"{line}\n")
        process.stdin.flush()


def _end(process: subprocess.Popen[str]) -> None:
    """A word of farewell; a process that hangs in a receiver is ended."""
    _say(process, "over")
    with suppress(OSError):
        assert process.stdin is not None
        process.stdin.close()
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_LAST_S)
