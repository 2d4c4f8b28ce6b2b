"""Messages on their way: one complete file each in `<workspace>/outbox/<receiver>/`, from before the first try until delivered.

A message has one id however often it is made, so that making it again, or delivering it twice after a crash, changes nothing for a
receiver that goes by ids. Names sort in the order in which a receiver should get them. No address and no secret stands in a file:
who the receiver is, today's settings say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from scoring.stores import Store

FOLDER = "outbox"
UNTOLD = "untold"  # no receiver: names of runs of which nobody has been told yet


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


class Outbox:
    """Raises StoreError or OSError, as the store does."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def keep(self, message: Message) -> None:
        """A later message of the same id takes the place of an earlier one."""
        data = json.dumps(asdict(message), sort_keys=True).encode()
        if not self._store.put(message.key, data):
            self._store.replace(message.key, data)

    def remove(self, message: Message) -> None:
        self._store.remove(message.key)

    def waiting(self, receiver: str) -> Iterator[Message]:
        """In the order of their ids. A file that is no message is left alone: somebody put it there."""
        for key in self._store.list(f"{FOLDER}/{receiver}"):
            try:
                message = Message(**json.loads(self._store.get(key)))
            except (ValueError, TypeError):
                continue
            if message.key == key:
                yield message

    def mark(self, run_id: str) -> None:
        """Until it is unmarked, every later run tries to tell of this one."""
        self._store.put(f"{FOLDER}/{UNTOLD}/{run_id}.json", json.dumps({"run_id": run_id}).encode())

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
