"""The loop that joins a dispatcher that decides with a pool that does. Planning runs in a thread of its own; nothing here blocks."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable

from scoring.pool import LanePool, Ready
from scoring.pool.dispatcher import Dispatcher, Finished, KillLane, Look, Outcome, Send, StartLane
from scoring.types import Receipt, Slice

_TICK_S = 0.2  # how long to wait for news at most: deadlines and signals are looked at this often
_BACKLOG = 1_000  # slices waiting in the dispatcher before the planner rests
_PLANNED = None


def drive(
    dispatcher: Dispatcher,
    pool: LanePool,
    slices: Iterable[Slice],
    find: Callable[[Slice], Receipt | None],
    on_finished: Callable[[Slice, Receipt], None],
    should_stop: Callable[[], str | None] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
    on_ready: Callable[[], None] = lambda: None,
) -> Outcome:
    """Run until the dispatcher has an outcome. `should_stop` returns why, once the user wants to stop; `on_ready` hears of each lane.

    Raises: whatever planning, `find` or `on_finished` raise; the pool is closed in any case.
    """
    planner = _Planner(slices)
    try:
        while dispatcher.outcome is None:
            planner.feed(dispatcher)
            if why := should_stop():
                dispatcher.stop(clock(), why)
            for action in dispatcher.poll(clock()):
                _perform(action, dispatcher, pool, find, on_finished, clock)
            if dispatcher.outcome is None:
                for event in pool.wait(_TICK_S):
                    if isinstance(event, Ready):
                        on_ready()
                    dispatcher.happened(event, clock())
        return dispatcher.outcome
    finally:
        planner.close()
        pool.close()


def _perform(
    action: object,
    dispatcher: Dispatcher,
    pool: LanePool,
    find: Callable[[Slice], Receipt | None],
    on_finished: Callable[[Slice, Receipt], None],
    clock: Callable[[], float],
) -> None:
    match action:
        case StartLane(lane=lane, kind=kind):
            pool.start(lane, kind)
        case Send(lane=lane, work=work, attempt=attempt):
            pool.send(lane, work, attempt)
        case KillLane(lane=lane):
            pool.kill(lane)
        case Look(work=work):
            dispatcher.looked(work, find(work), clock())
        case Finished(work=work, receipt=receipt):
            on_finished(work, receipt)


class _Planner:
    """Pulls slices in a thread, so that reading footers and scoring overlap."""

    def __init__(self, slices: Iterable[Slice]) -> None:
        self._queue: queue.Queue[Slice | BaseException | None] = queue.Queue(_BACKLOG)
        self._closed = threading.Event()
        self._finished = False
        self._thread = threading.Thread(target=self._run, args=(slices,), name="plan", daemon=True)
        self._thread.start()

    def feed(self, dispatcher: Dispatcher) -> None:
        """Hand over what has been planned so far. Raises: what planning raised."""
        while not self._finished and dispatcher.backlog < _BACKLOG:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return
            if isinstance(item, BaseException):
                raise item
            if item is _PLANNED:
                self._finished = True
                dispatcher.planned_all()
            else:
                dispatcher.add(item)

    def close(self) -> None:
        self._closed.set()
        self._thread.join(timeout=5)

    def _run(self, slices: Iterable[Slice]) -> None:
        try:
            for work in slices:
                if not self._put(work):
                    return
            self._put(_PLANNED)
        except BaseException as error:  # handed to the driver's thread
            self._put(error)

    def _put(self, item: Slice | BaseException | None) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False
