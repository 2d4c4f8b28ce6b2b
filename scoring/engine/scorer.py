"""Rows in, scores out, whatever the device does: dynamic batches and the fallback ladder.

device -> torch in place of kernels -> smaller batch -> CPU for the batch, or for the rest of the lane -> LaneError, state kept. A
batch that fails for another reason is bisected on the CPU, where an error costs no process, and only the rows at fault are
given up. Which rung answered a row is counted as its route; no rung changes the order of rows.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from scoring import ops
from scoring.batching.bisection import Bisection
from scoring.batching.budget import Budget
from scoring.engine.device import Device, fate
from scoring.models import Encoded
from scoring.settings import Fallback
from scoring.types import FailureKind, Route


class LaneError(Exception):
    """This lane cannot finish the slice. `usable` is False when its process must be replaced."""

    def __init__(self, kind: FailureKind, message: str, usable: bool = True) -> None:
        super().__init__(message)
        self.kind, self.message, self.usable = kind, message, usable


@dataclass
class Scored:
    """`outputs` float32 (rows, outputs) in input order; rows named in `failed` (row -> reason) hold no score."""

    outputs: np.ndarray
    failed: dict[int, str] = field(default_factory=dict)
    routes: Counter[Route] = field(default_factory=Counter)


class Scorer:
    """One device and, made on first need, its CPU stand-in (`make_cpu` loads and golden-checks it)."""

    def __init__(self, device: Device, make_cpu: Callable[[], Device], budget: Budget, fallback: Fallback) -> None:
        self.device = device
        self._notes = [f"torch in place of kernels: {why}"] if (why := ops.why_reference()) else []
        self._make_cpu = make_cpu
        self._cpu: Device | None = device if device.route == "cpu" else None
        self._budget = budget
        self._lock = threading.Lock()  # of budget and notes: on a CPU several windows are scored at once
        self._fallback = fallback

    def score(self, rows: Encoded) -> Scored:
        """Score all rows.

        Raises:
            LaneError: the ladder has no rung left, or the device is unusable.
        """
        scored = Scored(np.empty((rows.rows, len(self.device.model.outputs)), np.float32))
        start, retried = 0, False
        while start < rows.rows:
            count = min(self._budget.size, rows.rows - start)
            smaller = self._batch(rows.narrow(start, count), start, scored, retried)
            retried = retried or smaller
            start += 0 if smaller else count
        return scored

    def take_notes(self) -> tuple[str, ...]:
        """What happened since they were taken last, for the receipt at hand."""
        with self._lock:
            notes, self._notes = tuple(self._notes), []
        return notes

    def _batch(self, batch: Encoded, start: int, scored: Scored, retried: bool) -> bool:
        """Score one batch into `scored`; True when it did not fit and the budget has been lowered to try again."""
        began = time.perf_counter()
        try:
            out = self.device.forward(batch)
        except Exception as error:
            if fate(error) == "kernel" and not ops.why_reference():
                self._without_kernels(str(error))
                return self._batch(batch, start, scored, retried)
            return self._fell(error, batch, start, scored)
        with self._lock:
            self._budget.observe(batch.rows, time.perf_counter() - began)
        _keep(scored, out, start, "gpu-smaller-batch" if retried and self.device.route == "gpu" else self.device.route)
        return False

    def _fell(self, error: Exception, batch: Encoded, start: int, scored: Scored) -> bool:
        what, message = fate(error), f"{type(error).__name__}: {error}"
        if what == "sticky":
            raise LaneError("device-sticky", message, usable=False) from error
        if what == "lost":
            raise LaneError("device-lost", message, usable=False) from error
        if what == "memory":
            if self._fallback.batch and self._smaller(batch.rows):
                return True
            self._to_cpu(batch, start, scored, message)
            return False
        self._bisect(batch, start, scored)
        return False

    def _without_kernels(self, why: str) -> None:
        ops.only_reference(why)
        with self._lock:
            self._notes.append(f"torch in place of kernels: {why}")

    def _smaller(self, rows: int) -> bool:
        with self._lock:
            may = self._budget.out_of_memory(rows)
            if may:
                self._notes.append(f"{self.device.name}: batch of {rows} rows did not fit, now {self._budget.size}")
            return may

    def _to_cpu(self, batch: Encoded, start: int, scored: Scored, message: str) -> None:
        if self.device.route == "cpu" or self._fallback.cpu == "never":
            raise LaneError("memory", f"{batch.rows} rows do not fit on {self.device.name} and no fallback is allowed ({message})")
        cpu = self._stand_in()
        if self._fallback.cpu == "lane":
            self._notes.append(f"{self.device.name} left for the CPU: {message}")
            self.device = cpu
        self._bisect(batch, start, scored, whole=True)

    def _bisect(self, batch: Encoded, start: int, scored: Scored, whole: bool = False) -> None:
        """Score a failing batch on the CPU piece by piece; `whole` tries it in one piece first."""
        cpu = self._stand_in() if self.device.route == "cpu" or self._fallback.cpu != "never" else self.device
        if whole and self._piece(cpu, batch, 0, batch.rows, start, scored) is None:
            return
        search = Bisection(batch.rows)
        while asked := search.next():
            reason = self._piece(cpu, batch, *asked, start, scored)
            if reason is None:
                search.passed()
                continue
            search.failed(reason)
            if search.hopeless:
                raise LaneError(
                    "model", f"The model raised on each of {len(search.bad)} rows tried one by one: {reason.split(':')[0]}"
                )
        scored.failed.update({start + row: reason for row, reason in search.bad.items()})

    def _piece(self, device: Device, batch: Encoded, first: int, count: int, start: int, scored: Scored) -> str | None:
        """Score some rows of a batch: None when done, else why not."""
        try:
            out = device.forward(batch.narrow(first, count))
        except Exception as error:
            what, message = fate(error), f"{type(error).__name__}: {error}"
            if what in ("sticky", "lost"):
                raise LaneError("device-sticky" if what == "sticky" else "device-lost", message, usable=False) from error
            return message
        _keep(scored, out, start + first, device.route)
        return None

    def _stand_in(self) -> Device:
        if self._cpu is None:
            self._cpu = self._make_cpu()
        return self._cpu


def _keep(scored: Scored, out: np.ndarray, start: int, route: Route) -> None:
    """Take the scores of rows from `start` on. NaN and infinity are no scores (law 4), and no route has answered such a row."""
    scored.outputs[start : start + len(out)] = out
    finite = np.isfinite(out)
    refused = () if finite.all() else np.flatnonzero(~finite.all(axis=1)).tolist()
    scored.failed.update(dict.fromkeys((start + row for row in refused), "non-finite"))
    scored.routes[route] += len(out) - len(refused)
