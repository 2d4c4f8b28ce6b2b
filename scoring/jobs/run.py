"""The main verb: discover, plan, dispatch, publish, account."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Protocol

from scoring.admit.treatments import tagged
from scoring.engine import lane
from scoring.engine.energy import EnergyMeter, Opened, open_counters
from scoring.engine.environment import environment
from scoring.engine.estimate import Rate, expected
from scoring.errors import TemporaryError
from scoring.jobs import asked
from scoring.jobs.preparation import Prepared, prepare
from scoring.jobs.publishing import Publishing
from scoring.jobs.recovery import recover
from scoring.jobs.turns import alone
from scoring.jobs.watching import Watching, repair_tables
from scoring.ledger import runs
from scoring.ledger.account import Account, rows
from scoring.ledger.chain import Ledger
from scoring.ledger.plans import Plans
from scoring.ledger.suppressed import pin
from scoring.log import Log, about
from scoring.pool import LaneFactory, LanePool
from scoring.pool.dispatcher import Dispatcher, Outcome
from scoring.pool.drive import drive
from scoring.settings import Job
from scoring.sinks.done import DoneLog, Recalled
from scoring.sinks.publish import published
from scoring.sinks.searched import Searched
from scoring.sinks.staged import find, finished
from scoring.sources import slices
from scoring.stores import Store, open_store, probe
from scoring.types import Check, Counts, Partition, PartitionRecord, Receipt, RunRecord, Slice, Status

_log = Log("jobs")
_TOGETHER = 1_000  # slices whose receipts are taken in between two looks at whether the run goes on


class Watcher(Protocol):
    """Told what happens; may not fail and may not be slow (law 6)."""

    def begin(self, run_id: str, resumed: bool, lanes: int, store: Store) -> None: ...

    def planned(self, partition: str, slices: int, rows: int) -> None: ...

    def finished(self, receipt: Receipt) -> None: ...

    def end(self, record: RunRecord) -> None: ...


def run(job: Job, config: str, watcher: Watcher, should_stop: Callable[[], str | None] = lambda: None) -> RunRecord:
    """Score what is not scored yet and publish it. `config` is kept with the run as it was written, secrets unresolved.

    Raises:
        ScoringError: nothing was begun, or nothing can go on; what was staged stays.
    """
    store = open_store(job.workspace)
    with alone(store, {"run": job.run_id or "a run of " + job.source.path}):
        probe(store)  # not before: whoever holds the lock sweeps the spool
        store.sweep()
        ledger = Ledger(store)
        recover(store, ledger)
        before = list(published(store))
        if job.watch.enabled:
            repair_tables(store, before)
        prepared = prepare(job, store)
        job = replace(job, contract=prepared.contract)
        if not prepared.todo:
            return _nothing_to_do(prepared)
        run_id, resumed = runs.start(store, prepared.identity.fingerprint, job.run_id, config, prepared.identity.subject)
        prepared = replace(prepared, identity=replace(prepared.identity, run_id=run_id))
        if tagged(job.contract):
            store.private("quarantine")
            store.private(f"runs/{run_id}/quarantine")
        began = begin(job, store, prepared, watcher, resumed)
        watching = Watching(job, store, prepared.identity, prepared.baseline, before) if job.watch.enabled else None
        made_by = (ledger, prepared.identity, Account(), prepared.lanes.kind, watching, prepared.decisions)
        publishing = Publishing(job, store, *made_by)
        return Pass(job, store, ledger, prepared, publishing, watcher, began).go(should_stop)


class Pass:
    """One pass of the slices of all partitions that are to be done over the lanes, from planning to the record. Use once: `go`."""

    def __init__(
        self, job: Job, store: Store, ledger: Ledger, prepared: Prepared, publishing: Publishing, watcher: Watcher, started: str
    ) -> None:
        """`started` is when the pass began, ISO 8601."""
        self._started = started
        self._job, self._store, self._ledger, self._prepared, self._watcher = job, store, ledger, prepared, watcher
        self._run_id = prepared.identity.run_id
        self._publishing, self._account = publishing, publishing.account
        self._searched = Searched(store, self._run_id, prepared.suppressed.erased)
        self._searched.remove_others()
        staged = finished(store, self._run_id)
        self._recalled = Recalled(store, self._run_id, staged, [p.key for p in prepared.todo])
        self._staged = frozenset(staged)
        self._receipts = DoneLog(store, self._run_id)
        self._plans, self._planned = Plans(store, self._run_id, job.source), (0, 0)
        self._counting, self._resumed_rows, self._resumed_tokens = threading.Lock(), 0, 0
        self._began, self._first_ready, self._worked = time.monotonic(), 0.0, 0.0
        self._loads = 0
        self._account.partitions.update(untouched(prepared))

    def go(self, should_stop: Callable[[], str | None]) -> RunRecord:
        with about(run_id=self._run_id), closing(self._recalled):
            return self._go(should_stop)

    def _go(self, should_stop: Callable[[], str | None]) -> RunRecord:
        self._say_begin()
        pool = pool_of(self._job, self._prepared, self._run_id, pin(self._store, self._run_id, self._prepared.suppressed.names))
        self._began = time.monotonic()
        given = (self._dispatcher(), pool, self._slices(), self._find, lambda _, receipt: self._finished(receipt), should_stop)
        with EnergyMeter(partial(_counters, self._job, self._prepared)) as energy:
            outcome = drive(*given, on_ready=self._ready, on_turn=self._turn)
            status = self._status(outcome)
            self._receipts.flush()
            self._publishing.close("paused" if status in ("paused", "published") else status)
            record = replace(self._record(status, outcome), energy=energy.stop())
        runs.finish(self._store, record)
        self._watcher.end(record)
        return record

    def _say_begin(self) -> None:
        prepared, made_by = self._prepared, self._prepared.identity.model
        partitions = {"todo": len(prepared.todo), "standing": len(prepared.standing)}
        staged = {"lanes": prepared.lanes.count, "kind": prepared.lanes.kind, "staged": len(self._staged)}
        _log.info(
            "run.begin", workspace=self._store.root, source=self._job.source.path, model=made_by, partitions=partitions, **staged
        )

    def _dispatcher(self) -> Dispatcher:
        engine, lanes = self._job.engine, self._prepared.lanes
        rng = Random()
        names = partial(_attempt_name, f"{rng.getrandbits(40):010x}")
        return Dispatcher(lanes.count, lanes.kind, engine.in_flight, engine.retry, engine.fallback, rng, names)

    def _slices(self) -> Iterator[Slice | None]:
        """Planned in the planner's thread; None for a slice that the log knows to be done. Of slices that are staged already those
        are handed out, too, that it does not know: a lane answers for them at once.
        """
        try:
            for partition in self._prepared.todo:
                self._publishing.begin(partition)
                yield from self._left(partition)
                self._publishing.planned(partition)
        finally:
            self._plans.flush()  # also where the run ends before all is planned
        with about(run_id=self._run_id):  # the planner has a thread of its own
            _log.info("run.planned", slices=self._planned[0], rows=self._planned[1])

    def _left(self, partition: Partition) -> Iterator[Slice | None]:
        """The slices of a partition; None for one that the log knows to be done. A pass before this one may have kept the plan."""
        kept = self._plans.kept(partition)
        if kept is not None:
            self._publishing.plan_all(partition, kept.ids, kept.rows)
            self._count(partition, len(kept.ids), kept.known_rows)
            for first in range(0, len(kept.ids), _TOGETHER):
                known = self._known(kept.ids[first : first + _TOGETHER], partition.key)
                yield from (None if is_known else kept.slice(first + n) for n, is_known in enumerate(known))
            return
        for work in self._plans.planning(partition, slices.plan(partition, self._job.source)):
            if work.fault:
                _log.warning("file.fault", partition=partition.key, file=work.fragments[0].path, message=work.fault)
            self._publishing.plan(work)
            self._count(partition, 1, work.rows)
            yield None if self._known([work.id], partition.key)[0] else work

    def _count(self, partition: Partition, slices: int, rows: int) -> None:
        self._planned = self._planned[0] + slices, self._planned[1] + rows
        self._watcher.planned(partition.key, slices, rows)

    def _known(self, slice_ids: Sequence[str], partition: str) -> list[bool]:
        """Of which slices the log has a receipt. It is counted here and now: handed to another thread, each would cost twice."""
        receipts = self._recalled.take(slice_ids, partition)
        if found := [receipt for receipt in receipts if receipt is not None]:
            self._accept(found)
            self._publishing.take(partition, found)
            self._tell(found)
        return [receipt is not None for receipt in receipts]

    def _find(self, work: Slice) -> Receipt | None:
        return find(self._store, self._run_id, work.id)

    def _ready(self) -> None:
        self._first_ready = self._first_ready or time.monotonic()
        self._loads += 1

    def _turn(self) -> None:
        if self._publishing.publish_due():
            self._worked = time.monotonic()
        self._receipts.flush_due()

    def _finished(self, receipt: Receipt) -> None:
        """In the driver's thread, which publishes."""
        self._accept([receipt])
        self._receipts.add(receipt)
        self._publishing.finished(receipt)
        self._tell([receipt])

    def _accept(self, receipts: Sequence[Receipt]) -> None:
        """In either thread, as `_tell`."""
        for receipt in receipts:
            if not self._searched.accepts(receipt):
                name = receipt.slice_id[:8]
                raise TemporaryError(f"Slice {name} was staged by a lane that did not know who was erased meanwhile. Run again.")
        resumed = [receipt for receipt in receipts if receipt.slice_id in self._staged]
        with self._counting:
            self._resumed_rows += sum(receipt.rows_in for receipt in resumed)
            self._resumed_tokens += sum(receipt.work.get("tokens", 0) for receipt in resumed)

    def _tell(self, receipts: Sequence[Receipt]) -> None:
        self._worked = time.monotonic()
        for receipt in receipts:
            self._watcher.finished(receipt)

    def _status(self, outcome: Outcome) -> Status:
        if outcome.ending == "done":
            return self._account.status()
        return "paused" if outcome.ending in ("stopped", "paused") else "failed"

    def _record(self, status: Status, outcome: Outcome) -> RunRecord:
        ended = time.monotonic()
        record = self._account.record(
            self._run_id,
            status,
            ended - self._began,
            environment=environment() | self._prepared.suppressed.facts | _watched_by(self._prepared),
            fingerprint=self._prepared.identity.fingerprint,
            model=self._prepared.identity.model,
            started=self._started,
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            message=outcome.message,
            cause=outcome.kind,
            ledger=self._ledger.head,
            costs=self._publishing.costs.strongest(),
        )
        fresh = self._account.counts.total - self._resumed_rows
        scoring_s = (self._worked or ended) - (self._first_ready or self._began)  # Ray's start and its end are no scoring
        scoring_s = scoring_s if scoring_s > 0 else ended - self._began  # all that was done came before the first lane
        rates = {"rows_per_second": round(fresh / scoring_s, 1), "scoring_seconds": round(scoring_s, 3)}
        rates |= {"lanes": float(self._prepared.lanes.count), "model_loads": float(self._loads)}
        if record.work.get("tokens"):
            rates["tokens_per_second"] = round((record.work["tokens"] - self._resumed_tokens) / scoring_s, 1)
        return replace(record, rates=record.rates | rates, estimate=self._estimate(fresh, scoring_s))

    def _estimate(self, rows: int, seconds: float) -> dict[str, float]:
        """What the hardware profile promised for the rows of this pass, and how far off it was: 0.1 is a tenth longer."""
        rate = expected(self._job.hardware, self._job.engine, self._prepared.lanes, self._prepared.identity.model["digest"])
        if not isinstance(rate, Rate) or not rows:
            return {}
        promised = rows / rate.median
        return {"rows_per_second": rate.median, "seconds": round(promised, 3), "off": round(seconds / promised - 1, 4)}


def begin(job: Job, store: Store, prepared: Prepared, watcher: Watcher, resumed: bool) -> str:
    """Say that a pass begins, and return when. `job` holds the whole contract."""
    run_id, lanes = prepared.identity.run_id, prepared.lanes.count
    started = datetime.now(UTC).isoformat(timespec="seconds")
    asked.keep(store, job, run_id, started, lanes, prepared.todo, prepared.identity.model)
    watcher.begin(run_id, resumed, lanes, store)
    return started


def _watched_by(prepared: Prepared) -> dict[str, str]:
    """Which baseline the verdicts on drift rest on."""
    return {"baseline": prepared.baseline.digest} if prepared.baseline else {}


def _attempt_name(run: str, n: int) -> str:
    return f"{run}-{n}"


def pool_of(job: Job, prepared: Prepared, run_id: str, pinned: str) -> LanePool:
    """Lanes as the job says, not opened yet. `pinned` is the key of the list of people who are not to be scored."""
    lanes = prepared.lanes
    spec = lane.LaneSpec(job, run_id, lanes.cpus, prepared.baseline, pinned, prepared.suppressed.erased)
    factory: LaneFactory = partial(lane.build, spec)
    if job.engine.kind == "inline":
        from scoring.pool.inline import InlinePool

        return InlinePool(factory, job.engine.in_flight)
    from scoring.pool.ray import RayPool, Share
    from scoring.respond.logs import Logged

    factory = Logged.of(factory, job.respond.logs, job.workspace, run_id)
    shares = {"gpu": Share(lanes.cpus, lanes.gpus), "cpu": Share(lanes.cpus, 0)}
    given = (factory, shares, job.engine.in_flight, job.engine.address)
    return RayPool(*given, metrics_port=job.engine.metrics_port, pipeline=asked.name(job))  # type: ignore[arg-type]


def _counters(job: Job, prepared: Prepared) -> Opened:
    """Of energy; where lanes are elsewhere, what this machine takes says nothing."""
    if job.engine.kind == "ray" and job.engine.address != "local":
        return Opened([], ["lanes run on other machines than the driver"])
    return open_counters(gpus=prepared.lanes.kind == "gpu")


def untouched(prepared: Prepared) -> dict[str, PartitionRecord]:
    """What is as it should be, and what is not ready: such a partition is paused, and so is a run with nothing worse."""
    found = {}
    for one in prepared.standing:
        found[one.key] = PartitionRecord(one.key, "skipped", {"in": sum(one.counts.values()), **one.counts}, (), one.version)
    for key, why in prepared.unready.items():
        check = Check("ready", key, "fail", "warn", "source.ready", why)
        found[key] = PartitionRecord(key, "paused", rows(Counts()), (check,))
    return found


def _nothing_to_do(prepared: Prepared) -> RunRecord:
    """Everything is published as it would be now, or not ready: say so and touch nothing."""
    account = Account(partitions=untouched(prepared))
    last = max((manifest.run_id for manifest in prepared.standing), default="")
    message = f"Nothing to do: {len(prepared.standing)} partition(s) are published with this model, contract and input."
    if prepared.unready:
        message += f" {len(prepared.unready)} are not ready."
    return account.record(last, account.status(), 0.0, environment=environment(), model=prepared.identity.model, message=message)
