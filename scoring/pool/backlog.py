"""Slices that wait for a lane: in the order planned, the longest first at the end, suspects alone.

A suspect was aboard a lane that died or hung. It is sent only to an idle lane, which gets nothing else meanwhile: the next
death has one possible culprit, and a slice that kills lanes cannot spend the attempts of its neighbours.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from scoring.pool import Cause, LaneKind
from scoring.types import Slice


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the last attempt ended without a receipt, and whether the slice is to blame."""

    cause: Cause
    message: str
    charged: bool


@dataclass(slots=True, eq=False)
class Item:
    """A slice and all that is known about its attempts. Attempts are counted here, never with a lane."""

    slice: Slice
    id: str
    size: int
    state: Literal["waiting", "aboard", "looking", "resting", "done", "failed"] = "waiting"
    charged: int = 0
    causes: dict[Cause, int] = field(default_factory=dict)
    trouble: Trouble | None = None
    suspect: bool = False
    on_cpu: bool = False  # has broken two devices: the next try belongs where an error costs no process
    looks: int = 0


class Backlog:
    """O(1) in and out, O(log n) once the longest go first. Items whose state is no longer "waiting" are passed over."""

    def __init__(self) -> None:
        self._queue: deque[Item] = deque()
        self._longest: list[tuple[int, int, Item]] | None = None
        self._suspects: deque[Item] = deque()
        self._on_cpu: deque[Item] = deque()
        self._n = 0

    def __len__(self) -> int:
        return len(self._longest or self._queue) + len(self._suspects) + len(self._on_cpu)

    @property
    def wants_cpu(self) -> bool:
        return bool(self._on_cpu)

    def put(self, item: Item, first: bool = False) -> None:
        """`first`: before all others of its sort."""
        item.state = "waiting"
        self._n += 1
        if item.on_cpu or item.suspect:
            queue = self._on_cpu if item.on_cpu else self._suspects
        elif self._longest is not None:
            return heapq.heappush(self._longest, (-item.size, self._n, item))
        else:
            queue = self._queue
        queue.appendleft(item) if first else queue.append(item)

    def longest_first(self) -> None:
        """From now on; called when nothing more is planned and few are left, so that no lane ends long after the others."""
        if self._longest is None:
            self._longest = [(-item.size, n - len(self._queue), item) for n, item in enumerate(self._queue)]
            heapq.heapify(self._longest)
            self._queue.clear()

    def release_cpu(self) -> None:
        """There will be no CPU lane: let slices that wait for one take their chance on any lane."""
        while self._on_cpu:
            item = self._on_cpu.popleft()
            item.on_cpu = False
            self._suspects.append(item)

    def take(self, kind: LaneKind, idle: bool, reserve: bool = False) -> Item | None:
        """The next slice for a lane of this kind. `reserve`: a lane that is there for what broke devices, and nothing else."""
        if idle and kind == "cpu" and (item := _first(self._on_cpu)):
            return item
        if reserve:
            return None
        if item := _first(self._suspects) if idle else None:
            return item
        return None if self._waiting_suspects() else self._ordinary()

    def _waiting_suspects(self) -> bool:
        """While one waits no busy lane gets more, so that one falls idle soon."""
        while self._suspects and self._suspects[0].state != "waiting":
            self._suspects.popleft()
        return bool(self._suspects)

    def _ordinary(self) -> Item | None:
        if self._longest is None:
            return _first(self._queue)
        while self._longest:
            item = heapq.heappop(self._longest)[2]
            if item.state == "waiting":
                return item
        return None


def _first(queue: deque[Item]) -> Item | None:
    while queue:
        item = queue.popleft()
        if item.state == "waiting":
            return item
    return None
