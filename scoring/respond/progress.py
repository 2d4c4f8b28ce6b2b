"""How far a run is: a live bar on a terminal, plain lines otherwise, progress.json always. Cannot fail or slow a run.

Totals come from footers and grow while planning goes on; the rate is that of the last minute; the ETA is a range, because the
rate is.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections import deque
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from scoring.stores import Store
from scoring.types import Counts, Receipt, RunRecord, Slice

_LINE_EVERY_S = 5.0
_FILE_EVERY_S = 1.0
_WINDOW_S = 60.0


class Meter:
    """Rows and time; no output. `now` is seconds of any clock that does not jump."""

    def __init__(self, now: float) -> None:
        self._began = now
        self.counts = Counts()
        self.planned_rows = self.planned_slices = self.done_slices = 0
        self._marks: deque[tuple[float, int]] = deque([(now, 0)])

    def planned(self, work: Slice) -> None:
        self.planned_rows += work.rows
        self.planned_slices += 1

    def finished(self, receipt: Receipt, now: float) -> None:
        if not self.done_slices:  # what came before the first slice was start-up, which says nothing of the rate
            self._began = now - sum(receipt.seconds.values())
            self._marks = deque([(self._began, 0)])
        self.counts += receipt.counts
        self.done_slices += 1
        self._marks.append((now, self.counts.total))
        while len(self._marks) > 2 and now - self._marks[0][0] > _WINDOW_S:
            self._marks.popleft()

    def rate(self) -> float:
        """Rows per second over the last minute."""
        (t0, r0), (t1, r1) = self._marks[0], self._marks[-1]
        return (r1 - r0) / (t1 - t0) if t1 > t0 else 0.0

    def eta_s(self) -> tuple[float, float] | None:
        """Seconds left, from and to: by the rate of the last minute and by that of the whole run."""
        left = self.planned_rows - self.counts.total
        overall = self.counts.total / max(self._marks[-1][0] - self._began, 1e-9)
        rates = [r for r in (self.rate(), overall) if r > 0]
        return (left / max(rates), left / min(rates)) if rates and left > 0 else None


class ProgressWatcher:
    """Told by the run what happens, from the planner's and the driver's thread. `out` None is silent."""

    def __init__(self, out: TextIO | None = sys.stderr) -> None:
        self._out = out
        self._lock = threading.Lock()
        self._meter = Meter(time.monotonic())
        self._bar: Progress | None = None
        self._task: Any = None
        self._said = self._wrote = 0.0
        self._lanes = 0
        self._run_id = ""
        self._store: Store | None = None

    def begin(self, run_id: str, resumed: bool, lanes: int, store: Store) -> None:
        with contextlib.suppress(Exception):
            self._run_id, self._store, self._lanes = run_id, store, lanes
            self._meter = Meter(time.monotonic())
            self._print(f"{'Going on with' if resumed else 'Run'} {run_id} on {lanes} lane(s); workspace {store.root}")
            if self._out is not None and self._out.isatty():
                columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"))
                self._bar = Progress(*columns, TimeElapsedColumn(), console=Console(file=self._out))
                self._task = self._bar.add_task("scoring", total=None, said="planning")
                self._bar.start()

    def planned(self, work: Slice) -> None:
        with self._lock:
            self._meter.planned(work)

    def finished(self, receipt: Receipt) -> None:
        with contextlib.suppress(Exception), self._lock:
            self._meter.finished(receipt, time.monotonic())
            self._show()

    def end(self, record: RunRecord) -> None:
        with contextlib.suppress(Exception), self._lock:
            self._write(record.status)
            if self._bar is not None:
                self._bar.update(self._task, completed=self._meter.counts.total, said=self._sentence())
                self._bar.stop()

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._wrote >= _FILE_EVERY_S:
            self._wrote = now
            self._write("running")
        if self._bar is not None:
            meter = self._meter
            self._bar.update(self._task, total=meter.planned_rows, completed=meter.counts.total, said=self._sentence())
        elif now - self._said >= _LINE_EVERY_S:
            self._said = now
            self._print(self._sentence())

    def _sentence(self) -> str:
        meter = self._meter
        counts, eta = meter.counts, meter.eta_s()
        left = f", {_clock(eta[0])}-{_clock(eta[1])} left" if eta else ""
        return (
            f"{counts.total:,} of {max(meter.planned_rows, counts.total):,} rows, {counts.scored:,} scored, "
            f"{counts.quarantined:,} quarantined, {meter.rate():,.0f} rows/s{left}"
        )

    def _write(self, status: str) -> None:
        meter, eta = self._meter, self._meter.eta_s()
        facts: dict[str, Any] = {"run_id": self._run_id, "status": status}
        facts |= {"rows": {"done": meter.counts.total, "planned": meter.planned_rows}}
        facts |= {"scored": meter.counts.scored, "quarantined": meter.counts.quarantined, "suppressed": meter.counts.suppressed}
        facts |= {"slices": {"done": meter.done_slices, "planned": meter.planned_slices}, "lanes": self._lanes}
        facts |= {"rows_per_second": round(meter.rate(), 1), "eta_seconds": [round(s, 1) for s in eta] if eta else None}
        if self._store is not None:
            self._store.replace(f"runs/{self._run_id}/progress.json", json.dumps(facts, indent=2).encode())

    def _print(self, text: str) -> None:
        if self._out is not None:
            print(text, file=self._out, flush=True)


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
