"""Lanes in this process, without Ray: notebooks, debugging, bare GPU machines. It is the meaning of the Ray pool.

A lane that cannot be killed (it is ourselves) is forgotten instead; its threads end with the process.
"""

from __future__ import annotations

import queue
from concurrent.futures import ThreadPoolExecutor

from scoring.pool import Died, Event, Lane, LaneFactory, LaneKind, Ready, Replied, StartFailed
from scoring.types import Slice


class InlinePool:
    """`in_flight` slices of a lane run at a time, so that one is read while another computes."""

    def __init__(self, factory: LaneFactory, in_flight: int) -> None:
        self._factory = factory
        self._in_flight = in_flight
        self._lanes: dict[int, tuple[Lane, ThreadPoolExecutor]] = {}
        self._events: queue.Queue[Event] = queue.Queue()

    def start(self, lane: int, kind: LaneKind) -> None:
        try:
            built = self._factory(kind)
        except Exception as error:
            self._events.put(StartFailed(lane, f"{type(error).__name__}: {error}", permanent=True))
            return
        self._lanes[lane] = (built, ThreadPoolExecutor(self._in_flight, thread_name_prefix=f"lane-{lane}"))
        self._events.put(Ready(lane, built.describe()))

    def send(self, lane: int, work: Slice, attempt: str) -> None:
        self._lanes[lane][1].submit(self._process, lane, work, attempt)

    def kill(self, lane: int) -> None:
        if lane in self._lanes:
            self._lanes.pop(lane)[1].shutdown(wait=False, cancel_futures=True)

    def wait(self, timeout_s: float) -> list[Event]:
        try:
            found = [self._events.get(timeout=timeout_s)]
        except queue.Empty:
            return []
        while not self._events.empty():
            found.append(self._events.get_nowait())
        return found

    def close(self) -> None:
        for lane in list(self._lanes):
            self.kill(lane)

    def _process(self, lane: int, work: Slice, attempt: str) -> None:
        try:
            answer = self._lanes[lane][0].process(work, attempt)
        except BaseException as error:  # a lane answers with records; anything else is a broken lane
            self._events.put(Died(lane, f"{type(error).__name__}: {error}"))
        else:
            self._events.put(Replied(lane, attempt, answer))
