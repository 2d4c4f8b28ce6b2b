"""The loop that joins a dispatcher that decides with a pool that does. Planning has a thread of its own; nothing here blocks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Protocol

from scoring.errors import StoreError, TemporaryError
from scoring.pool import LanePool, Ready
from scoring.pool.actions import Action, Finished, KillLane, Look, Outcome, Send, StartLane
from scoring.pool.dispatcher import Dispatcher
from scoring.pool.feed import Feed
from scoring.pool.journal import Journal
from scoring.types import Receipt, Slice

_TICK_S = 0.2  # how long to wait for news at most: signals are looked at this often
_PLANNING_TICK_S = 0.02  # while the planner may have something for an idle lane
_BACKLOG = 1_000  # slices waiting in the dispatcher before the planner rests

Find = Callable[[Slice], Receipt | None]
OnFinished = Callable[[Slice, Receipt], None]


class Planned(Protocol):
    """Slices as they come: `take` gives what is there without waiting."""

    finished: bool

    def take(self, most: int) -> list[Slice]: ...


def drive(
    dispatcher: Dispatcher,
    pool: LanePool,
    slices: Iterable[Slice | None],
    find: Find,
    on_finished: OnFinished,
    should_stop: Callable[[], str | bool | None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
    on_ready: Callable[[], None] = lambda: None,
    on_turn: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run until the dispatcher has an outcome.

    `slices` is pulled in the planner's thread; None stands for a slice that needs no lane.
    `should_stop` returns why, once the user wants to stop; `on_ready` hears of each lane that is ready; `on_turn` is called at each
    turn of the loop, at the latest every 0.2 s, and like all of these in the caller's thread.
    `find` may raise StoreError, TemporaryError or OSError: it is asked again.
    Raises: whatever planning, `on_finished` or `on_turn` raise, or else `find`; the pool is closed in any case.
    """
    feed = Feed(slices)
    try:
        return attend(dispatcher, pool, feed, find, on_finished, should_stop, clock, on_ready, on_turn)
    finally:
        feed.close()
        pool.close()


def attend(
    dispatcher: Dispatcher,
    pool: LanePool,
    feed: Planned,
    find: Find,
    on_finished: OnFinished,
    should_stop: Callable[[], str | bool | None],
    clock: Callable[[], float],
    on_ready: Callable[[], None] = lambda: None,
    on_turn: Callable[[], None] = lambda: None,
    tick_s: float = _TICK_S,
) -> Outcome:
    """The loop itself, in one thread: plan, decide, act, wait."""
    planned_all, journal = False, Journal()
    while True:
        if not planned_all:
            planned_all = _plan(dispatcher, feed)
        if why := should_stop():
            dispatcher.stop(clock(), why if isinstance(why, str) else "asked to stop")
        actions = dispatcher.poll(clock())
        for action in actions:
            journal.acted(action)
            _perform(action, dispatcher, pool, find, on_finished, clock)
        on_turn()
        if dispatcher.outcome is not None:
            return dispatcher.outcome
        looked = any(isinstance(action, Look) for action in actions)
        for event in pool.wait(0.0 if looked else _patience(dispatcher, clock(), tick_s, planned_all)):
            journal.happened(event)
            if isinstance(event, Ready):
                on_ready()
            dispatcher.happened(event, clock())


def _plan(dispatcher: Dispatcher, feed: Planned) -> bool:
    for work in feed.take(_BACKLOG - dispatcher.backlog):
        dispatcher.add(work)
    if feed.finished:
        dispatcher.planned_all()
    return feed.finished


def _patience(dispatcher: Dispatcher, now: float, tick_s: float, planned_all: bool) -> float:
    """Seconds until there is something to do even if nothing happens."""
    if not planned_all and not dispatcher.backlog:
        tick_s = min(tick_s, _PLANNING_TICK_S)
    due = dispatcher.wake_at()
    return tick_s if due is None else max(0.0, min(tick_s, due - now))


def _perform(
    action: Action,
    dispatcher: Dispatcher,
    pool: LanePool,
    find: Find,
    on_finished: OnFinished,
    clock: Callable[[], float],
) -> None:
    match action:
        case Send(lane, work, attempt):
            pool.send(lane, work, attempt)
        case Finished(work, receipt):
            on_finished(work, receipt)
        case Look(work):
            _look(dispatcher, work, find, clock)
        case StartLane(lane, kind):
            pool.start(lane, kind)
        case KillLane(lane):
            pool.kill(lane)


def _look(dispatcher: Dispatcher, work: Slice, find: Find, clock: Callable[[], float]) -> None:
    try:
        receipt = find(work)
    except (StoreError, TemporaryError, OSError) as error:
        dispatcher.look_failed(work, str(error), clock())
    else:
        dispatcher.looked(work, receipt, clock())
