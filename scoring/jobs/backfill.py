"""The verb that goes back: which intervals of a range need scoring, and the scoring of them. docs/backfill.md is its design."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from scoring.admit.treatments import tagged
from scoring.engine.estimate import price_per_hour
from scoring.errors import ConfigError
from scoring.jobs.backfills import request as requests
from scoring.jobs.backfills.account import BackfillRecord, after, before, ended_by_key, head, totals
from scoring.jobs.backfills.choosing import Chosen, Group, choose
from scoring.jobs.backfills.estimate import estimate, rows
from scoring.jobs.backfills.passing import IntervalPass, IntervalPublishing
from scoring.jobs.backfills.request import Request
from scoring.jobs.recovery import recover
from scoring.jobs.run import Watcher, begin
from scoring.jobs.turns import Seat
from scoring.jobs.watching import Watching, repair_tables
from scoring.jobs.workspace import if_there
from scoring.ledger import runs
from scoring.ledger.account import Account
from scoring.ledger.chain import Ledger
from scoring.settings import Job
from scoring.sinks.publish import current, published
from scoring.stores import Store, open_store, probe
from scoring.types import Partition, RunRecord, digest

_LEFT_S = 3600.0  # what other backfills have in the spool is younger
_ENDED_ALL = (*runs.FINISHED, "held")  # a backfill of all that came to its end is not gone on with: all means all again

Watch = Callable[[], AbstractContextManager[Watcher]]


def plan(job: Job, words: Mapping[str, str]) -> BackfillRecord:
    """What would be done, without doing it: footers are read. Raises: what `backfill` raises before it begins."""
    request = requests.parse(words)
    store = if_there(job.workspace)
    chosen = choose(job, store, request)
    promised = {p.key: rows(group, p) for group in chosen.groups for p in group.prepared.todo}
    known = estimate(store, chosen.groups, promised)
    intervals = tuple(before(line, promised.get(line.key)) for line in chosen.lines)
    message = "" if chosen.groups else "Nothing to do."
    if request.max_cost is not None and known.cost is not None and known.cost > request.max_cost:
        message = f"The estimated cost is more than max_cost={request.max_cost:g}: not all of it would be done."
    facts = {"rate": known.rate, "lanes": _lanes(chosen), "model_loads": 0, "runs": (), "message": message}
    given = head(request, chosen) | totals(intervals) | facts
    return BackfillRecord(dry_run=True, seconds=known.seconds, cost=known.cost, intervals=intervals, **given)


def backfill(
    job: Job, config: str, words: Mapping[str, str], watch: Watch, should_stop: Callable[[], str | None] = lambda: None
) -> tuple[BackfillRecord, list[tuple[Job, RunRecord]]]:
    """Score what is due and publish it, interval by interval. Returns the account, and each run with its job, to be told of.

    `watch` makes the watcher of each pass.
    Raises:
        ScoringError: nothing was begun, or nothing can go on; what was staged stays.
    """
    request = requests.parse(words)
    store = open_store(job.workspace)
    with Seat(store, f"a backfill of {job.source.path}", should_stop) as seat:
        probe(store)
        if seat.alone_here():
            store.sweep(_LEFT_S)
            seat.leases.sweep()
        ledger = Ledger(store)
        recover(store, ledger)
        if job.watch.enabled:
            repair_tables(store, list(published(store)))
        backfilling = Backfilling(job, store, ledger, seat, request, config, requests.line(words), watch, should_stop)
        chosen = backfilling.go()
    return backfilling.record(chosen), backfilling.done


@dataclass
class Backfilling:
    """The passes of one backfill: one for each model, and another where one could not go on."""

    job: Job
    store: Store
    ledger: Ledger
    seat: Seat
    request: Request
    config: str
    said: str
    watch: Watch
    should_stop: Callable[[], str | None]
    done: list[tuple[Job, RunRecord]] = field(default_factory=list)
    left: str = ""
    spent: float = 0.0

    def go(self) -> Chosen:
        """What was chosen first."""
        first = None
        while True:
            chosen = choose(self.job, self.store, self.request)
            first = first or chosen
            self._refuse_cost(chosen)
            if not any(self._passed(group) for group in chosen.groups if not (self.left or self.should_stop())):
                return first

    def record(self, chosen: Chosen) -> BackfillRecord:
        records = [record for _, record in self.done]
        ended = ended_by_key(records)
        intervals = tuple(after(line, ended.get(line.key), self.left) for line in chosen.lines)
        seconds = sum(record.rates.get("scoring_seconds", 0.0) for record in records)
        scored = sum(record.rates.get("rows_per_second", 0.0) * record.rates.get("scoring_seconds", 0.0) for record in records)
        facts = {
            "rate": round(scored / seconds, 1) if seconds else None,
            "lanes": _lanes(chosen),
            "model_loads": int(sum(record.rates.get("model_loads", 0.0) for record in records)),
            "runs": tuple(dict.fromkeys(record.run_id for record in records)),
            "message": "; ".join(dict.fromkeys(record.message for record in records if record.message)),
        }
        if not chosen.groups:
            facts["message"] = "Nothing to do."
        cost = None if self.job.hardware.price_per_hour is None else round(self.spent, 4)
        given = head(self.request, chosen) | totals(intervals) | facts
        return BackfillRecord(dry_run=False, seconds=round(seconds, 3), cost=cost, intervals=intervals, **given)

    def _refuse_cost(self, chosen: Chosen) -> None:
        if self.request.max_cost is not None and self.job.hardware.price_per_hour is None and chosen.groups:
            raise ConfigError("max_cost needs to know what an hour costs. Say hardware.price_per_hour=…")

    def _passed(self, group: Group) -> bool:
        """Whether what is left must be looked at again."""
        settled = {part.key for _, record in self.done for part in record.partitions if part.status != "paused"}
        run_id, resumed = self._begin(group)
        todo = tuple(p for p in group.prepared.todo if p.key not in settled and not self._published_by(run_id, p))
        if not todo:
            return False
        prepared = replace(group.prepared, identity=replace(group.prepared.identity, run_id=run_id), todo=todo)
        with self.watch() as watcher:
            began = begin(group.job, self.store, prepared, watcher, resumed)
            one = self._pass(Group(group.job, prepared), watcher, began)
            record = one.go(self.should_stop)
        self.done.append((group.job, record))
        self.left = one.left
        self.spent += record.rates.get("scoring_seconds", 0.0) * self._per_second(group)
        return one.again

    def _begin(self, group: Group) -> tuple[str, bool]:
        """The run of this group: an unfinished one, unless another backfill is at work on it."""
        job, identity = group.job, group.prepared.identity
        everything = "all" in self.request.which
        made_of = ["backfill", identity.fingerprint]
        made_of += ["all", self.request.start.isoformat(), self.request.end.isoformat()] if everything else []
        ended = _ENDED_ALL if everything else runs.FINISHED
        given = (self.store, digest(made_of), job.run_id, self.config, identity.subject)
        run_id, resumed = runs.start(*given, lambda name: self.seat.leases.claim(f"runs/{name}"), ended)
        if tagged(job.contract):
            self.store.private("quarantine")
            self.store.private(f"runs/{run_id}/quarantine")
        return run_id, resumed

    def _published_by(self, run_id: str, partition: Partition) -> bool:
        """Whether this run has published the partition as it is, before it was interrupted."""
        standing = current(self.store, partition.key)
        return standing is not None and standing.run_id == run_id and standing.input_digest == partition.input_digest

    def _pass(self, group: Group, watcher: Watcher, began: str) -> IntervalPass:
        job, prepared = group.job, group.prepared
        identity, before_it = prepared.identity, list(published(self.store))
        watching = Watching(job, self.store, identity, prepared.baseline, before_it) if job.watch.enabled else None
        made_by = (self.ledger, identity, Account(), prepared.lanes.kind, watching, prepared.decisions)
        publishing = IntervalPublishing(job, self.store, *made_by)
        publishing.seat = self.seat
        one = IntervalPass(job, self.store, self.ledger, prepared, publishing, watcher, began)
        one.prepare_for(self.seat, prepared.decisions, {"backfill": self.said}, lambda seconds: self._limit(group, seconds))
        return one

    def _limit(self, group: Group, seconds: float) -> str:
        """Why no more may be begun."""
        most = self.request.max_cost
        if most is None or self.spent + seconds * self._per_second(group) < most:
            return ""
        return f"max_cost={most:g} is spent"

    def _per_second(self, group: Group) -> float:
        return (price_per_hour(group.job.hardware, group.prepared.lanes) or 0.0) / 3600


def _lanes(chosen: Chosen) -> int:
    return chosen.groups[0].prepared.lanes.count if chosen.groups else 0
