"""A simulated cluster and store around the real dispatcher: virtual time, one seeded generator, no threads, no I/O.

Lanes crash at any point, freeze and wake up later as zombies that still stage, lie about what they did, start slowly or never; the
store fails to answer; the driver dies and a new one resumes. `Protocol` is how attempts commit and what the driver believes: the
real one, or a wrong one that the laws must catch.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

from scoring.pool import Died, Ready, Replied, StartFailed
from scoring.pool.actions import Finished, KillLane, Look, Send, StartLane
from scoring.pool.dispatcher import Dispatcher
from scoring.settings import Fallback, Retry
from scoring.types import Counts, Failure, Fragment, Receipt, Slice

RETRY = Retry(call_deadline_s=60.0, start_deadline_s=40.0, backoff_s=0.5, backoff_cap_s=5.0, grace_s=10.0, budget_extra=10**6)
MOST_STEPS = 6_000
FAILURES = ("disk", "store", "memory", "bug", "device-sticky", "device-lost")


@dataclass(frozen=True)
class Protocol:
    """`put`: how a result becomes visible. `look`: what the driver believes after an error. The rest are single mistakes."""

    put: str = "if-absent"  # rename-over | check-then-rename | unique-names | truncated-on-crash
    look: str = "store"  # never-there | always-there | no-answer
    reply_first: bool = False  # answer, then stage
    blind: bool = False  # neither deaths nor deadlines are noticed
    patient: bool = False  # attempts without end
    overload: bool = False  # every slice is sent to a second lane too, and results replace each other
    twice: bool = False  # a receipt is counted each time it comes


class Broken(AssertionError):  # noqa: N818 - a law is broken
    """A law does not hold."""


@dataclass
class Lane:
    epoch: int
    ready: bool = False
    dead: bool = False
    killed: bool = False
    aboard: set[str] = field(default_factory=set)


class World:
    """One schedule: `run` plays it and holds the laws."""

    def __init__(self, seed: int, protocol: Protocol) -> None:
        self.rng, self.protocol, self.seed = Random(seed), protocol, seed
        rng = self.rng
        count = rng.choice((0, 1, 2, 3, 5, 8, 12))
        self.slices = [Slice("all", (Fragment(f"/{seed}/{n}", "v", None, 0, rng.randrange(1, 99), 9),)) for n in range(count)]
        self.poison = {s.id for s in self.slices if rng.random() < 0.03}  # their input changed: no attempt can succeed
        self.in_flight, self.target = rng.randint(1, 3), rng.randint(1, 3)
        self.kind = rng.choice(("gpu", "cpu"))
        self.fallback = Fallback(gpu_lost=rng.choice(("cpu", "wait", "pause")), gpu_wait_s=100.0)
        self.trouble = rng.choice((0.0, 0.05, 0.15))  # how often things go wrong
        self.driver_deaths = rng.choice((0, 0, 0, 1, 2))
        self.store: dict[str, list[tuple[str, bool]]] = {}  # slice -> visible results (attempt, complete)
        self.seen: dict[str, str] = {}  # what was counted: it may never change
        self.queue: list[tuple[float, int, tuple[Any, ...]]] = []
        self.now, self.n, self.epoch = 0.0, 0, 0
        self.boot()

    # the driver

    def boot(self) -> None:
        """A new driver: knows nothing but the plan and the store; lanes of the old one go on for a while."""
        self.epoch += 1
        retry = RETRY if not self.protocol.patient else Retry(**{**RETRY.__dict__, "attempts": 10**9})
        name = f"{self.seed}.{self.epoch}"
        self.dispatcher = Dispatcher(
            self.target, self.kind, self.in_flight, retry, self.fallback, Random(self.rng.random()), lambda n: f"{name}.{n}"
        )
        self.lanes: dict[int, Lane] = {}
        self.sent: dict[str, tuple[int, str]] = {}  # slice -> lane and attempt that have it
        self.owes_look: set[str] = set()
        self.found: set[str] = set()
        self.finished: Counter[str] = Counter()
        self.charged: Counter[str] = Counter()
        for work in self.slices:
            self.dispatcher.add(work)
        self.dispatcher.planned_all()

    def run(self) -> None:
        for _ in range(MOST_STEPS):
            actions = self.dispatcher.poll(0.0 if self.protocol.blind else self.now)
            for action in actions:
                self.perform(action)
            if self.dispatcher.outcome is not None:
                return self.judge()
            if self.driver_deaths and self.rng.random() < 0.02:
                self.driver_deaths -= 1
                self.boot()
            elif not actions:
                self.advance()
        raise Broken("no end in sight")

    def advance(self) -> None:
        due = self.dispatcher.wake_at()
        if due is not None and (not self.queue or due < self.queue[0][0]):
            self.now = max(self.now, due)
        elif self.queue:
            self.now, _, event = heapq.heappop(self.queue)
            self.happen(*event)
        else:
            raise Broken("nothing will ever happen again")

    def perform(self, action: object) -> None:
        match action:
            case StartLane(lane=number):
                self.lanes[number] = Lane(self.epoch)
                self.start(number)
            case KillLane(lane=number):
                self.lanes[number].killed = True
            case Send(lane=number, work=work, attempt=attempt):
                self.sending(number, work, attempt)
            case Look(work=work):
                self.look(work)
            case Finished(work=work, receipt=receipt):
                self.count(work, receipt)

    # lanes

    def start(self, number: int) -> None:
        chance = self.rng.random()
        if chance < self.trouble * 0.3:
            return  # never answers: the deadline must find out
        if chance < self.trouble:
            self.later(self.rng.random() * 9, "start-failed", number, self.epoch)
        else:
            self.later(self.rng.random() * 9, "ready", number, self.epoch)

    def sending(self, number: int, work: Slice, attempt: str) -> None:
        lane = self.lanes[number]
        self.law(lane.ready and not lane.killed, "work for a lane that is not there")
        self.law(len(lane.aboard) < self.in_flight, "more in flight than allowed")
        self.law(work.id not in self.owes_look, "handed out again without a look")
        self.law(work.id not in self.found and not self.finished[work.id], "handed out again though it is done")
        self.law(work.id not in self.sent, "handed out while another lane has it")
        self.law(self.charged[work.id] < RETRY.attempts, "more attempts than allowed")
        lane.aboard.add(attempt)
        self.sent[work.id] = (number, attempt)
        self.attempt(number, work, attempt)
        if self.protocol.overload:
            self.attempt(number, work, attempt + "'")

    def attempt(self, number: int, work: Slice, attempt: str) -> None:
        """Decide the fate of an attempt: it ends in some of stage, reply, death."""
        rng, took, chance = self.rng, self.rng.random() * 10, self.rng.random()
        stage, reply = ("stage", number, self.epoch, work, attempt), ("reply", number, self.epoch, work, attempt)
        if work.id in self.poison:
            self.later(took, "fail", number, self.epoch, work, attempt, "input")
        elif chance < self.trouble:  # the lane dies, before or after staging, or frozen, to wake up long after
            fate = rng.choice(("before", "during", "after", "zombie"))
            if fate in ("after", "zombie"):
                self.later(took if fate == "after" else rng.random() * 400, *stage)
            elif fate == "during":
                self.later(took, "half", number, self.epoch, work, attempt)
            elif self.protocol.reply_first:
                self.later(took, *reply)
            if fate != "zombie":
                self.later(took + rng.random(), "die", number, self.epoch)
        elif chance < 2 * self.trouble:  # an error is reported, truly or not
            if rng.random() < 0.3:
                self.later(took, *stage)
            self.later(took, "fail", number, self.epoch, work, attempt, rng.choice(FAILURES))
        else:
            self.later(took, *(reply if self.protocol.reply_first else stage))
            self.later(took + 0.01, *(stage if self.protocol.reply_first else reply))

    def happen(self, what: str, number: int, epoch: int, *rest: Any) -> None:
        lane = self.lanes.get(number) if epoch == self.epoch else None
        if what == "rename":
            return self.rename(*rest)
        if what in ("stage", "half"):
            return self.stage(what, *rest)
        if lane is None or lane.dead:
            return None
        if what == "ready":
            lane.ready = not lane.killed
            return self.tell(Ready(number, {}), lane)
        if what == "start-failed":
            lane.dead = True
            return self.tell(StartFailed(number, "cannot", permanent=False), lane)
        if what == "die":
            lane.dead = True
            return self.tell(Died(number, "SIGKILL"), lane)
        return self.answer(number, lane, what, *rest)

    def answer(self, number: int, lane: Lane, what: str, work: Slice, attempt: str, kind: str = "") -> None:
        lane.aboard.discard(attempt)
        if what == "reply":
            visible = self.store.get(work.id)
            if visible is None and not self.protocol.reply_first:
                return  # it could not stage: the deadline finds out
            self.tell(Replied(number, attempt, receipt(work, visible[0][0] if visible else attempt)), lane)
            return
        if self.sent.get(work.id) == (number, attempt):
            self.owes_look.add(work.id)
            self.charged[work.id] += kind != "device-lost"
            del self.sent[work.id]
        usable = not kind.startswith("device")
        self.tell(Replied(number, attempt, Failure(work.id, attempt, kind, kind, usable)), lane)  # type: ignore[arg-type]

    def tell(self, event: Any, lane: Lane) -> None:
        """What reaches the dispatcher. Its own view of who has what is dropped where a lane is gone."""
        if isinstance(event, Died) and not lane.killed:
            for slice_id, (number, _) in list(self.sent.items()):
                if number == event.lane:
                    del self.sent[slice_id]
                    self.owes_look.add(slice_id)
        if not (self.protocol.blind and isinstance(event, Died)):
            self.dispatcher.happened(event, self.now)

    # the store

    def stage(self, what: str, work: Slice, attempt: str) -> None:
        """An attempt makes its result visible, or dies in the middle of it."""
        visible = self.store.setdefault(work.id, [])
        match self.protocol.put, what:
            case "unique-names", _:  # data first, then a marker that a crash may leave out: data stays either way
                visible.append((attempt, True))
            case "truncated-on-crash", "half":
                visible[:] = visible or [(attempt, False)]
            case _, "half":
                pass
            case "rename-over", _:
                visible[:] = [(attempt, True)]
            case "check-then-rename", _:
                if not visible:
                    self.later(self.rng.random() * 3, "rename", 0, -1, work, attempt)
            case _:
                visible[:] = [(attempt, True)] if self.protocol.overload else visible or [(attempt, True)]
        if not visible:
            del self.store[work.id]

    def look(self, work: Slice) -> None:
        if work.id in self.sent:
            del self.sent[work.id]  # the dispatcher gave its lane up
        if self.rng.random() < self.trouble or self.protocol.look == "no-answer":
            if self.protocol.look != "no-answer":
                self.dispatcher.look_failed(work, "503", self.now)
            return
        self.owes_look.discard(work.id)
        visible = self.store.get(work.id)
        if visible:
            self.found.add(work.id)
        believed = {"never-there": None, "always-there": [("?", True)]}.get(self.protocol.look, visible)
        self.dispatcher.looked(work, receipt(work, believed[0][0]) if believed else None, self.now)

    def count(self, work: Slice, found: Receipt) -> None:
        self.sent.pop(work.id, None)
        self.finished[work.id] += 1 + self.protocol.twice
        before = self.seen.setdefault(work.id, found.attempt)
        self.law(before == found.attempt, "what was counted has changed")

    # the laws

    def judge(self) -> None:
        outcome = self.dispatcher.outcome
        assert outcome is not None
        while self.queue:  # zombies wake up after the end, too
            self.now, _, event = heapq.heappop(self.queue)
            if event[0] in ("stage", "half", "rename"):
                self.happen(*event)
        named = {work.id for work, _ in outcome.failed}
        for work in self.slices:
            self.law(self.finished[work.id] <= 1, "counted twice")
            self.law(not (self.finished[work.id] and work.id in named), "done and failed")
            if outcome.ending == "done" or (outcome.kind == "input" and work.id not in named):
                self.law(self.finished[work.id] == 1, "lost")
            if work.id in self.seen:
                visible = self.store.get(work.id, [])
                self.law(visible == [(self.seen[work.id], True)], f"a reader sees {visible}, {self.seen[work.id]} was counted")
        if not self.poison and not self.trouble:
            self.law(outcome.ending == "done", f"undisturbed, but {outcome.ending}")

    def rename(self, work: Slice, attempt: str) -> None:
        self.store[work.id] = [(attempt, True)]

    def later(self, delay: float, *event: Any) -> None:
        self.n += 1
        heapq.heappush(self.queue, (self.now + delay, self.n, event))

    def law(self, holds: bool, what: str) -> None:
        if not holds:
            raise Broken(f"{what} (seed {self.seed})")


def receipt(work: Slice, attempt: str) -> Receipt:
    return Receipt(work.id, work.partition, attempt, work.rows, Counts(work.rows))
