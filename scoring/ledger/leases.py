"""Who may work on what now, so that two do not do the same: one object for each generation of a lease, created by put-if-absent.

    control/leases/<digest of the name>-00001.json      {"holder": id of a presence, "name": …}

A lease counts while its holder is present and alive. Of those who find it free, one creates the next generation. A lease that is
wrong costs work, never rows: whether something is published is decided by its manifest.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from scoring.errors import StoreError
from scoring.stores import Store
from scoring.types import canonical, digest

ROOT = "control/leases"


@dataclass(frozen=True)
class Lease:
    """`holder` is "" where the object cannot be read: its writer has no claim that anybody could check."""

    generation: int
    holder: str


def next_generation(found: Sequence[Lease], me: str, alive: Callable[[str], bool]) -> int | None:
    """The decision, without I/O: the generation to create, None where somebody else who is alive has the newest.

    One's own newest lease is answered with its generation: creating it again is lost, and harmless.
    """
    if not found:
        return 1
    newest = max(found, key=lambda lease: lease.generation)
    if newest.holder == me:
        return newest.generation
    return None if newest.holder and alive(newest.holder) else newest.generation + 1


class Leases:
    """Those of one holder; for several threads. `alive` says whether another holder is, by its id."""

    def __init__(self, store: Store, me: str, alive: Callable[[], Collection[str]]) -> None:
        self._store, self._me, self._alive = store, me, alive
        self._mine: dict[str, str] = {}
        self._lock = threading.Lock()

    def claim(self, name: str) -> bool:
        """Whether it is ours now. Raises: StoreError, OSError."""
        stem = f"{ROOT}/{digest(name)[:24]}-"
        found = {key: self._read(key) for key in self._store.list(ROOT) if key.startswith(stem)}
        living = set(self._alive()) if any(lease.holder != self._me for lease in found.values()) else set()
        wanted = next_generation(list(found.values()), self._me, living.__contains__)
        if wanted is None:
            return False
        key = f"{stem}{wanted:05d}.json"
        ours = key in found or self._store.put(key, canonical({"holder": self._me, "name": name}))
        if ours:
            with self._lock:
                self._mine[name] = key
            for old in found.keys() - {key}:  # of holders who are dead
                self._store.remove(old)
        return ours

    def release(self, name: str) -> None:
        with self._lock:
            key = self._mine.pop(name, None)
        if key is not None:
            with suppress(StoreError, OSError):  # it counts no longer than its holder is there
                self._store.remove(key)

    def release_all(self) -> None:
        for name in list(self._mine):
            self.release(name)

    def sweep(self) -> None:
        """Remove what the dead left. Only where nobody else is present. Raises: StoreError, OSError."""
        for key in self._store.list(ROOT):
            if key not in self._mine.values():
                self._store.remove(key)

    def _read(self, key: str) -> Lease:
        generation = int(key.rsplit("-", 1)[1].removesuffix(".json"))
        try:
            return Lease(generation, str(json.loads(self._store.get(key))["holder"]))
        except (StoreError, OSError, ValueError, KeyError, TypeError):
            return Lease(generation, "")
