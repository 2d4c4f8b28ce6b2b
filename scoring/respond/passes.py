"""What a teller remembers from one pass of a run to the next: one file a pass, which holds the state after it.

    <folder>/00000012-20260104010000-<run id>.json

The state of a pass follows from the one before it and the pass alone, so that a pass that is told again is told the same. A file
that is damaged is made again from the record of its run; where there is none at all, the last runs of the workspace are gone
through. Numbers give the order: clocks of machines differ, and two passes may begin in one second.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from scoring.errors import StoreError
from scoring.respond.story import Story, tell
from scoring.stores import Store

S = TypeVar("S")
DAMAGED = (ValueError, TypeError, KeyError, AttributeError, StoreError, OSError)
_NAME = re.compile(r"(\d{8})-(\d{14})-(.*)\.json")
_KEPT = 50  # files
_GONE_THROUGH = 20  # runs, where no state is left


@dataclass(frozen=True)
class Pass:
    """One pass of a run: a run that was stopped and goes on is another. `when` it ended, `moment` when it began, as 14 digits.

    `settled`: it found that everything is published, and did nothing.
    """

    moment: str
    run_id: str
    when: datetime
    settled: bool = False

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Pass:
        """A pass that did nothing has no times of its own: it ends now."""
        now = datetime.now(UTC).replace(microsecond=0)
        when = datetime.fromisoformat(record["finished"]) if record["finished"] else now
        moment = re.sub(r"\D", "", record["started"] or now.isoformat())[:14]
        return cls(moment, str(record["run_id"]), when, not record["started"])

    @property
    def id(self) -> str:
        """Sorts by time; a message may be named after it."""
        return f"{self.moment}-{self.run_id or 'none'}{'-settled' if self.settled else ''}"


@dataclass(frozen=True)
class _Entry:
    seq: int
    moment: str
    run_id: str
    key: str


class Passes(Generic[S]):
    """`load` makes a state of plain values and raises one of DAMAGED for anything else; `relive` is the step of an earlier pass."""

    def __init__(
        self, store: Store, folder: str, name: str, load: Callable[[Any], S], relive: Callable[[S, Pass, Story], S]
    ) -> None:
        self._store, self._folder, self._name, self._load, self._relive = store, folder, name, load, relive

    def newest(self) -> S | None:
        """The state after the last pass whose file is sound. Raises: StoreError, OSError: the store cannot be listed."""
        found = (self._state(entry) for entry in reversed(self._entries()))
        return next((state for state in found if state is not None), None)

    def before(self, own: Pass, empty: S, fresh: Callable[[S], S]) -> S | None:
        """The state before this pass; None if a later one was told already: what it has to say is no news.

        Where no file was ever written, `fresh` says what becomes of a state that was made of earlier runs. Raises: as `newest`.
        """
        entries = self._entries()
        mine = [e for e in entries if self._is(e, own)]
        earlier = [e for e in entries if not mine or e.seq < mine[0].seq]
        if (mine and mine[0] is not entries[-1]) or (not mine and any(e.moment > own.moment for e in entries)):
            return None
        return self._read(earlier, empty) if earlier else fresh(self._gone_through(own, empty))

    def keep(self, own: Pass, state: Any) -> None:
        """Raises: StoreError, OSError."""
        entries = self._entries()
        mine = next((e for e in entries if self._is(e, own)), None)
        key = mine.key if mine else self._key(entries[-1].seq + 1 if entries else 1, own)
        self._store.replace(key, json.dumps(state, sort_keys=True).encode())
        for old in entries[:-_KEPT]:
            self._store.remove(old.key)

    def _read(self, earlier: list[_Entry], empty: S) -> S:
        """From the last file that is sound; what was damaged after it is made again, as far as its run has left a record."""
        damaged: list[_Entry] = []
        state = None
        for entry in reversed(earlier):
            state = self._state(entry)
            if state is not None:
                break
            damaged.insert(0, entry)
        state = empty if state is None else state
        for entry in damaged:
            state = self._again(state, entry.run_id, lambda own, entry=entry: self._is(entry, own))  # type: ignore[misc]
        return state

    def _gone_through(self, own: Pass, empty: S) -> S:
        """Names of runs begin with their time, unless somebody chose them."""
        state, runs = empty, []
        for name in self._store.folders("runs")[-_GONE_THROUGH:]:
            with suppress(*DAMAGED):
                runs.append((json.loads(self._store.get(f"runs/{name}/record.json"))["started"], name))
        for _, name in sorted(runs):
            state = self._again(state, name, lambda one: one.moment < own.moment and not one.settled)
        return state

    def _again(self, state: S, run_id: str, wanted: Callable[[Pass], bool]) -> S:
        with suppress(*DAMAGED):
            record = json.loads(self._store.get(f"runs/{run_id}/record.json"))
            if wanted(one := Pass.of(record)):
                return self._relive(state, one, tell(self._store, self._name, record))
        return state

    def _state(self, entry: _Entry) -> S | None:
        try:
            return self._load(json.loads(self._store.get(entry.key)))
        except DAMAGED:
            return None

    def _entries(self) -> list[_Entry]:
        """In order. Other files are somebody else's."""
        found = []
        for key in self._store.list(self._folder):
            if match := _NAME.fullmatch(key.removeprefix(f"{self._folder}/")):
                found.append(_Entry(int(match[1]), match[2], match[3], key))
        return sorted(found, key=lambda e: e.seq)

    def _is(self, entry: _Entry, own: Pass) -> bool:
        return (entry.moment, entry.run_id) == (own.moment, own.run_id)

    def _key(self, seq: int, own: Pass) -> str:
        return f"{self._folder}/{seq:08d}-{own.moment}-{own.run_id}.json"
