"""Many slices on many lanes. `dispatcher` decides and does no I/O; `inline` and `ray` do and decide nothing.

A pool is handed a lane factory and does not know the engine. What moves between processes is a Slice one way and a Receipt or a
Failure back. Liveness and replies are not trusted: after every error the store is asked before work is handed out again.
"""

from collections.abc import Callable
from typing import Protocol

from scoring.types import Failure, Receipt, Slice


class Lane(Protocol):
    """One model on one device; long-lived. Expected failures come back as records, never as exceptions."""

    def process(self, work: Slice, attempt: str) -> Receipt | Failure: ...

    def describe(self) -> dict[str, str]: ...

    def close(self) -> None: ...


LaneFactory = Callable[[], Lane]
