"""The ledger: its entries, the newest first, and whether the chain holds. It is walked beside the pages, never within one."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from scoring.errors import ScoringError, bug
from scoring.ledger.chain import verify
from scoring.respond.manual import clean
from scoring.respond.report.words import name
from scoring.respond.ui.shelf import Damaged, Shelf, table, text, whole
from scoring.stores import Store

ROOT = "ledger"
PAGE = 50
_LEAST_S, _TIMES = 10.0, 20.0  # between two walks: at least, and how many times what one takes
_PATIENCE_S = 0.25  # that a page waits for a walk
_SAID = ("version", "reason", "by", "rows", "failed", "counts", "state", "model", "column")
_LONGEST = 300


@dataclass(frozen=True)
class Entry:
    """`said` are facts of the payload in words."""

    seq: int
    when: str
    who: str
    kind: str
    subject: str
    run_id: str
    said: str
    hash: str


@dataclass(frozen=True)
class Checked:
    """`ok` None: it is being walked for the first time. `when` is UTC, ISO 8601."""

    ok: bool | None
    entries: int = 0
    why: str = ""
    when: str = ""


class Chain:
    """The verdict on a ledger; walked again in a thread when it is old and somebody asks."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._found, self._next = Checked(None), 0.0
        self._walking: threading.Event | None = None

    def checked(self) -> Checked:
        with self._lock:
            if self._walking is None and time.monotonic() >= self._next:
                self._walking = threading.Event()
                threading.Thread(target=self._walk, args=(self._walking,), name="ledger", daemon=True).start()
            walking = self._walking
        if walking is not None:
            walking.wait(_PATIENCE_S)
        return self._found

    def _walk(self, done: threading.Event) -> None:
        began = time.monotonic()
        try:
            verdict = verify(self._store)
            ok, entries, why = verdict.ok, verdict.entries, verdict.why or verdict.note
        except Exception as error:  # whatever it is, it is no end of the walk: the page says it
            ok, entries, why = False, 0, clean(str(error) if isinstance(error, (ScoringError, OSError)) else bug(error))
        ended = time.monotonic()
        with self._lock:
            self._found = Checked(ok, entries, why, datetime.now(UTC).isoformat(timespec="seconds"))
            self._next = ended + max(_LEAST_S, _TIMES * (ended - began))
            self._walking = None
        done.set()


def entries(shelf: Shelf, page: int) -> tuple[list[Entry | Damaged], int]:
    """A page of entries, the first page being 1, and how many entries there are."""
    names = shelf.names(ROOT)[::-1]
    mine = names[(page - 1) * PAGE : page * PAGE]
    found = shelf.many(shelf.changing, mine, _entry)  # not kept as lasting: what somebody changed should show
    return [one for one in found if one is not None], len(names)


def _entry(raw: Any) -> Entry:
    payload = table(raw["payload"])
    said = "; ".join(f"{word} {_plain(payload[word])}" for word in _SAID if payload.get(word) not in (None, "", [], {}))
    return Entry(
        whole(raw["seq"]),
        text(raw["ts"]),
        name(text(raw["actor"])),
        name(text(raw["kind"])),
        name(text(raw["subject"])),
        text(raw["run_id"]),
        name(said, _LONGEST),
        text(raw["hash"])[:12],
    )


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {inner}" for key, inner in value.items() if inner and not isinstance(inner, (dict, list)))
    if isinstance(value, list):
        return ", ".join(_plain(one) if not isinstance(one, dict) else str(one.get("name", "")) for one in value[:5])
    return f"{value:,}" if isinstance(value, int) else str(value)
