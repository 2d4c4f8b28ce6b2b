"""Who does what next: a pure class. Told what happened and what time it is, it answers with actions; it does no I/O.

The attempt count lives with the slice, never with the lane. A lane that died, hung or is poisoned is replaced; of the slices it had
aboard only the oldest is blamed. Nothing is believed: a reply that never came and a lane that is said to be dead mean only that
the store must be looked at before the slice is handed out again, and a late receipt is as good as any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random

from scoring.pool import Cause, Died, Event, LaneKind, Ready, Replied, StartFailed
from scoring.pool.actions import Action, Finished, GiveUp, KillLane, Look, Note, Outcome, Send, StartLane
from scoring.pool.agenda import Agenda
from scoring.pool.backlog import Backlog, Item, Trouble
from scoring.pool.retry import RULES, RetryBudget
from scoring.pool.roster import LaneState, Roster
from scoring.pool.staff import Staff
from scoring.settings import Fallback, Retry
from scoring.types import Failure, Receipt, Slice

__all__ = ["Dispatcher", "Finished", "GiveUp", "KillLane", "Look", "Note", "Outcome", "Send", "StartLane"]

TAIL = 4  # waiting slices per lane below which the longest goes first
LOOKS = 8  # times the store may fail to say whether a slice is done
DEVICES = 2  # devices that a slice may break before it is tried on a CPU


class Dispatcher:
    """`target` lanes of `kind`, never more than there is work for.

    `attempt_id` names the n-th attempt handed out. Names must be unique over all runs on the workspace: lanes of a driver that was
    killed may still be at work.
    """

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
        self._retry, self._attempt_id = retry, attempt_id
        self._budget = RetryBudget(retry, rng)
        self._backlog = Backlog()
        self._agenda = Agenda(retry.grace_s)
        self._agenda.on_grace_over = self._grace_over
        self._roster = Roster(target, kind, in_flight)
        self._staff = Staff(self._roster, self._agenda, self._budget, retry, fallback)
        self._seen: set[str] = set()
        self._open: dict[str, Item] = {}
        self._given_up: list[GiveUp] = []
        self._all_planned = False
        self._looking = self._sent = 0

    # what there is to do

    def add(self, work: Slice) -> None:
        """Slices that were added before are passed over."""
        name = work.id
        if name not in self._seen:
            self._seen.add(name)
            self._open[name] = item = Item(work, name, work.bytes)
            self._backlog.put(item)

    def planned_all(self) -> None:
        self._all_planned = True

    @property
    def backlog(self) -> int:
        """Slices waiting to be sent: the planner may rest while there are many."""
        return len(self._backlog)

    @property
    def open(self) -> int:
        """Slices added and neither finished nor given up."""
        return len(self._open)

    @property
    def given_up(self) -> int:
        """Slices that will not be done in this run."""
        return len(self._given_up)

    # what happened

    def happened(self, event: Event, now: float) -> None:
        match event:
            case Replied():
                self._replied(event, now)
            case Ready(number):
                self._staff.ready(number)
            case StartFailed():
                self._staff.start_failed(event, now)
            case Died():
                self._died(event, now)

    def looked(self, work: Slice, receipt: Receipt | None, now: float) -> None:
        """What the store says of a slice after an error."""
        item = self._open.get(work.id)
        if item is None or item.state != "looking":
            return
        if receipt is not None:
            self._finish(item, receipt)
            return
        self._looking -= 1
        item.looks = 0
        self._judge(item, now)

    def look_failed(self, work: Slice, message: str, now: float) -> None:
        """The store did not answer: asked again later, for nothing may be handed out before it has."""
        item = self._open.get(work.id)
        if item is None or item.state != "looking":
            return
        item.looks += 1
        if self._agenda.stop is None and item.looks < LOOKS:
            self._agenda.at(now + self._budget.delay_s(item.looks), self._look, item)
            return
        self._looking -= 1
        item.state = "resting"
        self._agenda.end("failed", f"The store does not say whether slice {item.id[:8]} is done: {message}", "store", now)

    def stop(self, now: float, message: str, grace_s: float | None = None) -> None:
        """Hand out nothing more; what is aboard may finish within the grace period. May be called again, to hurry."""
        self._agenda.end("stopped", message, "signal", now, grace_s)

    # what to do now

    def poll(self, now: float) -> list[Action]:
        """Actions due at `now`. Call after every event, and when `wake_at` has come."""
        self._agenda.run_due(now)
        if self._agenda.stop is None and self.outcome is None:
            self._staff.fill(len(self._open), self._backlog.wants_cpu, now)
            self._hand_out(now)
        self._conclude()
        return self._agenda.take()

    def wake_at(self) -> float | None:
        """When `poll` has something to do even if nothing happens; may be early, never late."""
        return self._agenda.next_due()

    def _hand_out(self, now: float) -> None:
        """Every lane gets its first slice before any gets its second."""
        if self._backlog.wants_cpu and not self._staff.cpu_spare:
            self._backlog.release_cpu()
        if self._all_planned and len(self._backlog) <= TAIL * self._roster.places:
            self._backlog.longest_first()
        for lane in self._roster.idle() if self._backlog else ():
            self._send(lane, self._backlog.take(lane.place.kind, True, lane.place.reserve), now)
        for _ in range(self._roster.in_flight - 1 if self._backlog else 0):
            for lane in self._roster.with_room():
                self._send(lane, self._backlog.take(lane.place.kind, False, lane.place.reserve), now)

    def _send(self, lane: LaneState, item: Item | None, now: float) -> None:
        if item is None:
            return
        self._sent += 1
        attempt = self._attempt_id(self._sent)
        item.state = "aboard"
        self._roster.board(lane, attempt, item)
        if lane.head == attempt:
            self._watch(lane, now)
        self._agenda.do(Send(lane.number, item.slice, attempt))

    # answers and losses

    def _replied(self, event: Replied, now: float) -> None:
        lane, answer = self._roster.lanes.get(event.lane), event.answer
        item = self._leave(lane, event.attempt, now) if lane else None
        if item is not None and answer.slice_id != item.id:
            self._trouble(item, "bug", f"a lane answered for slice {answer.slice_id[:8]} when asked for {item.id[:8]}")
        elif isinstance(answer, Receipt):
            self._receive(lane, answer)
        elif item is not None:
            item.suspect = item.suspect or answer.kind == "device-sticky"
            self._trouble(item, answer.kind, answer.message, charged=answer.kind != "device-lost")
        if lane and isinstance(answer, Failure) and (not answer.lane_usable or answer.kind == "device-lost"):
            self._poisoned(lane, answer, now)

    def _leave(self, lane: LaneState, attempt: str, now: float) -> Item | None:
        was_head = lane.head == attempt
        item = self._roster.leave(lane, attempt)
        if was_head and lane.aboard:
            self._watch(lane, now)
        return item

    def _watch(self, lane: LaneState, now: float) -> None:
        """The clock of a slice runs while it is the oldest aboard: before, it may be waiting for the device."""
        self._agenda.at(now + self._retry.call_deadline_s, self._overdue, lane, lane.head)

    def _overdue(self, lane: LaneState, attempt: str, now: float) -> None:
        if lane.number in self._roster.lanes and lane.head == attempt:
            self._lose(lane, "lane-hung", f"no answer for {self._retry.call_deadline_s:g} s")
            self._staff.replace(lane.place, now)

    def _died(self, event: Died, now: float) -> None:
        lane = self._roster.lanes.get(event.lane)
        if lane is not None and lane.ready:
            self._lose(lane, event.kind, event.cause)
            self._staff.replace(lane.place, now)
        elif lane is not None:
            self._staff.start_failed(StartFailed(event.lane, event.cause, False), now)

    def _poisoned(self, lane: LaneState, answer: Failure, now: float) -> None:
        """The lane says itself that its process is of no more use. What else is aboard is not charged."""
        self._lose(lane, answer.kind, answer.message, blame=False)
        if answer.kind == "device-lost" and lane.place.kind == "gpu":
            self._staff.gpu_lost(lane.place, answer.message, now)
        else:
            self._staff.replace(lane.place, now)

    def _lose(self, lane: LaneState, cause: Cause, message: str, blame: bool = True) -> None:
        """Of what was aboard, only the oldest may be to blame; the others go back uncharged, and all are tried alone."""
        self._roster.remove(lane.number)
        self._agenda.do(KillLane(lane.number))  # also if it is said to be dead: nobody knows
        self._agenda.note("lane.lost", f"Lane {lane.number} ({lane.place.kind}) is gone: {message}")
        for place, item in enumerate(lane.aboard.values()):
            item.suspect = item.suspect or (cause != "device-lost" and item.state == "aboard")
            self._trouble(item, cause, message, charged=blame and place == 0)

    # slices

    def _receive(self, lane: LaneState | None, receipt: Receipt) -> None:
        """Also from a lane given up long ago: its file is staged."""
        if lane:
            lane.place.deaths, lane.place.lost_at = 0, None
        if item := self._open.get(receipt.slice_id):
            self._finish(item, receipt)

    def _finish(self, item: Item, receipt: Receipt) -> None:
        self._looking -= item.state == "looking"
        item.state = "done"
        del self._open[item.id]
        self._staff.progressed()
        self._agenda.do(Finished(item.slice, receipt))

    def _trouble(self, item: Item, cause: Cause, message: str, charged: bool = True) -> None:
        """An attempt ended without a receipt. Whatever the cause, the slice may be done: only the store knows."""
        if item.state == "aboard":
            item.trouble = Trouble(cause, message, charged)
            item.state = "looking"
            self._looking += 1
            self._look(item)

    def _look(self, item: Item, now: float = 0.0) -> None:
        if item.state == "looking":
            self._agenda.do(Look(item.slice))

    def _judge(self, item: Item, now: float) -> None:
        """Not in the store: try again at once, later, elsewhere, or never."""
        trouble = item.trouble
        if trouble is None:
            raise AssertionError("A slice is looked for without a cause. This is a bug.")
        if not trouble.charged:
            self._backlog.put(item, first=True)
        elif self._charge(item, trouble.cause) >= self._budget.tries(trouble.cause) or item.charged >= self._retry.attempts:
            self._spent(item, trouble, now)
        elif self._agenda.stop is None and not self._budget.spend(len(self._seen)):
            item.state = "resting"
            said = f"Too many retries ({self._budget.spent}). The last: {trouble.message}"
            self._agenda.end("failed", said, "retry-budget", now)
        else:
            self._rest(item, trouble.cause, now)

    def _charge(self, item: Item, cause: Cause) -> int:
        item.charged += 1
        item.causes[cause] = item.causes.get(cause, 0) + 1
        return item.causes[cause]

    def _rest(self, item: Item, cause: Cause, now: float) -> None:
        item.state = "resting"
        item.on_cpu = self._staff.cpu_spare and item.causes.get("device-sticky", 0) >= DEVICES
        if cause == "memory":
            self._roster.in_flight = 1  # fewer rows in memory at a time, for the rest of the run
        self._agenda.at(now + self._budget.delay_s(item.charged), self._rested, item)

    def _rested(self, item: Item, now: float) -> None:
        if item.state == "resting":
            self._backlog.put(item)

    def _spent(self, item: Item, trouble: Trouble, now: float) -> None:
        if RULES[trouble.cause].spent == "end":
            item.state = "resting"
            said = f"{trouble.message} (attempt {item.charged} of {self._retry.attempts})"
            self._agenda.end("failed", said, trouble.cause, now)
            return
        item.state = "failed"
        del self._open[item.id]
        self._staff.progressed()
        self._given_up.append(GiveUp(item.slice, trouble.cause, trouble.message, item.charged))
        self._agenda.do(self._given_up[-1])

    # the end

    def _grace_over(self, now: float) -> None:
        for lane in [lane for lane in self._roster.lanes.values() if lane.aboard]:
            self._lose(lane, "lane-hung", "the run was stopped", blame=False)
        for item in self._open.values():
            self._look(item)  # asked for the last time

    def _conclude(self) -> None:
        if self.outcome is not None:
            return
        failed = self._given_up
        if self._all_planned and not self._open:
            told = Outcome("failed", failed[0].message, failed[0].cause) if failed else Outcome("done")
        elif self._agenda.stop is not None and not self._roster.busy and not self._looking:
            told = self._agenda.stop
        else:
            return
        self.outcome = replace(told, failed=tuple((g.work, g.message) for g in failed))
        for number in self._roster.lanes:
            self._agenda.do(KillLane(number))
