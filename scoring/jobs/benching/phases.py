"""What the lanes of one measurement are given, phase by phase: a phase begins when the one before is over and all lanes are ready.

The first phase opens the lanes, the last is the one that counts. What lies between warms up and, where nobody said how many rows
to take, finds out how many last as long as was asked for.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from scoring.jobs.benching.sample import Sample
from scoring.types import Receipt, Slice

_OPENING_ROWS = 1_000  # for each lane
_GROWTH = 8  # of the sample, until it lasts long enough to tell the rate by
_TELLING = 0.25  # of the time that is asked for
_WARM = 0.2  # of the rows that are asked for
_FLOOR = 2_000  # rows of a sample
_DEEP = 2  # slices of a phase for each that lanes hold at once


@dataclass
class Phase:
    """`seconds` from the moment it may begin to its last receipt."""

    slices: int
    bytes: int
    began: float
    rows: int = 0
    finished: int = 0
    seconds: float = 0.0
    stages: Counter[str] = field(default_factory=Counter)
    routes: Counter[str] = field(default_factory=Counter)
    work: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    device: str = ""


class Phases:
    """`slices` runs in the planner's thread, all else in the driver's. `rows` None: find out what lasts `seconds`."""

    def __init__(self, sample: Sample, lanes: int, in_flight: int, rows: int | None, seconds: float) -> None:
        self._sample, self._lanes, self._pieces = sample, lanes, lanes * in_flight * _DEEP
        self._rows, self._seconds = rows, seconds
        self._news = threading.Condition()
        self._phase: Phase | None = None
        self._ready, self._over, self._counting = 0, False, False
        self.exhausted = False  # the sample that counts is all there is
        self.ready_at = 0.0
        self.asked = 0  # rows of the phase that counts

    @property
    def counted(self) -> bool:
        """Whether the phase that counts is over."""
        return self._counting and self.last is not None

    @property
    def last(self) -> Phase | None:
        """The newest phase, once it is over."""
        return self._phase if self._phase is not None and self._phase.finished == self._phase.slices else None

    def slices(self) -> Iterator[Slice]:
        yield from self._one(_OPENING_ROWS * self._lanes, "open")
        rows = self._rows
        if rows is None:
            rows = yield from self._found_out()
        else:
            yield from self._one(max(int(rows * _WARM), 1), "warm")
        if not self._over:
            self.asked, self._counting = rows, True
            yield from self._one(rows, "counted")

    def ready(self) -> None:
        with self._news:
            self._ready += 1
            self.ready_at = time.monotonic()
            self._news.notify()

    def finished(self, receipt: Receipt) -> None:
        with self._news:
            phase = self._phase
            assert phase is not None
            phase.finished += 1
            phase.rows += receipt.rows_in
            phase.seconds = time.monotonic() - phase.began
            phase.stages.update(receipt.seconds)
            phase.routes.update(receipt.routes)
            phase.work.update(receipt.work)
            phase.notes.update(receipt.notes)
            phase.device = receipt.device
            self._news.notify()

    def end(self) -> None:
        """Nothing more is wanted: something failed."""
        with self._news:
            self._over = True
            self._news.notify()

    def _found_out(self) -> Generator[Slice, None, int]:
        rows = _FLOOR
        while True:
            yield from self._one(rows, f"look-{rows}")
            if self._over or self._phase is None:
                return rows
            seen, seconds = self._phase.rows, max(self._phase.seconds, 1e-6)
            if seconds >= _TELLING * self._seconds or seen < rows / _GROWTH or rows >= (self._sample.rows or rows + 1):
                return max(1, int(rows / seconds * self._seconds))
            rows *= _GROWTH

    def _one(self, rows: int, mark: str) -> Iterator[Slice]:
        """A phase, to its end."""
        chosen = self._sample.take(rows, self._pieces, mark)
        with self._news:
            self._phase = Phase(len(chosen), sum(work.bytes for work in chosen), time.monotonic())
        yield from chosen
        with self._news:
            self._news.wait_for(self._is_over)
            self.exhausted = self._sample.rows is not None and self._phase.rows >= self._sample.rows

    def _is_over(self) -> bool:
        assert self._phase is not None
        lanes = min(self._lanes, self._phase.slices)
        return self._over or (self._phase.finished == self._phase.slices and self._ready >= lanes)
