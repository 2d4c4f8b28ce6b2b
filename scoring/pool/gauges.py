"""How a run goes, as metrics of Ray while it goes on: whoever scrapes Ray sees them, with `ray_` before each name.

Ray's agents report every ten seconds. Set from the driver alone, which hears of every slice, and never at the run's cost: whatever
Ray thinks of a value stays here.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from scoring.types import Failure, Receipt

_SHOWN_EVERY_S = 1.0
_WINDOW_S = 60.0
_DEVICE = "score"  # the stage that a device works in
_BOUNDS_S = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]


class Gauges:
    """Of one job, `pipeline`. Raises nothing."""

    def __init__(self, pipeline: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._made = clock, False
        self._sent: dict[str, float] = {}  # attempt: when
        self._marks: deque[tuple[float, int, float]] = deque()  # when, rows, seconds of the device
        self._began, self._shown = clock(), 0.0
        with suppress(Exception):
            self._make({"pipeline": pipeline})
            self._made = True

    def _make(self, tags: dict[str, str]) -> None:
        def made(kind: type[Any], name: str, words: str, *keys: str, **more: Any) -> Any:
            return kind(name, words, tag_keys=("pipeline", *keys), **more).set_default_tags(tags)

        self._rows = made(Counter, "scoring_rows_total", "Rows of finished slices by what became of them.", "outcome")
        self._seconds = made(Counter, "scoring_stage_seconds_total", "Time of finished slices by stage.", "stage")
        self._failures = made(Counter, "scoring_slice_failures_total", "Attempts at slices that failed, by kind.", "kind")
        said = "Time from a lane being handed a slice to its answer, its wait in the lane's queue included."
        self._took = made(Histogram, "scoring_slice_seconds", said, boundaries=_BOUNDS_S)
        self._rate = made(Gauge, "scoring_rows_per_second", "Rows of finished slices per second of the last minute.")
        self._busy = made(Gauge, "scoring_device_busy_ratio", "Share of the lanes' last minute in which the model ran.")
        self._flight = made(Gauge, "scoring_slices_in_flight", "Slices in the hands of lanes.")
        self._lanes = made(Gauge, "scoring_lanes", "Lanes that are alive, by whether their model is loaded.", "state")

    def sent(self, attempt: str) -> None:
        self._sent[attempt] = self._clock()

    def replied(self, attempt: str, answer: Receipt | Failure) -> None:
        now = self._clock()
        took = now - self._sent.pop(attempt, now)
        if not self._made:
            return
        with suppress(Exception):
            self._took.observe(took)
            if isinstance(answer, Failure):
                self._failures.inc(1, {"kind": answer.kind})
                return
            self._marks.append((now, answer.counts.total, answer.seconds.get(_DEVICE, 0.0)))
            for outcome in ("scored", "quarantined", "suppressed"):
                if count := getattr(answer.counts, outcome):
                    self._rows.inc(count, {"outcome": outcome})
            for stage, seconds in answer.seconds.items():
                if seconds > 0:
                    self._seconds.inc(seconds, {"stage": stage})

    def lost(self, attempts: set[str]) -> None:
        """A lane is gone with what it had."""
        for attempt in attempts:
            self._sent.pop(attempt, None)

    def show(self, ready: int, starting: int, over: bool = False) -> None:
        """How it stands; what comes too soon after the last is left out, unless the run is `over`."""
        now = self._clock()
        if not self._made or (now - self._shown < _SHOWN_EVERY_S and not over):
            return
        self._shown = now
        while self._marks and now - self._marks[0][0] > _WINDOW_S:
            self._marks.popleft()
        window = max(min(now - self._began, _WINDOW_S), 1.0)
        with suppress(Exception):
            self._rate.set(0.0 if over else sum(rows for _, rows, _ in self._marks) / window)
            busy = sum(seconds for _, _, seconds in self._marks) / (window * ready) if ready else 0.0
            self._busy.set(0.0 if over else min(busy, 1.0))
            self._flight.set(len(self._sent))
            self._lanes.set(ready, {"state": "ready"})
            self._lanes.set(starting, {"state": "starting"})
