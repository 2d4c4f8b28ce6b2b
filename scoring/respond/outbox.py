"""Messages on their way: one complete file each in `<workspace>/outbox/<receiver>/`, from before the first try until delivered.

A message has one id however often it is made, so that making it again, or delivering it twice after a crash, changes nothing for a
receiver that goes by ids. Names sort in the order in which a receiver should get them. No address and no secret stands in a file:
who the receiver is, today's settings say.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass

from scoring.stores import Store
from scoring.stores.names import MissingError

FOLDER = "outbox"
UNTOLD = "untold"  # no receiver: names of runs of which nobody has been told yet
_DAY_S = 86_400.0


@dataclass(frozen=True)
class Message:
    """`to` names a receiver, `id` is [A-Za-z0-9_.-]+ and sorts by time; `body` is sent as it is, not before `after` (ISO 8601)."""

    to: str
    id: str
    body: str
    content_type: str = "application/json"
    after: str = ""

    @property
    def key(self) -> str:
        return f"{FOLDER}/{self.to}/{self.id}.json"


@dataclass(frozen=True)
class GivenUp:
    """A message that was removed undelivered, or (`to` is UNTOLD) a run that nobody will be told of any more; `why` in words."""

    to: str
    id: str
    why: str


@dataclass(frozen=True)
class _File:
    key: str
    bytes: int
    kept: float  # seconds since 1970; 0: it does not say

    def given_up(self, why: str) -> GivenUp:
        _, to, name = self.key.split("/", 2)
        return GivenUp(to, name.removesuffix(".json"), why)


class Outbox:
    """Raises StoreError or OSError, as the store does."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def keep(self, message: Message) -> None:
        """A later message of the same id takes the place of an earlier one."""
        data = json.dumps(asdict(message) | {"kept": time.time()}, sort_keys=True).encode()
        if not self._store.put(message.key, data):
            self._store.replace(message.key, data)

    def remove(self, message: Message) -> None:
        self._store.remove(message.key)

    def waiting(self, receiver: str) -> Iterator[Message]:
        """In the order of their ids. A file that is no message is left alone: somebody put it there."""
        for key in self._store.list(f"{FOLDER}/{receiver}"):
            try:
                raw = json.loads(self._store.get(key))
                message = Message(**{name: value for name, value in raw.items() if name != "kept"})
            except (ValueError, TypeError, AttributeError, MissingError):
                continue
            if message.key == key:
                yield message

    def mark(self, run_id: str) -> None:
        """Until it is unmarked, every later run tries to tell of this one."""
        self._store.put(f"{FOLDER}/{UNTOLD}/{run_id}.json", json.dumps({"run_id": run_id, "kept": time.time()}).encode())

    def unmark(self, run_id: str) -> None:
        self._store.remove(f"{FOLDER}/{UNTOLD}/{run_id}.json")

    def untold(self) -> list[str]:
        """Runs of which not everybody has been told, or kept for to be told."""
        return [key.rsplit("/", 1)[1].removesuffix(".json") for key in self._store.list(f"{FOLDER}/{UNTOLD}")]

    def counts(self) -> dict[str, int]:
        """How many messages wait, by receiver."""
        receivers = [name for name in self._store.folders(FOLDER) if name != UNTOLD]
        found = {name: sum(1 for _ in self._store.list(f"{FOLDER}/{name}")) for name in receivers}
        return {name: count for name, count in found.items() if count}

    def trim(self, max_bytes: int, max_days: float, now: float) -> Iterator[GivenUp]:
        """Remove what has waited for more than `max_days` at `now` (seconds since 1970), then the oldest until the rest has no more
        than `max_bytes`; also of receivers that are not set any more.
        """
        files = sorted(self._files(), key=lambda file: (file.kept, file.key))
        total = sum(file.bytes for file in files)
        for file in files:
            old = bool(file.kept) and now - file.kept > max_days * _DAY_S
            if old or total > max_bytes:
                self._store.remove(file.key)
                total -= file.bytes
                yield file.given_up(
                    f"it waited for more than {max_days:g} days" if old else f"more than {max_bytes:,} bytes waited"
                )

    def _files(self) -> Iterator[_File]:
        """Messages and marks; nothing that somebody else put there."""
        for key in self._store.list(FOLDER):
            with suppress(MissingError, ValueError, TypeError, KeyError):
                data = self._store.get(key)
                raw = json.loads(data)
                to, name = (UNTOLD, raw["run_id"]) if key.startswith(f"{FOLDER}/{UNTOLD}/") else (raw["to"], raw["id"])
                if key == f"{FOLDER}/{to}/{name}.json":
                    yield _File(key, len(data), float(raw.get("kept", 0.0)))
