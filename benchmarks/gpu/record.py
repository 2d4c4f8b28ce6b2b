"""What a part of `make gpu-check` writes while it works: one JSON object a line, so that what was measured outlives the process.

Each attempt has a time limit. A call that does not come back (a kernel that never ends) ends the process, and so does an error that
leaves the CUDA context broken: `gpu_check.py` then starts the part again with the kernels that are left.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

GRACE_S = 15.0  # after the limit, for a call that Python cannot interrupt
LEAST_S = 2.0  # what is begun with less left would only be cut off
BROKEN = ("CUDA error", "Triton Error [CUDA]", "CUBLAS_STATUS_EXECUTION_FAILED")
Event = dict[str, Any]


class TimeUp(BaseException):
    """Not an Exception: compilers and autotuners swallow those."""


class Skip(Exception):  # noqa: N818 - not an error
    """There is nothing to try here, and why."""


class Recorder:
    def __init__(self, path: Path, part: str, until: float, patience: float = 1.0) -> None:
        """`until`: on the clock `time.monotonic`, which processes share. `patience`: by what the limits of attempts are longer."""
        self._path, self._part, self._end, self._patience = path, part, until, patience
        self._kernel, self._reserve = "", 0.0

    def left(self) -> float:
        return self._end - time.monotonic() - self._reserve

    def begin(self, kernel: str, rest: list[str], others: int = 0) -> None:
        """From now on events are of this kernel; should the process die, this one is to blame, and another begins with the `rest`.

        `others`: kernels that come after it and are to have as much of the time that is left.
        """
        self._kernel, self._reserve = kernel, 0.0
        self._reserve = self.left() * others / (others + 1)
        self._write({"begin": True, "rest": rest})

    def missing(self, why: str, **names: Any) -> None:
        """A contender that is not tried."""
        self._write({"status": "missing", "why": why} | names)

    def attempt(self, work: Callable[[], Event | None], seconds: float, must: bool = True, **names: Any) -> Event | None:
        """Do `work` and write what it returns; None if it failed or was not tried. A contender of ours need not work (`must`)."""
        left, seconds = self.left(), seconds * self._patience
        if left < LEAST_S:
            self._write({"status": "skip", "why": "no time left", "seconds": 0.0} | names)
            return None
        began = time.perf_counter()
        found, fields, fatal = None, {}, False
        try:
            with limit(min(seconds, left)):
                found = work() or {}
            fields = {"status": "ok"} | found
        except Skip as reason:
            fields = {"status": "skip", "why": str(reason)}
        except TimeUp:
            fields = {"status": "fail" if must else "missing", "why": f"not done after {min(seconds, left):.0f} s"}
        except Exception as error:
            fields = {"status": "fail" if must else "missing", "why": one_line(error)}
            fatal = broken(error)
        self._write({"took": round(time.perf_counter() - began, 3)} | names | fields)
        if fatal:
            os._exit(3)  # the context is corrupt; a regular exit may hang in it
        return found

    def _write(self, fields: Event) -> None:
        event = {"part": self._part, "kernel": self._kernel} | fields
        with self._path.open("a") as file:
            file.write(json.dumps(event) + "\n")


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    def up(*_: Any) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, up)
    signal.setitimer(signal.ITIMER_REAL, seconds, 5.0)  # again, where a destructor has swallowed it
    faulthandler.dump_traceback_later(seconds + GRACE_S, exit=True)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def broken(error: BaseException) -> bool:
    """Whether nothing can be computed in this process any more."""
    return any(text in str(error) for text in BROKEN) and "out of memory" not in str(error)


def one_line(error: BaseException, most: int = 400) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:most]
