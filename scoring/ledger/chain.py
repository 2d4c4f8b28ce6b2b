"""The ledger: hash-chained entries, one for each publication or decision; tampering, loss and re-ordering show.

Entry n is ledger/<n>.json, created by put-if-absent: RFC 8785 canonical JSON whose `prev` is the SHA-256 of the entry before, byte
for byte. Holds no row and no personal value.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import rfc8785

from scoring.stores import Store

GENESIS = "0" * 64


@dataclass(frozen=True)
class Verdict:
    """`broken` is the first entry that does not follow from the one before, None when the chain is whole."""

    entries: int
    broken: int | None


class Ledger:
    """One writer at a time: the holder of the workspace lock."""

    def __init__(self, store: Store) -> None:
        self._store = store
        entries = [(key, store.get(key)) for key in store.list("ledger")]
        self._next = len(entries) + 1
        self._head = hashlib.sha256(entries[-1][1]).hexdigest() if entries else GENESIS
        self._said = {json.loads(line)["once"] for _, line in entries}

    def append(self, kind: str, subject: str, once: str, payload: dict[str, Any]) -> bool:
        """Add an entry unless `once` has been said already (a resumed run repeats itself). Returns whether it was added."""
        if once in self._said:
            return False
        now = datetime.now(UTC).isoformat(timespec="seconds")
        entry: dict[str, Any] = {"seq": self._next, "time": now, "kind": kind, "subject": subject}
        line = rfc8785.dumps(entry | {"once": once, "payload": payload, "prev": self._head})
        if not self._store.put(f"ledger/{self._next:08d}.json", line):
            self.__init__(self._store)  # type: ignore[misc]  # another writer was first: follow its entry
            return self.append(kind, subject, once, payload)
        self._said.add(once)
        self._head, self._next = hashlib.sha256(line).hexdigest(), self._next + 1
        return True


def verify(store: Store) -> Verdict:
    """Walk the chain."""
    head, count = GENESIS, 0
    for count, key in enumerate(store.list("ledger"), start=1):
        line = store.get(key)
        try:
            entry = json.loads(line)
            sound = entry["prev"] == head and entry["seq"] == count and key == f"ledger/{count:08d}.json"
            sound = sound and rfc8785.dumps(entry) == line
        except (ValueError, KeyError, TypeError):
            sound = False
        if not sound:
            return Verdict(count, count)
        head = hashlib.sha256(line).hexdigest()
    return Verdict(count, None)
