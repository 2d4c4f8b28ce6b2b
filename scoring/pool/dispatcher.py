"""Who does what next: a pure class. Told what happened and what time it is, it answers with actions; it does no I/O.

The attempt count lives with the slice, never with the lane. A lane that died, hung or is poisoned is replaced; of the slices it had
in hand only the oldest is blamed. Nothing is believed: a reply that never came and a lane that is said to be dead mean only that
the store must be looked at before the slice is handed out again, and a late receipt is as good as any.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from scoring.pool import Died, Event, LaneKind, Ready, Replied, StartFailed
from scoring.pool.retry import RetryBudget
from scoring.settings import Fallback, Retry
from scoring.types import Failure, FailureKind, Receipt, Slice

START_FAILURES = 3  # in a row, with no lane ready in between: the machine or the model cannot, not the moment
TAIL = 4  # waiting slices per lane below which the longest goes first, so that no lane ends long after the others


@dataclass(frozen=True)
class StartLane:
    lane: int
    kind: LaneKind


@dataclass(frozen=True)
class KillLane:
    lane: int


@dataclass(frozen=True)
class Send:
    lane: int
    work: Slice
    attempt: str


@dataclass(frozen=True)
class Look:
    """Ask the store whether this slice is done, then call `looked`."""

    work: Slice


@dataclass(frozen=True)
class Finished:
    work: Slice
    receipt: Receipt


Action = StartLane | KillLane | Send | Look | Finished
Ending = Literal["done", "stopped", "paused", "failed"]


@dataclass(frozen=True)
class Outcome:
    """`failed` names slices that were given up (slice, why). `kind` is the failure that ended the run, if one did."""

    ending: Ending
    message: str = ""
    kind: FailureKind | Literal["signal", "start", ""] = ""
    failed: tuple[tuple[Slice, str], ...] = ()


@dataclass
class _Work:
    slice: Slice
    attempts: int = 0
    state: Literal["waiting", "running", "looking", "done", "failed"] = "waiting"
    cause: Failure | None = None
    charged: bool = False
    poisoned: int = 0  # devices it has broken: a third try belongs on a CPU, where an error costs no process
    on_cpu: bool = False


@dataclass
class _Lane:
    kind: LaneKind
    since: float
    ready: bool = False
    hand: deque[tuple[str, str]] = field(default_factory=deque)  # (attempt, slice id), oldest first


class Dispatcher:
    """`target` lanes of `kind`. `attempt_id` makes a name for the n-th attempt handed out."""

    def __init__(
        self,
        target: int,
        kind: LaneKind,
        in_flight: int,
        retry: Retry,
        fallback: Fallback,
        rng: Random,
        attempt_id: Callable[[int], str],
    ) -> None:
        self.outcome: Outcome | None = None
        self._target, self._kind, self._in_flight, self._retry, self._fallback = target, kind, in_flight, retry, fallback
        self._budget, self._attempt_id = RetryBudget(retry, rng), attempt_id
        self._work: dict[str, _Work] = {}
        self._waiting: deque[str] = deque()
        self._delayed: list[tuple[float, str]] = []
        self._lanes: dict[int, _Lane] = {}
        self._actions: list[Action] = []
        self._all_planned = False
        self._open = self._numbered = self._sent = self._start_failures = 0
        self._stop: Outcome | None = None
        self._stop_by = 0.0
        self._gpu_lost_at: float | None = None

    # what there is to do

    def add(self, work: Slice) -> None:
        if work.id not in self._work:
            self._work[work.id] = _Work(work)
            self._waiting.append(work.id)
            self._open += 1

    def planned_all(self) -> None:
        self._all_planned = True

    @property
    def backlog(self) -> int:
        """Slices waiting to be sent: the planner may rest while there are many."""
        return len(self._waiting)

    # what happened

    def happened(self, event: Event, now: float) -> None:
        match event:
            case Ready(lane=number):
                if lane := self._lanes.get(number):
                    lane.ready, lane.since, self._start_failures = True, now, 0
                    self._gpu_lost_at = None if lane.kind == "gpu" else self._gpu_lost_at
            case StartFailed(lane=number, cause=cause, permanent=permanent):
                if self._lanes.pop(number, None):
                    self._start_failed(cause, permanent, now)
            case Died(lane=number, cause=cause):
                self._lost(number, cause, now)
            case Replied(lane=number, attempt=attempt, answer=answer):
                self._replied(number, attempt, answer, now)

    def looked(self, work: Slice, receipt: Receipt | None, now: float) -> None:
        """What the store says of a slice after an error."""
        item = self._work[work.id]
        if item.state != "looking":
            return
        if receipt is not None:
            self._done(item, receipt)
        else:
            self._again(item, now)

    def stop(self, now: float, message: str) -> None:
        """Hand out nothing more; what is in hand may finish within the grace period."""
        self._end(Outcome("stopped", message, "signal"), now)

    # what to do now

    def poll(self, now: float) -> list[Action]:
        """Actions due at `now`. Call after every event and at least once a second."""
        while self._delayed and self._delayed[0][0] <= now:
            self._waiting.append(heapq.heappop(self._delayed)[1])
        self._enforce_deadlines(now)
        if self._stop is None:
            self._start_lanes(now)
            self._send_waiting(now)
        self._conclude(now)
        actions, self._actions = self._actions, []
        return actions

    def _replied(self, number: int, attempt: str, answer: Receipt | Failure, now: float) -> None:
        lane = self._lanes.get(number)
        held = [entry for entry in lane.hand if entry[0] == attempt] if lane else []
        if lane and held:
            lane.hand.remove(held[0])
            lane.since = now
        item = self._work.get(answer.slice_id)
        if item is None:
            return
        if isinstance(answer, Receipt):
            self._done(item, answer)
        elif held and item.state == "running":
            self._look(item, answer, charged=True)
        if isinstance(answer, Failure) and lane and not answer.lane_usable:
            self._broken(number, answer, now)

    def _broken(self, number: int, answer: Failure, now: float) -> None:
        """The lane says itself that its process is of no more use."""
        if answer.kind == "device-lost":
            self._gpu_lost(answer.message, now)
        self._actions.append(KillLane(number))
        self._lost(number, answer.message, now, innocent=True)

    def _lost(self, number: int, cause: str, now: float, innocent: bool = False) -> None:
        """A lane is gone. Only the oldest slice in hand may have done it; the others are not charged."""
        lane = self._lanes.pop(number, None)
        if lane is None:
            return
        for place, (attempt, slice_id) in enumerate(lane.hand):
            item = self._work[slice_id]
            if item.state == "running":
                self._look(item, Failure(slice_id, attempt, "bug", cause, False), charged=place == 0 and not innocent)

    def _look(self, item: _Work, cause: Failure, charged: bool) -> None:
        item.state, item.cause, item.charged = "looking", cause, charged
        self._actions.append(Look(item.slice))

    def _again(self, item: _Work, now: float) -> None:
        """Not in the store: try again, later, elsewhere, or never."""
        cause = item.cause
        if cause is None:
            raise AssertionError("A slice is looked for without a cause. This is a bug.")
        if not item.charged or cause.kind == "device-lost":
            item.attempts -= 1
            item.state = "waiting"
            self._waiting.appendleft(item.slice.id)
        elif cause.kind in ("input", "model"):
            self._give_up(item, cause, now, ends_run=cause.kind == "model")
        elif item.attempts >= self._retry.attempts or not self._budget.spend(len(self._work)):
            self._give_up(item, cause, now, ends_run=True)
        else:
            self._poisoned(item, cause)
            item.state = "waiting"
            heapq.heappush(self._delayed, (now + self._budget.delay_s(item.attempts), item.slice.id))

    def _poisoned(self, item: _Work, cause: Failure) -> None:
        item.poisoned += cause.kind == "device-sticky"
        item.on_cpu = item.poisoned >= 2 and self._fallback.cpu != "never"

    def _give_up(self, item: _Work, cause: Failure, now: float, ends_run: bool) -> None:
        item.state = "failed"
        self._open -= 1
        if ends_run:
            self._end(Outcome("failed", f"{cause.message} (attempt {item.attempts} of {self._retry.attempts})", cause.kind), now)

    def _done(self, item: _Work, receipt: Receipt) -> None:
        if item.state in ("done", "failed"):
            return
        item.state = "done"
        self._open -= 1
        self._actions.append(Finished(item.slice, receipt))

    def _start_failed(self, cause: str, permanent: bool, now: float) -> None:
        self._start_failures += 1
        if self._gpu_lost_at is not None and now - self._gpu_lost_at < self._fallback.gpu_wait_s:
            return
        if permanent or self._start_failures >= START_FAILURES:
            self._end(Outcome("failed", f"No lane can start: {cause}", "start"), now)

    def _gpu_lost(self, cause: str, now: float) -> None:
        if self._fallback.gpu_lost == "pause" or (self._fallback.gpu_lost == "cpu" and self._fallback.cpu == "never"):
            self._end(Outcome("paused", f"The GPU is gone ({cause}). Run the same command again when it is back.", "device-lost"), now)
        elif self._fallback.gpu_lost == "cpu":
            self._kind = "cpu"
        elif self._gpu_lost_at is None:
            self._gpu_lost_at = now

    def _enforce_deadlines(self, now: float) -> None:
        for number, lane in list(self._lanes.items()):
            if lane.ready and lane.hand and now - lane.since > self._retry.call_deadline_s:
                self._actions.append(KillLane(number))
                self._lost(number, f"no answer for {self._retry.call_deadline_s:g} s", now)
            elif not lane.ready and now - lane.since > self._retry.start_deadline_s:
                self._actions.append(KillLane(number))
                del self._lanes[number]
                self._start_failed(f"not ready after {self._retry.start_deadline_s:g} s; are the resources there?", False, now)

    def _start_lanes(self, now: float) -> None:
        wanted = min(self._target, self._open)
        for _ in range(wanted - sum(lane.kind == self._kind for lane in self._lanes.values())):
            self._start(self._kind, now)
        cpu_work = any(item.on_cpu and item.state == "waiting" for item in self._work.values()) if self._suspects() else False
        if cpu_work and not any(lane.kind == "cpu" for lane in self._lanes.values()):
            self._start("cpu", now)

    def _suspects(self) -> bool:
        return self._kind == "gpu" and self._budget.spent > 0

    def _start(self, kind: LaneKind, now: float) -> None:
        self._numbered += 1
        self._lanes[self._numbered] = _Lane(kind, now)
        self._actions.append(StartLane(self._numbered, kind))

    def _send_waiting(self, now: float) -> None:
        for room in range(self._in_flight):  # every lane gets its first slice before any gets its second
            for number, lane in self._lanes.items():
                if lane.ready and len(lane.hand) == room and (item := self._take(lane.kind)):
                    self._send(number, lane, item, now)

    def _take(self, kind: LaneKind) -> _Work | None:
        """The next slice that a lane of this kind may have."""
        while self._waiting and self._work[self._waiting[0]].state != "waiting":
            self._waiting.popleft()  # a late receipt came while it waited
        tail = self._all_planned and len(self._waiting) <= TAIL * self._target
        suspects = self._suspects()
        if not tail and not suspects:
            return self._work[self._waiting.popleft()] if self._waiting else None
        fit = [i for i in self._waiting if self._work[i].state == "waiting" and (kind == "cpu" or not self._work[i].on_cpu)]
        if not fit:
            return None
        chosen = max(fit, key=lambda i: self._work[i].slice.rows) if tail else fit[0]
        self._waiting.remove(chosen)
        return self._work[chosen]

    def _send(self, number: int, lane: _Lane, item: _Work, now: float) -> None:
        self._sent += 1
        attempt = self._attempt_id(self._sent)
        item.attempts += 1
        item.state = "running"
        if not lane.hand:
            lane.since = now
        lane.hand.append((attempt, item.slice.id))
        self._actions.append(Send(number, item.slice, attempt))

    def _end(self, outcome: Outcome, now: float) -> None:
        if self._stop is None:
            self._stop, self._stop_by = outcome, now + self._retry.grace_s

    def _conclude(self, now: float) -> None:
        failed = tuple((i.slice, i.cause.message) for i in self._work.values() if i.state == "failed" and i.cause)
        if self._stop is None:
            if self._all_planned and not self._open:
                self._finish(Outcome("failed" if failed else "done", failed[0][1] if failed else "", "input" if failed else "", failed))
        elif now >= self._stop_by or not any(lane.hand for lane in self._lanes.values()):
            self._finish(Outcome(self._stop.ending, self._stop.message, self._stop.kind, failed))

    def _finish(self, outcome: Outcome) -> None:
        if self.outcome is None:
            self.outcome = outcome
            self._actions += [KillLane(number) for number in self._lanes]
            self._lanes.clear()
