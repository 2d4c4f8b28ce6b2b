"""The ledger: hash-chained entries, one for each publication or decision; tampering, loss and re-ordering show.

Entry n is ledger/<n>.json, created by put-if-absent: RFC 8785 canonical JSON with `prev`, the hash of the entry before, and `hash`,
SHA-256 over `prev` and the entry without its hash. Entries cut off at the end do not show in the chain itself: its head is kept in
a second place (control/ledger-head.json), and in every manifest and run record. Holds no row and no personal value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import rfc8785

from scoring.errors import StoreError
from scoring.ledger.actor import actor as user
from scoring.stores import Store
from scoring.stores.names import MissingError

GENESIS = "0" * 64
HEAD = "control/ledger-head.json"


@dataclass(frozen=True)
class Verdict:
    """`broken` is the first entry that does not follow from the one before, or is not there any more; None in a whole chain.

    `head` is the last good hash, `why` says what is broken, `note` what the next entry will mend.
    """

    entries: int
    broken: int | None
    head: str = GENESIS
    why: str = ""
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.broken is None


class Ledger:
    """Meant for one writer at a time, the holder of the workspace lock; a second one cannot break the chain, only wait its turn.

    `actor` is who runs this process, if nobody else is named.
    Raises: StoreError: an entry cannot be read, or entries that were there are not.
    """

    def __init__(self, store: Store, actor: str | None = None) -> None:
        self._store, self._actor = store, actor or user()
        self._said: set[str] = set()
        self._next, self._head = 1, GENESIS
        kept, entries = _kept(store), self._follow()  # in this order: another writer may add to both
        if kept is not None and kept.seq and (kept.seq, kept.hash) not in entries:
            raise StoreError(
                f"{store.root}: {HEAD} knows entries of the ledger that are gone or others. Nothing is added to a broken ledger; "
                "see `scoring verify`."
            )

    @property
    def head(self) -> dict[str, Any]:
        """{seq, hash} of the newest entry; 0 and zeros where there is none."""
        return {"seq": self._next - 1, "hash": self._head}

    def said(self, once: str) -> bool:
        return once in self._said

    def append(self, kind: str, subject: str, once: str, payload: dict[str, Any]) -> bool:
        """Add an entry unless `once` has been said already (a resumed run repeats itself). Returns whether it was added."""
        while once not in self._said:
            said = {"kind": kind, "run_id": str(payload.get("run_id", "")), "subject": subject, "once": once, "payload": payload}
            now = datetime.now(UTC).isoformat(timespec="seconds")
            entry: dict[str, Any] = {"seq": self._next, "ts": now, "actor": self._actor, "prev": self._head, **said}
            if self._store.put(_name(self._next), rfc8785.dumps(entry | {"hash": _hash(entry)})):
                self._said.add(once)
                self._head, self._next = _hash(entry), self._next + 1
                self._store.replace(HEAD, rfc8785.dumps(self.head))
                return True
            self._come_after()  # another writer was first
        return False

    def catch_up(self, said: Iterable[tuple[str, str, str, dict[str, Any]]]) -> int:
        """Add what a crash kept from being said, of (kind, subject, once, payload); returns how many entries were missing."""
        return sum(self.append(*one) for one in said)

    def _come_after(self) -> None:
        """Take in the entries that others added; those before them were read already."""
        while self._store.exists(_name(self._next)):
            entry = _parsed(self._store, _name(self._next))
            self._said.add(entry["once"])
            self._next, self._head = entry["seq"] + 1, entry["hash"]

    def _follow(self) -> set[tuple[int, str]]:
        """Read it all; returns (seq, hash) of every entry."""
        entries = [_parsed(self._store, key) for key in self._store.list("ledger")]
        self._said = {entry["once"] for entry in entries}
        if entries:
            self._next, self._head = entries[-1]["seq"] + 1, entries[-1]["hash"]
        return {(entry["seq"], entry["hash"]) for entry in entries}


def verify(store: Store, see: Callable[[dict[str, Any]], None] = lambda entry: None) -> Verdict:
    """Walk the chain; `see` is handed each sound entry, in order.

    The head that is kept apart may be behind (a crash, or another writer), never ahead and never another.
    """
    kept, head, count = _kept(store), GENESIS, 0
    for count, key in enumerate(store.list("ledger"), start=1):
        entry = _sound(store.get(key), key, count, head)
        if entry is None:
            return Verdict(count, count, head, f"entry {count} does not follow from the one before")
        head = entry["hash"]
        if kept is not None and kept.seq == count and kept.hash != head:
            return Verdict(count, count, head, f"entry {count} is not the one that {HEAD} knows")
        see(entry)
    if kept is not None and kept.seq > count:
        return Verdict(count, count + 1, head, f"entries {count + 1} to {kept.seq} are gone: {HEAD} knows of them")
    if (kept is None and count > 1) or (kept is not None and not kept.seq):
        return Verdict(count, count + 1, head, f"{HEAD} is missing or damaged: entries cut off at the end would not show")
    behind = count and (kept is None or kept.seq < count)
    return Verdict(count, None, head, note=f"{HEAD} is behind: the next entry mends it" if behind else "")


@dataclass(frozen=True)
class _Head:
    """The head that is kept apart; seq is 0 where it cannot be read."""

    seq: int
    hash: str


def _kept(store: Store) -> _Head | None:
    """None where there is none yet."""
    try:
        line = store.get(HEAD)
    except MissingError:
        return None
    try:
        found = json.loads(line)
        whole = rfc8785.dumps(found) == line and type(found["seq"]) is int and found["seq"] > 0
        return _Head(found["seq"], str(found["hash"])) if whole else _Head(0, "")
    except (ValueError, KeyError, TypeError):
        return _Head(0, "")


def _sound(line: bytes, key: str, seq: int, prev: str) -> dict[str, Any] | None:
    """An entry, or None if it is not what it was."""
    try:
        entry: dict[str, Any] = json.loads(line)
        claimed = entry.pop("hash")
        whole = rfc8785.dumps(entry | {"hash": claimed}) == line and claimed == _hash(entry)
        sound = whole and entry["prev"] == prev and entry["seq"] == seq and key == _name(seq)
        return entry | {"hash": claimed} if sound else None
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
