"""The lanes there are, the places for lanes, and who has room. Bookkeeping only: what follows from it, the dispatcher decides."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from scoring.pool import LaneKind
from scoring.pool.backlog import Item


@dataclass(slots=True, eq=False)
class Place:
    """Room for one lane. Lanes come and go, their troubles are counted here. `reserve`: only for slices that broke devices."""

    kind: LaneKind
    failed_starts: int = 0  # since a lane here was ready
    deaths: int = 0  # since a lane here finished a slice
    lost_at: float | None = None  # when its GPU went, if nothing was finished since
    reserve: bool = False


@dataclass(slots=True, eq=False)
class LaneState:
    """`aboard` maps attempts to items, the oldest first: the head is the one to blame."""

    number: int
    place: Place
    ready: bool = False
    aboard: dict[str, Item] = field(default_factory=dict)
    alone: bool = False  # a suspect is aboard: nothing else may be

    @property
    def head(self) -> str | None:
        return next(iter(self.aboard), None)


class Roster:
    """`in_flight` is the most slices a lane may have aboard."""

    def __init__(self, target: int, kind: LaneKind, in_flight: int) -> None:
        self.in_flight = in_flight
        self.lanes: dict[int, LaneState] = {}
        self.vacant: deque[Place] = deque(Place(kind) for _ in range(target))  # may be filled now
        self.places = target  # not given up: filled, vacant, or waiting to be vacant again
        self.reserve: Place | None = Place("cpu", reserve=True)  # None: filled, or given up
        self.busy = 0  # slices aboard
        self._numbered = 0
        self._room: list[dict[int, LaneState]] = [{}, {}]  # idle lanes; busy lanes with room

    def fill(self, place: Place) -> LaneState:
        """A new lane in a place."""
        self._numbered += 1
        self.lanes[self._numbered] = lane = LaneState(self._numbered, place)
        return lane

    def remove(self, number: int) -> LaneState | None:
        lane = self.lanes.pop(number, None)
        if lane is not None:
            self.busy -= len(lane.aboard)
            for room in self._room:
                room.pop(number, None)
        return lane

    def ready(self, lane: LaneState) -> None:
        lane.ready = True
        self._sort(lane)

    def board(self, lane: LaneState, attempt: str, item: Item) -> None:
        lane.aboard[attempt] = item
        lane.alone = item.suspect
        self.busy += 1
        self._sort(lane)

    def leave(self, lane: LaneState, attempt: str) -> Item | None:
        """The item that an answer is about; None if this lane does not have it."""
        item = lane.aboard.pop(attempt, None)
        if item is not None:
            lane.alone = False
            self.busy -= 1
            self._sort(lane)
        return item

    def idle(self) -> list[LaneState]:
        return list(self._room[0].values())

    def with_room(self) -> list[LaneState]:
        """Busy lanes that may get more."""
        return [lane for lane in self._room[1].values() if len(lane.aboard) < self.in_flight]

    @property
    def crew(self) -> int:
        """Lanes, starting or ready, that take any slice."""
        return sum(not lane.place.reserve for lane in self.lanes.values())

    def has_cpu(self) -> bool:
        return any(lane.place.kind == "cpu" for lane in self.lanes.values())

    def _sort(self, lane: LaneState) -> None:
        idle, room = self._room
        idle.pop(lane.number, None)
        room.pop(lane.number, None)
        if not lane.aboard:
            idle[lane.number] = lane
        elif not lane.alone and len(lane.aboard) < self.in_flight:
            room[lane.number] = lane
