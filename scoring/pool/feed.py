"""Slices as they are planned, pulled in a thread of its own, so that reading footers and scoring overlap."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable

from scoring.types import Slice

_ROOM = 1_000  # slices planned ahead


class Feed:
    """`take` never waits. The thread is a daemon: a planner stuck in a dead mount does not keep the process alive."""

    def __init__(self, slices: Iterable[Slice | None]) -> None:
        """None is passed over: a planner that has nothing for a lane says so, to be asked whether it should go on."""
        self.finished = False
        self._queue: queue.Queue[Slice | BaseException | None] = queue.Queue(_ROOM)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(slices,), name="plan", daemon=True)
        self._thread.start()

    def take(self, most: int) -> list[Slice]:
        """At most so many slices that are there now; sets `finished` when there will be no more. Raises: what planning raised."""
        found: list[Slice] = []
        while not self.finished and len(found) < most:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if isinstance(item, BaseException):
                raise item
            if item is None:
                self.finished = True
            else:
                found.append(item)
        return found

    def close(self) -> None:
        self._closed.set()
        self._thread.join(timeout=5)

    def _run(self, slices: Iterable[Slice | None]) -> None:
        try:
            for work in slices:
                if self._closed.is_set() or (work is not None and not self._put(work)):
                    return
            self._put(None)
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
