"""A child process from its start to its end, with the memory of its whole tree looked at meanwhile.

Resident memory is summed over the tree: pages that several processes share count once for each. Proportional memory (PSS) counts
them once, but costs more to read, and is read in rounds that are not timed. Both are seen every half second: a shorter peak is
missed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

EVERY_S, GONE_S = 0.5, 10.0
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Seen:
    """Times are seconds since the epoch, memory is in MB."""

    spawned: float
    exited: float
    said: str
    error: str | None
    rss_mb: float
    pss_mb: float | None

    def facts(self) -> dict[str, Any]:
        return {"spawned": self.spawned, "exited": self.exited, "rss_mb": self.rss_mb, "pss_mb": self.pss_mb}


def run(command: list[str], environment: Mapping[str, str], limit_s: float, exact: bool) -> Seen:
    """Start a command in a session of its own; whatever it leaves behind is ended. `exact` reads proportional memory, too."""
    spawned = time.time()
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=dict(environment), text=True, start_new_session=True, **pipes) as child:
        memory = _Memory(child.pid, exact)
        try:
            said, complained = child.communicate(timeout=limit_s)
            error = None if child.returncode == 0 else f"exit {child.returncode}: {_last(complained)}"
        except subprocess.TimeoutExpired:
            said, error = "", f"no end after {limit_s:g} s"
        finally:  # also of Ctrl-C, which does not reach the child's session
            exited = time.time()
            memory.end()
    return Seen(spawned, exited, said, error, round(memory.rss / 1e6, 1), round(memory.pss / 1e6, 1) if exact else None)


def _last(complained: str) -> str:
    lines = [line.strip() for line in complained.splitlines() if line.strip()]
    told = [line for line in lines if "Error" in line and not line.startswith(("File", "at "))]
    return (told or lines or ["nothing was said"])[-1][:300]


class _Memory:
    """Looks until it is told to end; then ends what is left of the tree."""

    def __init__(self, pid: int, exact: bool) -> None:
        self.rss = self.pss = 0
        self._root, self._exact = psutil.Process(pid), exact
        self._known: dict[int, psutil.Process] = {pid: self._root}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()
        self._note()
        for process in self._known.values():
            with contextlib.suppress(psutil.Error):
                process.kill()  # psutil looks whether it is still the same process
        psutil.wait_procs(list(self._known.values()), timeout=GONE_S)

    def _look(self) -> None:
        while not self._over.wait(EVERY_S):
            self._note()
            self.rss = max(self.rss, sum(_resident(pid) for pid in self._known))
            if self._exact:
                self.pss = max(self.pss, sum(_proportional(pid) for pid in self._known))

    def _note(self) -> None:
        """Who belongs to the tree; kept, because those whose parent has ended are no longer found below it."""
        with contextlib.suppress(psutil.Error):
            self._known |= {p.pid: p for p in self._root.children(recursive=True)}


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def _proportional(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
