"""The ledger: hash-chained entries, one for each publication or decision; tampering, loss and re-ordering show.

Entry n is ledger/<n>.json, created by put-if-absent: RFC 8785 canonical JSON with `prev`, the hash of the entry before, and `hash`,
SHA-256 over `prev` and the entry without its hash. Entries cut off at the end do not show in the chain itself: keep the head of
`verify` elsewhere, or compare with the manifests. Holds no row and no personal value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import rfc8785

from scoring.errors import StoreError
from scoring.stores import Store

GENESIS = "0" * 64


@dataclass(frozen=True)
class Verdict:
    """`broken` is the first entry that does not follow from the one before, None in a whole chain; `head` is the last good hash."""

    entries: int
    broken: int | None
    head: str = GENESIS

    @property
    def ok(self) -> bool:
        return self.broken is None


class Ledger:
    """Meant for one writer at a time, the holder of the workspace lock; a second one cannot break the chain, only wait its turn.

    Raises: StoreError: an entry cannot be read.
    """

    def __init__(self, store: Store, actor: str = "scoring") -> None:
        self._store, self._actor = store, actor
        self._said: set[str] = set()
        self._next, self._head = 1, GENESIS
        self._follow()

    def append(self, kind: str, subject: str, once: str, payload: dict[str, Any]) -> bool:
        """Add an entry unless `once` has been said already (a resumed run repeats itself). Returns whether it was added."""
        while once not in self._said:
            said = {"kind": kind, "run_id": str(payload.get("run_id", "")), "subject": subject, "once": once, "payload": payload}
            now = datetime.now(UTC).isoformat(timespec="seconds")
            entry: dict[str, Any] = {"seq": self._next, "ts": now, "actor": self._actor, "prev": self._head, **said}
            if self._store.put(_name(self._next), rfc8785.dumps(entry | {"hash": _hash(entry)})):
                self._said.add(once)
                self._head, self._next = _hash(entry), self._next + 1
                return True
            self._follow()  # another writer was first: come after its entry
        return False

    def catch_up(self, said: Iterable[tuple[str, str, str, dict[str, Any]]]) -> int:
        """Add what a crash kept from being said, of (kind, subject, once, payload); returns how many entries were missing."""
        return sum(self.append(*one) for one in said)

    def _follow(self) -> None:
        entries = [_parsed(self._store, key) for key in self._store.list("ledger")]
        self._said = {entry["once"] for entry in entries}
        if entries:
            self._next, self._head = entries[-1]["seq"] + 1, entries[-1]["hash"]


def verify(store: Store) -> Verdict:
    """Walk the chain."""
    head, count = GENESIS, 0
    for count, key in enumerate(store.list("ledger"), start=1):
        found = _sound(store.get(key), key, count, head)
        if found is None:
            return Verdict(count, count, head)
        head = found
    return Verdict(count, None, head)


def _sound(line: bytes, key: str, seq: int, prev: str) -> str | None:
    """The hash of an entry, or None if it is not what it was."""
    try:
        entry = json.loads(line)
        claimed = entry.pop("hash")
        whole = rfc8785.dumps(entry | {"hash": claimed}) == line and claimed == _hash(entry)
        return str(claimed) if whole and entry["prev"] == prev and entry["seq"] == seq and key == _name(seq) else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _parsed(store: Store, key: str) -> dict[str, Any]:
    try:
        entry: dict[str, Any] = json.loads(store.get(key))
        return {"seq": entry["seq"], "once": entry["once"], "hash": entry["hash"]}
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{store.root}: {key} is damaged ({error}). Nothing is added to a broken ledger; see `scoring verify`."
        ) from None


def _hash(entry: dict[str, Any]) -> str:
    return hashlib.sha256(str(entry["prev"]).encode() + rfc8785.dumps(entry)).hexdigest()


def _name(seq: int) -> str:
    return f"ledger/{seq:08d}.json"
