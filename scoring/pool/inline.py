"""Lanes in this process, without Ray: notebooks, debugging, bare GPU machines. It is the meaning of the Ray pool.

A lane that cannot be killed (it is ourselves) is forgotten instead: its threads are daemons, what it still says is not heard, and
what it still stages is kept out by put-if-absent.
"""

from __future__ import annotations

import queue
import threading

from scoring.log import about
from scoring.pool import Event, Lane, LaneFactory, LaneKind, Ready, Replied, StartFailed
from scoring.pool.opening import NotOpened, facts, open_lane, process
from scoring.types import Slice

_Calls = queue.SimpleQueue[tuple[Slice, str] | None]


class InlinePool:
    """`in_flight` slices of a lane run at a time, so that one is read while another computes."""

    def __init__(self, factory: LaneFactory, in_flight: int) -> None:
        self._factory = factory
        self._in_flight = in_flight
        self._calls: dict[int, _Calls] = {}
        self._facts: dict[int, dict[str, str]] = {}
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def start(self, lane: int, kind: LaneKind) -> None:
        """Builds the lane here and now: the one step of this pool that waits."""
        with about(lane=lane):
            built = open_lane(self._factory, kind)
        if isinstance(built, NotOpened):
            self._events.put(StartFailed(lane, built.message, built.permanent, built.kind))
            return
        calls = self._calls[lane] = queue.SimpleQueue()
        for n in range(self._in_flight):
            threading.Thread(target=self._work, args=(lane, built, calls), name=f"lane-{lane}.{n}", daemon=True).start()
        self._facts[lane] = facts(built)
        self._events.put(Ready(lane, self._facts[lane]))

    def send(self, lane: int, work: Slice, attempt: str) -> None:
        self._calls[lane].put((work, attempt))

    def kill(self, lane: int) -> None:
        calls = self._calls.pop(lane, None)
        self._facts.pop(lane, None)
        if calls is not None:
            for _ in range(self._in_flight):
                calls.put(None)

    def wait(self, timeout_s: float) -> list[Event]:
        found: list[Event] = []
        try:
            found.append(self._events.get(timeout=timeout_s) if timeout_s > 0 else self._events.get_nowait())
            while True:
                found.append(self._events.get_nowait())
        except queue.Empty:
            return found

    def describe(self) -> dict[int, dict[str, str]]:
        return dict(self._facts)

    def close(self) -> None:
        for lane in list(self._calls):
            self.kill(lane)

    def _work(self, number: int, lane: Lane, calls: _Calls) -> None:
        with about(lane=number):
            while (call := calls.get()) is not None:
                if number in self._calls:  # else killed: what was queued is not begun
                    self._events.put(Replied(number, call[1], process(lane, *call)))
