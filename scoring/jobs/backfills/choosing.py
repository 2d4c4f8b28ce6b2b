"""Which intervals of a range are due, and why; which model answers for each. Looks at the source, manifests and records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from scoring.engine.capacity import LanePlan
from scoring.errors import ConfigError
from scoring.jobs.backfills.bundles import Models
from scoring.jobs.backfills.request import Request
from scoring.jobs.preparation import Prepared, Published, checked, decided, fingerprinted, identify, not_ready, standing_of
from scoring.jobs.suppressing import Suppressed
from scoring.ledger import runs
from scoring.parts import part
from scoring.release import intervals
from scoring.release.intervals import Grain, of_key
from scoring.release.staleness import Standing, differs
from scoring.settings import Contract, Job, Ready
from scoring.sinks import held as holding
from scoring.sinks.publish import Identity, published
from scoring.sources.discover import Found, discover
from scoring.sources.slices import refuse_absent
from scoring.stores import Store
from scoring.types import Interval, Partition

Action = Literal["score", "keep", "wait", "later", "refuse", "none"]


@dataclass(frozen=True)
class Line:
    """A partition in its interval; `key` is "" for an interval without any. `why` says what differs from what is published.

    `action`: score; keep (not asked for, or done); wait (not ready); later (beyond a limit); refuse (no model); none (nothing to
    score). `reason` says why, or how the last attempt ended. `version` is the published one.
    """

    key: str
    interval: Interval
    state: str
    action: Action
    why: tuple[str, ...] = ()
    reason: str = ""
    version: int = 0
    bundle: str = ""


@dataclass(frozen=True)
class Group:
    """What one model is to score, in order."""

    job: Job
    prepared: Prepared


@dataclass(frozen=True)
class Chosen:
    """`lines` in the order of time."""

    grain: Grain
    lines: tuple[Line, ...]
    groups: tuple[Group, ...]


_Made = tuple[Identity, LanePlan, Suppressed, Contract]


class _Choice:
    """One look at a workspace and a source."""

    def __init__(self, job: Job, store: Store | None, request: Request) -> None:
        self._job, self._store, self._request = job, store, request
        self._found = discover(job.source, part("sources", job.source.kind).SUFFIXES)
        stood = {manifest.key: manifest for manifest in (published(store) if store else ())}
        asked = tuple(p for p in self._found.partitions if self._within(p.key))
        self._inputs = {p.key: p for p in (*self._found.partitions, *fingerprinted(job, asked, stood))}
        self._standing = standing_of(store, tuple(self._inputs.values()), stood)
        self._failed = _failures(store, self._standing) if store else {}
        self._models = Models(job, store, request)
        self._made: dict[str, _Made] = {}

    def _within(self, key: str) -> bool:
        """Whether the range has it: no other file need be read."""
        named = of_key(key, self._request.where)
        return named is not None and named[1].start < self._request.end and self._request.start < named[1].end

    def made(self) -> Chosen:
        grain = self._grain()
        span = intervals.asked(self._request.start, self._request.end, grain, self._request.where)
        lines = self._ready(list(self._all(span, self._by_start(grain))))
        lines = _capped([_answered(line) for line in lines], self._request)
        return Chosen(grain, tuple(lines), tuple(self._groups(lines)))

    def _grain(self) -> Grain:
        """Raises: ConfigError: the folders name no intervals, two sorts of them, or another sort than was asked for."""
        found = {named[0]: key for key in self._inputs if (named := of_key(key, self._request.where))}
        if not found:
            raise ConfigError(
                f"source.path: no folder below {self._job.source.path} names a day or an hour, and a backfill goes by them. "
                "Lay the data out as date=2026-01-31[/hour=05]; docs/backfill.md says how a table with a time column gets there."
            )
        if len(found) > 1:
            raise ConfigError(f"source.path: {found['day']} is a day and {found['hour']} an hour. Backfill a source of one sort.")
        (grain, key), wanted = next(iter(found.items())), self._request.grain
        if wanted not in (None, grain):
            raise ConfigError(
                f"grain={wanted}, but {key} is one {grain}, and that is what is published at once. Say grain={grain}."
            )
        return grain

    def _by_start(self, grain: Grain) -> dict[datetime, list[tuple[str, Interval]]]:
        """Partitions by the begin of their interval: those that have input, and those that are published."""
        found: dict[datetime, list[tuple[str, Interval]]] = {}
        for key in sorted({*self._inputs, *self._standing}):
            named = of_key(key, self._request.where)
            if named is not None and named[0] == grain:
                found.setdefault(named[1].start, []).append((key, named[1]))
        return found

    def _all(self, span: Sequence[Interval], by_start: Mapping[datetime, list[tuple[str, Interval]]]) -> Iterator[Line]:
        """An interval without anything is a gap; waited for if there are rules of readiness, or if the whole range is a gap."""
        ruled = self._job.source.ready != Ready()
        waits = ruled or not any(interval.start in by_start for interval in span)
        for interval in span:
            there = by_start.get(interval.start, [])
            yield from (self._line(key, interval) for key, _ in there)
            if not there:
                yield Line("", interval, "empty", "wait" if waits else "none", reason="no input yet" if waits else "no input")

    def _line(self, key: str, interval: Interval) -> Line:
        partition, stands = self._inputs.get(key), self._standing.get(key)
        bundle = self._models.of(key, interval) if partition else ""
        standing = self._stands(key, partition, stands, bundle)
        due = standing.due(self._request.which)
        reason = standing.failed if partition else "its input is gone"
        more = (standing.why, reason, standing.version, bundle)
        return Line(key, interval, standing.state, "score" if due else "keep", *more)

    def _stands(self, key: str, partition: Partition | None, published: Published | None, bundle: str) -> Standing:
        version, failed = published.manifest.version if published else 0, self._failed.get(key, "")
        if partition is None or published is None or not bundle:
            return Standing(version, (), failed, partition is not None)
        parts = self._identified(bundle)[0].parts
        return Standing(version, differs(published.manifest.parts, published.made_of, parts, partition.input_digest), failed)

    def _ready(self, lines: Sequence[Line]) -> list[Line]:
        due = [self._inputs[line.key] for line in lines if line.action == "score"]
        unready = not_ready(self._job, due, self._request.where)
        return [replace(line, action="wait", reason=unready[line.key]) if line.key in unready else line for line in lines]

    def _groups(self, lines: Sequence[Line]) -> Iterator[Group]:
        """By bundle, in the order in which they are first needed."""
        due = [line for line in lines if line.action == "score"]
        due = due[::-1] if self._request.order == "newest" else due
        for bundle in dict.fromkeys(line.bundle for line in due):
            identity, lanes, gone, contract = self._identified(bundle)
            todo = tuple(self._inputs[line.key] for line in due if line.bundle == bundle)
            job = _with(self._job, bundle)
            refuse_absent(todo[0], job.source)
            baseline = checked(job, contract, todo)
            decisions = {p.key: decided(p, self._standing.get(p.key), identity.parts) for p in todo}
            prepared = Prepared(identity, lanes, Found(todo, ()), todo, (), gone, contract, baseline, decisions)
            yield Group(replace(job, contract=contract), prepared)

    def _identified(self, bundle: str) -> _Made:
        if bundle not in self._made:
            self._made[bundle] = identify(_with(self._job, bundle), self._store)
        return self._made[bundle]


def choose(job: Job, store: Store | None, request: Request) -> Chosen:
    """Raises: what a run would raise before it begins; UsageError: the range does not fit the intervals."""
    return _Choice(job, store, request).made()


def _with(job: Job, bundle: str) -> Job:
    return replace(job, model=replace(job.model, bundle=bundle))


def _answered(line: Line) -> Line:
    unknown = line.action == "score" and not line.bundle
    return replace(line, action="refuse", reason="no model is known to have answered then, or before") if unknown else line


def _capped(lines: list[Line], request: Request) -> list[Line]:
    due = [line for line in lines if line.action == "score"]
    due = due[::-1] if request.order == "newest" else due
    beyond = {line.key for line in due[request.max_partitions :]} if request.max_partitions is not None else set()
    return [replace(line, action="later", reason="beyond max_partitions") if line.key in beyond else line for line in lines]


def _failures(store: Store, standing: Mapping[str, Published]) -> dict[str, str]:
    """How the last attempt ended where it failed or was held, nothing was published since, and nobody dropped what was held."""
    found = {}
    for key, attempt in runs.attempts(store).items():
        created = standing[key].manifest.created if key in standing else ""
        if attempt.status in ("failed", "held") and attempt.finished > created and not _dropped(store, attempt.run_id, key):
            found[key] = f"{attempt.status} by run {attempt.run_id}"
    return found


def _dropped(store: Store, run_id: str, key: str) -> bool:
    held = holding.newest(store, run_id, key)
    decision = holding.decision(store, held) if held else None
    return decision is not None and decision.kind == "discarded"
