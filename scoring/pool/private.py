"""The private folder of a Ray of our own: made for one driver, held by it, and cleared by the next one if that driver was killed.

Nobody is left to end Ray's processes and to remove the folder then: two agents of Ray's stay for a minute, the folder for ever. A
driver holds a lock on a note in its folder as long as it lives; the kernel gives it up with the process, also in another container,
so whoever gets the lock knows that the driver is dead. Knows processes and folders; does not know Ray's interface.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_PREFIX = "scoring-"
_NOTE, _RAY = "driver.json", "r"
_LONGEST_PLACE = 40  # characters: Ray puts sockets below, and socket paths have 107
_REMOVALS = 5  # tries
_END_S = 3.0  # for processes to go


@dataclass(frozen=True)
class Cleared:
    """What dead drivers had left behind, and is gone now."""

    folders: int = 0
    processes: int = 0


class PrivateFolder:
    """Made with mode 0700. `path` is its absolute name; `ray` that of a folder in it, which Ray makes, and world-writable."""

    def __init__(self) -> None:
        """Raises: OSError."""
        self.path = tempfile.mkdtemp(prefix=_PREFIX, dir=_place())
        self.ray = os.path.join(self.path, _RAY)
        self._note = os.open(os.path.join(self.path, f".{_NOTE}"), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._note, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(self._note, json.dumps({"pid": os.getpid(), "started": time.time()}).encode())
        os.rename(os.path.join(self.path, f".{_NOTE}"), os.path.join(self.path, _NOTE))  # not before it is locked

    def family(self) -> list[psutil.Process]:
        """The processes below this one that belong to the Ray in the folder."""
        return _writing_in(self.path, psutil.Process().children(recursive=True))

    def close(self, family: list[psutil.Process]) -> None:
        """End what is left of the family, which may take some seconds to go by itself, and remove the folder."""
        _, left = psutil.wait_procs(family, timeout=_END_S)
        _end(left)
        for _ in range(_REMOVALS):  # who was started a moment before the end is not in the family, and writes on
            shutil.rmtree(self.path, ignore_errors=True)
            if not os.path.exists(self.path):
                break
            _end(_writing_in(self.path, psutil.process_iter()))
        os.close(self._note)


def clear() -> Cleared:
    """Remove the folders that drivers of this user left behind when they were killed, and end what is left of their processes.

    Folders of other users, of living drivers, and whatever has no note of ours are not touched.
    """
    folders = processes = 0
    for folder in _own_folders(_place()):
        with _abandoned(folder) as dead:
            if dead:
                family = _writing_in(str(folder), psutil.process_iter())
                _end(family)
                shutil.rmtree(folder, ignore_errors=True)
                folders, processes = folders + 1, processes + len(family)
    return Cleared(folders, processes)


def _place() -> str:
    above = tempfile.gettempdir()
    return above if len(above) < _LONGEST_PLACE else "/tmp"


def _own_folders(place: str) -> list[Path]:
    found = []
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                private = stat.S_ISDIR(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o700 and status.st_uid == os.geteuid()
                found += [Path(entry.path)] if private and entry.name.startswith(_PREFIX) else []
    return found


@contextlib.contextmanager
def _abandoned(folder: Path) -> Iterator[bool]:
    """Whether the driver of a folder is dead; its lock is ours meanwhile, so that two who clear do not meet."""
    try:
        note = os.open(folder / _NOTE, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:  # no note: it is being made, or somebody else's
        yield False
        return
    try:
        fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(note)


def _writing_in(folder: str, among: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Processes of this user that have a file of Ray's in the folder open to write.

    Each of Ray's has its log there, whatever it calls itself; nobody has who only looks.
    """
    below = f"{folder}/{_RAY}/"
    found = []
    for process in among:
        with contextlib.suppress(psutil.Error, OSError):
            ours = process.uids().real == os.getuid()
            if ours and any(file.mode != "r" and file.path.startswith(below) for file in process.open_files()):
                found.append(process)
    return found


def _end(processes: list[psutil.Process]) -> None:
    for one in processes:
        with contextlib.suppress(psutil.Error):
            one.kill()
    psutil.wait_procs(processes, timeout=_END_S)
