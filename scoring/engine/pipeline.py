"""Stages in a row: each in a thread of its own, joined by bounded queues, or all in turn in the caller's.

Memory is bounded by (stages x depth) items however long the input is. The first error wins: it stops every stage and is raised in
the caller's thread. Knows nothing of rows.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from functools import partial
from typing import Any

_END = object()
_POLL_S = 0.05  # how often a blocked stage looks whether the pipeline has been stopped


class Pipeline:
    """`seconds` holds the busy time of each stage, waits excluded.

    `depth` items wait before each stage; with 0 there are no threads, and an item passes all stages before the next is taken. That
    is for a core to itself: an item stays in its cache, and no stage takes core or interpreter lock from another (a tenth).
    """

    def __init__(self, depth: int = 2) -> None:
        self.seconds: dict[str, float] = {}
        self._depth = depth
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._lock = threading.Lock()

    def run(self, source: tuple[str, Iterable[Any]], *stages: tuple[str, Callable[[Any], Any]]) -> None:
        """Drive every item of the source through all stages, in order; the last stage runs in the caller's thread.

        Raises: the first exception that the source or a stage raised.
        """
        if not self._depth:
            return self._in_turn(source, *stages)
        queues = [queue.Queue[Any](self._depth) for _ in stages]
        jobs = [(source[0], partial(self._pump, source[0], iter(source[1]), queues[0]))]
        for n, (name, work) in enumerate(stages[:-1]):
            jobs.append((name, partial(self._pump, name, self._apply(queues[n], work), queues[n + 1])))
        threads = [  # with what the caller is about, for what they may log
            threading.Thread(target=copy_context().run, args=(self._guard, job), name=name, daemon=True) for name, job in jobs
        ]
        for thread in threads:
            thread.start()
        name, work = stages[-1]
        self._guard(lambda: self._pump(name, self._apply(queues[-1], work), None))
        for thread in threads:
            thread.join()
        if self._error is not None:
            raise self._error

    def _in_turn(self, source: tuple[str, Iterable[Any]], *stages: tuple[str, Callable[[Any], Any]]) -> None:
        items = iter(source[1])
        first, rest = (source[0], lambda _: next(items, _END)), stages
        self.seconds = {name: 0.0 for name, _ in (first, *rest)}
        while (item := self._timed(*first, None)) is not _END:
            for name, work in rest:
                item = self._timed(name, work, item)

    def _timed(self, name: str, work: Callable[[Any], Any], item: Any) -> Any:
        began = time.perf_counter()
        done = work(item)
        self.seconds[name] += time.perf_counter() - began
        return done

    def _guard(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # a reader may panic past Exception; it must stop the others, not hang them
            with self._lock:
                self._error = self._error or error
            self._stop.set()

    def _pump(self, name: str, items: Iterator[Any], out: queue.Queue[Any] | None) -> None:
        busy = 0.0
        while not self._stop.is_set():
            waited = self._waited()
            began = time.perf_counter()
            item = next(items, _END)
            busy += time.perf_counter() - began - (self._waited() - waited)
            if out is not None:
                self._put(out, item)
            if item is _END:
                break
        with self._lock:
            self.seconds[name] = self.seconds.get(name, 0.0) + busy

    def _apply(self, items: queue.Queue[Any], work: Callable[[Any], Any]) -> Iterator[Any]:
        while (item := self._get(items)) is not _END:
            yield work(item)

    def _put(self, out: queue.Queue[Any], item: Any) -> None:
        while not self._stop.is_set():
            try:
                return out.put(item, timeout=_POLL_S)
            except queue.Full:
                continue

    def _get(self, items: queue.Queue[Any]) -> Any:
        began = time.perf_counter()
        try:
            while not self._stop.is_set():
                try:
                    return items.get(timeout=_POLL_S)
                except queue.Empty:
                    continue
            return _END
        finally:
            _waits.seconds = self._waited() + time.perf_counter() - began

    @staticmethod
    def _waited() -> float:
        return getattr(_waits, "seconds", 0.0)


_waits = threading.local()
