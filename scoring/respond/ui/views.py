"""What each page shows, gathered from a workspace. Reads are bounded: newest runs, the months of a page, one partition."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from scoring.errors import ScoringError
from scoring.respond.manual import clean
from scoring.respond.ui import calendar, chain, drifts, losses, partitions, runs
from scoring.respond.ui.calendar import Calendar
from scoring.respond.ui.chain import Chain
from scoring.respond.ui.losses import Look, Lost
from scoring.respond.ui.partitions import Partitions, Published
from scoring.respond.ui.runs import Run
from scoring.respond.ui.shelf import Shelf
from scoring.stores import Store

RUNS, PARTS = 25, 100  # of a page
_FEW_RUNS, _FEW_MONTHS = 8, 3
_MOST_LOOKED_AT = 200  # partitions whose quarantine is remembered
Shown = dict[str, Any]


class MissingPageError(Exception):
    """There is no such run, partition or page."""


@dataclass
class Place:
    """A workspace that is looked at; `base` is where its pages are."""

    name: str
    base: str
    store: Store
    look: Look
    shelf: Shelf = field(init=False)
    chain: Chain = field(init=False)

    def __post_init__(self) -> None:
        self.shelf, self.chain = Shelf(self.store), Chain(self.store)
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, int], Lost] = OrderedDict()

    def newest(self, now: datetime) -> list[Run]:
        return runs.load(self.shelf, runs.ids(self.shelf)[:RUNS], now)

    def lost(self, one: Published) -> Lost | str:
        """Its quarantine, or why it cannot be read."""
        with self._lock:
            if (found := self._seen.get((one.key, one.version))) is not None:
                return found
        try:
            found = self.look(one)
        except (ScoringError, OSError, pa.ArrowException, ValueError, KeyError) as error:
            return clean(" ".join(str(error).split()), 200)
        with self._lock:
            self._seen[one.key, one.version] = found
            while len(self._seen) > _MOST_LOOKED_AT:
                self._seen.popitem(last=False)
        return found


def utc() -> datetime:
    return datetime.now(UTC)


def live(place: Place, run_id: str = "") -> Shown:
    """How far runs are, or one. Raises: MissingPageError: there is no such run."""
    now = utc()
    return _live([_run(place, run_id)] if run_id else place.newest(now)) | {"now": now}


def _live(some: Sequence[Run]) -> Shown:
    """Runs that go on, and what changes when one begins or ends."""
    going = [run for run in some if run.state == "running"]
    return {"going": going, "marks": " ".join(f"{run.id}:{run.state}" for run in some[:_FEW_RUNS])}


def overview(place: Place) -> Shown:
    now = utc()
    known = runs.ids(place.shelf)
    newest = runs.load(place.shelf, known[:RUNS], now)
    standing = Partitions(place.shelf, newest)
    made = calendar.make(standing.keys, "", standing.look)
    undated = [key for key in standing.keys if partitions.day(key) is None]
    shown = standing.look(sorted(undated)[:PARTS])
    recent = standing.look(sorted(standing.keys, key=partitions.order)[-drifts.MOST_PARTITIONS :])
    over = next((run for run in newest if run.state not in ("running", "begun", "silent")), None)
    return _live(newest) | {
        "runs": newest[:_FEW_RUNS],
        "many_runs": len(known),
        "last": over,
        "calendar": made,
        "months": made.months[:_FEW_MONTHS],
        "counts": _all_counts(made, shown),
        "many": len(standing.keys),
        "undated": shown,
        "drifts": drifts.make(place.shelf, recent),
        "lost": losses.rules(newest, ()),
        "checked": place.chain.checked(),
        "now": now,
    }


def runs_page(place: Place, page: int) -> Shown:
    now, known = utc(), runs.ids(place.shelf)
    mine = known[(page - 1) * RUNS : page * RUNS]
    _refuse(page, len(known), RUNS)
    return live(place) | {"runs": runs.load(place.shelf, mine, now), "many": len(known), **_pages(page, len(known), RUNS)}


def run_page(place: Place, run_id: str, page: int) -> Shown:
    run = _run(place, run_id)
    parts = sorted(run.ended.parts if run.ended else (), key=_gravity)
    _refuse(page, len(parts), PARTS)
    return {
        **_live([run]),
        "now": utc(),
        "run": run,
        "parts": parts[(page - 1) * PARTS : page * PARTS],
        "many": len(parts),
        "rules": losses.rules([run], ()),
        "report": place.store.exists(f"runs/{run_id}/report.html"),
        "held": [part.key for part in parts if part.status == "held"][:3],
        **_pages(page, len(parts), PARTS),
    }


def report(place: Place, run_id: str) -> bytes:
    """The page of a run, as it was written. Raises: MissingPageError."""
    _run(place, run_id)
    key = f"runs/{run_id}/report.html"
    if not place.store.exists(key):
        raise MissingPageError(f"Run {run_id} has no report yet: scoring report {run_id} workspace=… makes it.")
    return place.store.get(key)


def partitions_page(place: Place, until: str, page: int) -> Shown:
    now = utc()
    standing = Partitions(place.shelf, place.newest(now))
    made = calendar.make(standing.keys, until, standing.look)
    undated = sorted(key for key in standing.keys if partitions.day(key) is None)
    _refuse(page, len(undated), PARTS)
    shown = standing.look(undated[(page - 1) * PARTS : page * PARTS])
    more = {"calendar": made, "undated": shown, "many": len(standing.keys), "many_undated": len(undated)}
    return {"now": now, "looked": RUNS, **more, **_pages(page, len(undated), PARTS)}


def partition_page(place: Place, key: str) -> Shown:
    now = utc()
    newest = place.newest(now)
    standing = Partitions(place.shelf, newest)
    if key not in standing.keys:
        raise MissingPageError("There is no such partition in this workspace.")
    (one,) = standing.look([key])
    lost = place.lost(one.published) if one.published and one.published.quarantine else None
    same_day = sorted(other for other in standing.keys if partitions.day(other) == partitions.day(key) is not None)
    return {
        "now": now,
        "one": one,
        "lost": lost,
        "rules": losses.of(lost) if isinstance(lost, Lost) else [],
        "files": losses.files(lost) if isinstance(lost, Lost) else [],
        "versions": partitions.versions(place.shelf, key),
        "drifts": drifts.make(place.shelf, [one]),
        "same_day": [other for other in same_day if other != key][:PARTS],
    }


def drift_page(place: Place, page: int) -> Shown:
    """Page 1 is of the newest partitions, page 2 of those before them."""
    now = utc()
    standing = Partitions(place.shelf, place.newest(now))
    ordered, size = sorted(standing.keys, key=partitions.order), drifts.MOST_PARTITIONS
    _refuse(page, len(ordered), size)
    end = len(ordered) - (page - 1) * size
    shown = ordered[max(0, end - size) : end]
    found = drifts.make(place.shelf, standing.look(shown))
    return {"now": now, "drifts": found, "keys": shown, "many": len(ordered), **_pages(page, len(ordered), size)}


def quarantine_page(place: Place) -> Shown:
    now = utc()
    newest = place.newest(now)
    standing = Partitions(place.shelf, newest)
    keys = sorted(standing.keys, key=partitions.order)[-drifts.MOST_PARTITIONS * 2 :]
    shown = standing.look(keys)
    looked = [place.lost(one) for one in losses.to_look_at(shown)]
    return {
        "now": now,
        "rules": losses.rules(newest, [lost for lost in looked if isinstance(lost, Lost)]),
        "damage": [why for why in looked if isinstance(why, str)],
        "worst": losses.worst(shown),
        "many_runs": sum(run.ended is not None for run in newest),
        "many_keys": len(keys),
    }


def ledger_page(place: Place, page: int) -> Shown:
    entries, many = chain.entries(place.shelf, page)
    _refuse(page, many, chain.PAGE)
    return {"now": utc(), "entries": entries, "many": many, "checked": place.chain.checked(), **_pages(page, many, chain.PAGE)}


def _run(place: Place, run_id: str) -> Run:
    known = runs.NAME.fullmatch(run_id) and (run_id in place.shelf.folders("runs") or place.store.exists(f"runs/{run_id}/run.json"))
    if not known:
        raise MissingPageError("There is no such run in this workspace.")
    (run,) = runs.load(place.shelf, [run_id], utc())
    return run


def _gravity(part: runs.Part) -> tuple[int, int, str]:
    known = (*partitions.STATES, "skipped")
    return known.index(part.status) if part.status in known else 0, -part.rows["quarantined"], part.key


def _all_counts(made: Calendar, undated: Sequence[partitions.Standing]) -> Mapping[str, int]:
    return {s: made.counts.get(s, 0) + sum(one.state == s for one in undated) for s in partitions.STATES}


def _refuse(page: int, many: int, size: int) -> None:
    if page > 1 and (page - 1) * size >= many:
        raise MissingPageError(f"There is no page {page}.")


def _pages(page: int, many: int, size: int) -> Shown:
    return {"page": page, "pages": max(1, -(-many // size))}
