"""One pass over many intervals with one warm set of lanes: leases, live work let in between, limits; publication for each interval.

The planner's thread decides what is begun: it takes a lease, looks whether the decision still holds, and hands out the slices.
Little is in hand at a time, so that other backfills find something to do and live work does not wait long. The driver's thread
publishes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from scoring.errors import OvertakenError, PausedError
from scoring.jobs.publishing import Publishing, Waiting
from scoring.jobs.run import Pass
from scoring.jobs.turns import Seat
from scoring.ledger.account import rows
from scoring.ledger.suppressed import people
from scoring.pool.actions import Outcome
from scoring.pool.dispatcher import Dispatcher
from scoring.release.change import Decision
from scoring.sinks.publish import current
from scoring.types import Check, Counts, Partition, PartitionRecord, Receipt, RunRecord, Slice, Status

_ROOM = 4  # slices in hand for each that a lane works at
_STEP_S, _TAKEN_S = 0.05, 0.2


def lease_of(key: str) -> str:
    return f"partitions/{key}"


class IntervalPublishing(Publishing):
    """As a run publishes; a lease is given back with the verdict, and who is overtaken stops no other. `seat` is set before use."""

    seat: Seat

    def _release(self, waiting: Waiting, receipts: Sequence[Receipt]) -> PartitionRecord:
        key = waiting.partition.key
        try:
            return super()._release(waiting, receipts)
        except OvertakenError as error:
            return self.overtaken(key, str(error))
        finally:
            self.seat.leases.release(lease_of(key))

    def overtaken(self, key: str, why: str) -> PartitionRecord:
        """Somebody else published it after it was decided to score it: the decision is void."""
        standing = current(self._store, key)
        counts, version = (Counts(**standing.counts), standing.version) if standing else (Counts(), 0)
        said = Check("overtaken", key, "skip", "warn", f"version {self._decisions[key].replaces}", why)
        return PartitionRecord(key, "skipped", rows(counts), (said,), version)

    def drop(self, key: str, why: str) -> None:
        """Forget what was begun. Nothing of it may be in hand."""
        record = self.overtaken(key, why)
        with self._lock:
            self._open.pop(key, None)
        self.account.partitions[key] = record

    @property
    def due(self) -> bool:
        """Whether something is complete and not published yet."""
        with self._lock:
            return any(waiting.complete for waiting in self._open.values())


class IntervalPass(Pass):
    """Use once: `prepare_for`, then `go`. `again`: its lanes or its run could not go on; what is left needs another."""

    _publishing: IntervalPublishing

    def prepare_for(
        self, seat: Seat, decisions: Mapping[str, Decision], facts: dict[str, str], spent: Callable[[float], str]
    ) -> None:
        """`spent(seconds since lanes were ready)` says why no more may be begun, "" if more may. `facts` go into the record."""
        self.again, self.left = False, ""
        self._seat, self._decisions, self._facts, self._spent = seat, decisions, facts, spent
        self._people = people(self._store)
        self._yielded = self._done = 0
        self._over = False
        self._moved = threading.Condition()
        self._dispatch: Dispatcher | None = None

    def go(self, should_stop: Callable[[], str | None]) -> RunRecord:
        self._asked_to_stop = should_stop
        try:
            return super().go(should_stop)
        finally:
            self._over = True

    # the driver's thread

    def _dispatcher(self) -> Dispatcher:
        self._dispatch = super()._dispatcher()
        return self._dispatch

    def _finished(self, receipt: Receipt) -> None:
        """What was complete is published when a slice counts as done."""
        try:
            super()._finished(receipt)
        except BaseException:
            self._over = True
            raise
        with self._moved:
            self._done += 1
            self._moved.notify_all()

    def _turn(self) -> None:
        try:
            super()._turn()
        except BaseException:
            self._over = True
            raise
        self._over = self._over or self._dispatch is None or self._dispatch.outcome is not None

    def _status(self, outcome: Outcome) -> Status:
        return "paused" if self.again and outcome.ending == "done" else super()._status(outcome)

    def _record(self, status: Status, outcome: Outcome) -> RunRecord:
        record = super()._record(status, outcome)
        return replace(record, environment=record.environment | self._facts)

    # the planner's thread

    def _slices(self) -> Iterator[Slice | None]:
        waiting = deque(self._prepared.todo)
        try:
            while waiting and self._may_begin():
                partition = self._next(waiting)
                if partition is None:
                    time.sleep(_TAKEN_S)  # others work at all that is left
                    continue
                self._publishing.begin(partition)
                for work in self._left(partition):
                    if not self._has_room(partition):
                        break
                    self._yielded += work is not None
                    yield work
                else:
                    self._publishing.planned(partition)
        finally:
            self._plans.flush()

    def _next(self, waiting: deque[Partition]) -> Partition | None:
        """The first that is free, its lease taken. Those whose decision does not hold any more are settled on the way."""
        for _ in range(len(waiting)):
            partition = waiting.popleft()
            if not self._seat.leases.claim(lease_of(partition.key)):
                waiting.append(partition)
            elif why := self._void(partition.key):
                self._seat.leases.release(lease_of(partition.key))
                self._publishing.drop(partition.key, why)
            else:
                return partition
        return None

    def _void(self, key: str) -> str:
        """Why a decision does not hold any more, "" if it does."""
        standing, decision = current(self._store, key), self._decisions[key]
        if (standing.version if standing else 0) == decision.replaces:
            return ""
        by = f"run {standing.run_id}" if standing else "nobody"
        return f"{key} was published by {by} meanwhile"

    def _may_begin(self) -> bool:
        return self._has_room(None) and not self._limit_reached()

    def _limit_reached(self) -> bool:
        self.left = self._spent(time.monotonic() - self._first_ready if self._first_ready else 0.0)
        return bool(self.left)

    def _has_room(self, partition: Partition | None) -> bool:
        """Wait until there is room for another slice; False if no more may be handed out. `partition` is the one that is being
        planned. Live work is let in here, once nothing is in hand.
        """
        room = _ROOM * self._prepared.lanes.count * self._job.engine.in_flight
        while not (self._over or self.again or self._asked_to_stop()):
            if self._seat.wanted:
                if self._in_hand() == 0 and not self._publishing.due and not self._let_in(partition):
                    return False
            elif self._in_hand() < room:
                return True
            with self._moved:
                self._moved.wait(_STEP_S)
        return False

    def _in_hand(self) -> int:
        return self._yielded - self._done - (self._dispatch.given_up if self._dispatch else 0)

    def _let_in(self, partition: Partition | None) -> bool:
        """Leave the workspace to live work and come back. False: this pass may not go on, or not with this partition."""
        with suppress(PausedError):
            self._seat.give_way()
            self.again = not self._seat.leases.claim(f"runs/{self._run_id}") or people(self._store) != self._people
            return not self.again and (partition is None or self._reclaim(partition))
        return False

    def _reclaim(self, partition: Partition) -> bool:
        while not self._seat.leases.claim(lease_of(partition.key)):
            if self._over or self._asked_to_stop():
                return False
            time.sleep(_TAKEN_S)
        if why := self._void(partition.key):
            self._publishing.drop(partition.key, why)
            return False
        return True
