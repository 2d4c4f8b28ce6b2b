"""Who works in a workspace now: an object for each, touched while it lives. Whoever is dead counts for nothing.

Efficiency and manners, never correctness: what is published twice or not is decided by put-if-absent of a manifest. A holder on the
machine of whoever asks is dead when its process is gone, at once; any other when it was not touched for `EXPIRY_S`.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from scoring.errors import StoreError
from scoring.stores import Store
from scoring.types import canonical

Role = Literal["live", "backfill"]
ROOT = "control/present"
EXPIRY_S, BEAT_S, LOOK_S = 120.0, 20.0, 0.5
_TRIES = 3  # a live run may sweep the spool just when this is written


@dataclass(frozen=True)
class Holder:
    """`space` is the machine as far as process numbers mean the same there, "" if that is not known; `started` tells a process
    from a later one of its number; `beat` is seconds since 1970 by the holder's clock.
    """

    id: str
    role: Role
    what: str
    host: str
    space: str
    pid: int
    started: str
    beat: float

    @property
    def name(self) -> str:
        return f"{ROOT}/{self.id}.json"

    def said(self) -> str:
        return f"{self.what} (pid {self.pid} on {self.host})"


def myself(role: Role, what: str, now: float) -> Holder:
    pid = os.getpid()
    return Holder(secrets.token_hex(8), role, what, socket.gethostname(), process_space(), pid, process_start(pid), now)


def living(one: Holder, now: float, space: str, started: Callable[[int], str]) -> bool:
    """Whether a holder is to be reckoned with. `space` is that of whoever asks, `started` looks a process up there, "" for none."""
    if one.space and one.space == space:
        return bool(one.started) and started(one.pid) == one.started
    return now - one.beat < EXPIRY_S


def process_space() -> str:
    """This boot of this machine and its process numbers; "" where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def process_start(pid: int) -> str:
    """When a process started, in ticks since boot; "" if there is none, or only its remains. See proc(5), stat."""
    try:
        found = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if found[0] in "ZXx" else found[19]


class Presence:
    """One's own place among those who are present. `enter` and `leave` may alternate; a thread touches it in between.

    `clock` is seconds since 1970.
    """

    def __init__(self, store: Store, role: Role, what: str, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self.me = myself(role, what, clock())
        self.live_waits = threading.Event()  # somebody live is here, or wants to be
        self._away = threading.Event()
        self._thread: threading.Thread | None = None

    def enter(self) -> None:
        """Say that one is here; it holds when this returns. Raises: StoreError, OSError: the store fails."""
        for n in range(_TRIES):
            try:
                self._touch()
                break
            except OSError:
                if n == _TRIES - 1:
                    raise
        self._away.clear()
        self._thread = threading.Thread(target=self._stay, name="presence", daemon=True)
        self._thread.start()

    def leave(self) -> None:
        if self._thread is not None:
            self._away.set()
            self._thread.join()
            self._thread = None
        with suppress(StoreError, OSError):
            self._store.remove(self.me.name)

    def others(self, role: Role | None = None) -> list[Holder]:
        """The living, without oneself. What the dead left is removed. Raises: StoreError, OSError."""
        found = [holder for key in self._store.list(ROOT) if (holder := _read(self._store, key)) and holder.id != self.me.id]
        alive = [one for one in found if living(one, self._clock(), self.me.space, process_start)]
        for one in found:
            if one not in alive:
                self._store.remove(one.name)
        return [one for one in alive if role in (None, one.role)]

    def _touch(self) -> None:
        self.me = replace(self.me, beat=self._clock())
        self._store.replace(self.me.name, canonical(asdict(self.me)))

    def _stay(self) -> None:
        touched = self._clock()
        while not self._away.wait(LOOK_S):
            with suppress(StoreError, OSError):  # the next look may get through
                if self._clock() - touched >= BEAT_S:
                    self._touch()
                    touched = self._clock()
                if self.me.role == "backfill":
                    (self.live_waits.set if self.others("live") else self.live_waits.clear)()


def _read(store: Store, key: str) -> Holder | None:
    """None: it has gone, or is no holder's."""
    try:
        return Holder(**json.loads(store.get(key)))
    except (StoreError, OSError, ValueError, TypeError):
        return None
