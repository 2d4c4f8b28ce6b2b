"""Many slices on many lanes. `dispatcher` decides and does no I/O; `inline` and `ray` do and decide nothing; `drive` joins them.

A pool is handed a lane factory and does not know the engine. What moves between processes is a Slice one way and a Receipt or a
Failure back. Liveness and replies are not trusted: after every error the store is asked before work is handed out again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from scoring.types import Failure, FailureKind, Receipt, Slice

LaneKind = Literal["gpu", "cpu"]
Cause = FailureKind | Literal["lane-died", "lane-hung"]  # why an attempt ended without a receipt


class Lane(Protocol):
    """One model on one device; long-lived. Expected failures come back as records, never as exceptions."""

    def process(self, work: Slice, attempt: str) -> Receipt | Failure: ...

    def describe(self) -> dict[str, str]: ...


LaneFactory = Callable[[LaneKind], Lane]


@dataclass(frozen=True)
class Ready:
    lane: int
    facts: dict[str, str]


@dataclass(frozen=True)
class StartFailed:
    """`permanent`: building the lane raised, so that building it again would too. `kind` "device-lost": there is no such device."""

    lane: int
    cause: str
    permanent: bool
    kind: FailureKind = "bug"


@dataclass(frozen=True)
class Died:
    """The lane is said to be gone. `kind` "memory": its machine ran out of memory."""

    lane: int
    cause: str
    kind: Literal["lane-died", "memory"] = "lane-died"


@dataclass(frozen=True)
class Replied:
    lane: int
    attempt: str
    answer: Receipt | Failure


Event = Ready | StartFailed | Died | Replied


class LanePool(Protocol):
    """Does what the dispatcher says. `wait` returns what happened, at the latest after `timeout_s`; nothing else may block."""

    def start(self, lane: int, kind: LaneKind) -> None: ...

    def send(self, lane: int, work: Slice, attempt: str) -> None: ...

    def kill(self, lane: int) -> None: ...

    def wait(self, timeout_s: float) -> list[Event]: ...

    def describe(self) -> dict[int, dict[str, str]]:
        """What every ready lane says of itself; "pid" and "host" are always there."""
        ...

    def close(self) -> None: ...
