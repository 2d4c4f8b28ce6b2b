"""How far a run is: a live bar on a terminal, plain lines otherwise, progress.json always. Cannot fail or slow a run.

The run only counts; a thread of its own draws, prints and writes, so that a slow terminal or store is nobody else's trouble.
Totals come from footers and grow while planning goes on; the rate is that of the last minute; the ETA is a range, because the
rate is.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections import Counter, deque
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from scoring.respond.texts import clause
from scoring.stores import Store
from scoring.types import Counts, Receipt, RunRecord

_TICK_S = 0.25
_LINE_EVERY_S = 5.0
_FILE_EVERY_S = 1.0
_LAST_WORD_S = 5.0  # for the thread to write how it ended; a store that takes longer is left behind
_WINDOW_S = 60.0
_MARK_S = 0.1  # between the marks that the rate is told by, at least; the newest always counts


class Meter:
    """Rows and time; no output. `now` is seconds of any clock that does not jump."""

    def __init__(self, now: float) -> None:
        self._began = now
        self.counts = Counts()
        self.planned_rows = self.planned_slices = self.done_slices = 0
        self._work: Counter[str] = Counter()
        self._busy_s = 0.0
        self._marks: deque[tuple[float, int, int]] = deque([(now, 0, 0)])  # when, rows, tokens

    def planned(self, slices: int, rows: int) -> None:
        self.planned_rows += rows
        self.planned_slices += slices

    def finished(self, receipt: Receipt, now: float) -> None:
        if not self.done_slices:  # what came before the first slice was start-up, which says nothing of the rate
            self._began = now - sum(receipt.seconds.values())
            self._marks = deque([(self._began, 0, 0)])
        self.counts += receipt.counts
        self.done_slices += 1
        self._work.update(receipt.work)
        self._busy_s += sum(receipt.seconds.values())
        if len(self._marks) > 2 and now - self._marks[-2][0] < _MARK_S:
            self._marks.pop()  # a run that goes on may hear of a million slices in a minute
        self._marks.append((now, self.counts.total, self._work["tokens"]))
        while len(self._marks) > 2 and now - self._marks[0][0] > _WINDOW_S:
            self._marks.popleft()

    def rate(self) -> float:
        """Rows per second over the last minute."""
        return self._rate(1)

    def token_rate(self) -> float:
        """Tokens per second over the last minute; 0 where there are no texts."""
        return self._rate(2)

    def _rate(self, place: int) -> float:
        first, last = self._marks[0], self._marks[-1]
        return (last[place] - first[place]) / (last[0] - first[0]) if last[0] > first[0] else 0.0

    def eta_s(self) -> tuple[float, float] | None:
        """Seconds left, from and to: by the rate of the last minute and by that of the whole run."""
        left = self.planned_rows - self.counts.total
        overall = self.counts.total / max(self._marks[-1][0] - self._began, 1e-9)
        rates = [r for r in (self.rate(), overall) if r > 0]
        return (left / max(rates), left / min(rates)) if rates and left > 0 else None

    def sentence(self) -> str:
        """A line of a log."""
        if not self.done_slices:
            return f"starting: {self.planned_rows:,} rows in {self.planned_slices:,} slices planned so far"
        texts = clause(self._work, self.token_rate(), self._busy_s)
        rows = f"{self.counts.total:,} of {max(self.planned_rows, self.counts.total):,} rows, {self.outcomes()}"
        return f"{rows}; {texts}" if texts else rows

    def outcomes(self) -> str:
        """Beside a bar, which shows the rest; fits into 80 columns with it."""
        counts = self.counts
        suppressed = f", {counts.suppressed:,} suppressed" if counts.suppressed else ""
        outcomes = f"{counts.scored:,} scored, {counts.quarantined:,} quarantined{suppressed}"
        return f"{outcomes}, {self.rate():,.0f} rows/s{_left(self.eta_s())}"

    def facts(self) -> dict[str, Any]:
        """As progress.json has them."""
        counts, eta = self.counts, self.eta_s()
        texts = {"work": dict(self._work), "tokens_per_second": round(self.token_rate(), 1)} if self._work["tokens"] else {}
        return {
            "rows": {"done": counts.total, "planned": self.planned_rows},
            "scored": counts.scored,
            "quarantined": counts.quarantined,
            "suppressed": counts.suppressed,
            "slices": {"done": self.done_slices, "planned": self.planned_slices},
            "rows_per_second": round(self.rate(), 1),
            "eta_seconds": [round(s, 1) for s in eta] if eta else None,
            **texts,
        }


class ProgressWatcher:
    """Told by the run what happens, from the planner's and the driver's thread. `out` None prints nothing.

    A context manager: leaving it gives the terminal back and ends the thread, also where the run raised and never called `end`.
    """

    def __init__(
        self, out: TextIO | None = sys.stderr, line_every_s: float = _LINE_EVERY_S, last_word_s: float = _LAST_WORD_S
    ) -> None:
        self._out, self._line_every_s, self._last_word_s = out, line_every_s, last_word_s
        self._lock = threading.Lock()
        self._meter = Meter(time.monotonic())
        self._status, self._ended = "running", threading.Event()
        self._teller: threading.Thread | None = None
        self._bar: Progress | None = None
        self._task: Any = None
        self._lanes = 0
        self._run_id = ""
        self._store: Store | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._ended.is_set():
            self._stop("failed")

    def begin(self, run_id: str, resumed: bool, lanes: int, store: Store) -> None:
        self._run_id, self._store, self._lanes = run_id, store, lanes
        with contextlib.suppress(Exception):
            self._print(f"{'Going on with' if resumed else 'Run'} {run_id} on {lanes} lane(s); workspace {store.root}")
            self._teller = threading.Thread(target=self._tell, name="progress", daemon=True)
            self._teller.start()

    def planned(self, partition: str, slices: int, rows: int) -> None:
        with self._lock:
            self._meter.planned(slices, rows)

    def finished(self, receipt: Receipt) -> None:
        with self._lock:
            self._meter.finished(receipt, time.monotonic())

    def end(self, record: RunRecord) -> None:
        self._stop(record.status)

    def say(self, text: str) -> None:
        """Lines of the log: above the bar, where there is one."""
        with contextlib.suppress(Exception):
            if self._bar is not None and not self._ended.is_set():
                self._bar.console.print(Text.from_ansi(text), soft_wrap=True)
            else:
                self._print(text)

    def _stop(self, status: str) -> None:
        self._status = status
        self._ended.set()
        if self._teller is not None:
            self._teller.join(self._last_word_s)

    def _tell(self) -> None:
        """Until the run ends, and once more then. Whatever goes wrong here stays here."""
        with contextlib.suppress(Exception):
            self._open_bar()
        wrote = said = time.monotonic()
        over = False
        while not over:
            over = self._ended.wait(_TICK_S)
            now = time.monotonic()
            with contextlib.suppress(Exception):
                self._draw()
            if over or now - wrote >= _FILE_EVERY_S:
                wrote = now
                with contextlib.suppress(Exception):
                    self._write()
            if self._bar is None and now - said >= self._line_every_s:
                said = now
                with contextlib.suppress(Exception):
                    with self._lock:
                        line = self._meter.sentence()
                    self._print(line)
        with contextlib.suppress(Exception):
            if self._bar is not None:
                self._bar.stop()

    def _open_bar(self) -> None:
        if self._out is not None and self._out.isatty():
            columns = (SpinnerColumn(), BarColumn(bar_width=None), TextColumn("{task.fields[said]}"), TimeElapsedColumn())
            self._bar = Progress(*columns, expand=True, console=Console(file=self._out), auto_refresh=False)
            self._task = self._bar.add_task("scoring", total=None, said="planning")
            self._bar.start()

    def _draw(self) -> None:
        if self._bar is not None:
            with self._lock:
                total, done, said = self._meter.planned_rows, self._meter.counts.total, self._meter.outcomes()
            self._bar.update(self._task, total=total or None, completed=done, said=said if done else "starting")
            self._bar.refresh()

    def _write(self) -> None:
        with self._lock:
            facts = self._meter.facts()
        facts |= {"run_id": self._run_id, "status": self._status, "lanes": self._lanes}
        facts["updated"] = datetime.now(UTC).isoformat(timespec="seconds")
        if self._store is not None:
            self._store.replace(f"runs/{self._run_id}/progress.json", json.dumps(facts, indent=2).encode())

    def _print(self, text: str) -> None:
        if self._out is not None:
            print(text, file=self._out, flush=True)


def _left(eta: tuple[float, float] | None) -> str:
    if eta is None:
        return ""
    soon, late = (_clock(s) for s in eta)
    return f", {soon} left" if soon == late else f", {soon} to {late} left"


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
