"""Rows in, scores out, whatever the device does: dynamic batches and the fallback ladder.

device -> torch in place of kernels -> smaller batch -> CPU for the batch, or for the rest of the lane -> LaneError, state kept. A
batch that fails for another reason is bisected on the CPU, where an error costs no process, and only the items at fault are
given up. Batches are of items, as many as fit a budget of cost; each row gets what its item got, and which rung answered that is
counted as the row's route. No rung changes the order of rows.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import get_args

import numpy as np

from scoring import columns, ops
from scoring.batching.bisection import Bisection
from scoring.batching.budget import Budget
from scoring.engine.device import Device, fate, told_of
from scoring.models import Encoded
from scoring.settings import Fallback
from scoring.types import FailureKind, Output, Route

_ROUTES: tuple[Route, ...] = get_args(Route)


class LaneError(Exception):
    """This lane cannot finish the slice. `usable` is False when its process must be replaced."""

    def __init__(self, kind: FailureKind, message: str, usable: bool = True) -> None:
        super().__init__(message)
        self.kind, self.message, self.usable = kind, message, usable


@dataclass
class Scored:
    """`outputs` float32 (rows, sum of widths) in input order; rows named in `failed` (row -> reason) hold no score."""

    outputs: np.ndarray
    failed: dict[int, str] = field(default_factory=dict)
    routes: Counter[Route] = field(default_factory=Counter)


class _Answers:
    """What is known of the items of a window so far. `route` int8 (items,): the place in _ROUTES of who answered, -1: nobody."""

    def __init__(self, items: int, outputs: tuple[Output, ...]) -> None:
        self.failed: dict[int, str] = {}
        self._outputs = outputs
        self._found = np.empty((items, columns.width(outputs)), np.float32)
        self._route = np.full(items, -1, np.int8)

    def keep(self, found: np.ndarray, start: int, route: Route) -> None:
        """Take the scores of items from `start` on. NaN and infinity are no scores (law 4): nobody has answered such an item."""
        here = slice(start, start + len(found))
        self._found[here] = found
        kept = columns.kept(self._outputs, found)
        self._route[here] = np.where(kept, _ROUTES.index(route), -1)
        if not kept.all():
            self.failed.update(dict.fromkeys((start + np.flatnonzero(~kept)).tolist(), "non-finite"))

    def of_rows(self, order: np.ndarray | None) -> Scored:
        """Each row with the answer of its item."""
        found, route, failed = self._found, self._route, self.failed
        if order is not None:
            found, route, failed = found[order], route[order], {}
            if self.failed:
                rows = np.flatnonzero(np.isin(order, list(self.failed))).tolist()
                failed = {row: self.failed[item] for row, item in zip(rows, order[rows].tolist(), strict=True)}
        counts = np.bincount(route[route >= 0], minlength=len(_ROUTES)).tolist()
        return Scored(found, failed, Counter({name: n for name, n in zip(_ROUTES, counts, strict=True) if n}))


class Scorer:
    """One device and, made on first need, its CPU stand-in (`make_cpu` loads and golden-checks it). `notes` are told first."""

    def __init__(
        self, device: Device, make_cpu: Callable[[], Device], budget: Budget, fallback: Fallback, notes: Sequence[str] = ()
    ) -> None:
        self.device = device
        self._notes = [*notes, *([f"torch in place of kernels: {why}"] if (why := ops.why_reference()) else [])]
        self._make_cpu = make_cpu
        self._cpu: Device | None = device if device.route == "cpu" else None
        self._budget = budget
        self._lock = threading.Lock()  # of budget and notes: on a CPU several windows are scored at once
        self._fallback = fallback

    def score(self, items: Encoded) -> Scored:
        """Score all items, and give each row the answer of its own.

        Raises:
            LaneError: the ladder has no rung left, or the device is unusable.
        """
        answers = _Answers(items.rows, self.device.model.outputs)
        start, retried = 0, False
        while start < items.rows:
            size = self._budget.size
            count = items.fit(start, size)
            full = start + count < items.rows or items.cost(start, count) >= size
            smaller = self._batch(items.narrow(start, count), start, answers, retried, full)
            retried = retried or smaller
            start += 0 if smaller else count
        return answers.of_rows(items.order)

    def take_notes(self) -> tuple[str, ...]:
        """What happened since they were taken last, for the receipt at hand."""
        with self._lock:
            notes, self._notes = tuple(self._notes), []
        return notes

    def _batch(self, batch: Encoded, start: int, answers: _Answers, retried: bool, full: bool) -> bool:
        """Score one batch into `answers`; True when it did not fit and the budget has been lowered to try again."""
        began = time.perf_counter()
        try:
            out = self.device.forward(batch)
        except Exception as error:
            if ops.kernels_given_up(error):
                with self._lock:
                    self._notes.append(f"torch in place of kernels: {error}")
                return self._batch(batch, start, answers, retried, full)
            return self._fell(error, batch, start, answers)
        with self._lock:
            self._budget.observe(batch.cost(0, batch.rows), time.perf_counter() - began, full)
        answers.keep(out, start, "gpu-smaller-batch" if retried and self.device.route == "gpu" else self.device.route)
        return False

    def _fell(self, error: Exception, batch: Encoded, start: int, answers: _Answers) -> bool:
        what, message = fate(error), told_of(error)
        if what == "sticky":
            raise LaneError("device-sticky", message, usable=False) from error
        if what == "lost":
            raise LaneError("device-lost", message, usable=False) from error
        if what == "memory":
            if self._fallback.batch and batch.rows > 1 and self._smaller(batch.cost(0, batch.rows)):
                return True
            self._to_cpu(batch, start, answers, message)
            return False
        self._bisect(batch, start, answers)
        return False

    def _smaller(self, cost: int) -> bool:
        with self._lock:
            may = self._budget.out_of_memory(cost)
            if may:
                unit = self.device.model.unit
                self._notes.append(f"{self.device.name}: batch of {cost} {unit} did not fit, now {self._budget.size}")
            return may

    def _to_cpu(self, batch: Encoded, start: int, answers: _Answers, message: str) -> None:
        if self.device.route == "cpu" or self._fallback.cpu == "never":
            size = f"{batch.cost(0, batch.rows)} {self.device.model.unit}"
            raise LaneError("memory", f"{size} do not fit on {self.device.name} and no fallback is allowed ({message})")
        cpu = self._stand_in()
        if self._fallback.cpu == "lane":
            self._notes.append(f"{self.device.name} left for the CPU: {message}")
            self.device = cpu
        self._bisect(batch, start, answers, whole=True)

    def _bisect(self, batch: Encoded, start: int, answers: _Answers, whole: bool = False) -> None:
        """Score a failing batch on the CPU piece by piece; `whole` tries it in one piece first."""
        cpu = self._stand_in() if self.device.route == "cpu" or self._fallback.cpu != "never" else self.device
        if whole and self._piece(cpu, batch, 0, batch.rows, start, answers) is None:
            return
        search = Bisection(batch.rows)
        while asked := search.next():
            reason = self._piece(cpu, batch, *asked, start, answers)
            if reason is None:
                search.passed()
                continue
            search.failed(reason)
            if search.hopeless:
                raise LaneError(
                    "model", f"The model raised on each of {len(search.bad)} rows tried one by one: {reason.split(':')[0]}"
                )
        answers.failed.update({start + item: reason for item, reason in search.bad.items()})

    def _piece(self, device: Device, batch: Encoded, first: int, count: int, start: int, answers: _Answers) -> str | None:
        """Score some items of a batch: None when done, else why not."""
        try:
            out = device.forward(batch.narrow(first, count))
        except Exception as error:
            what = fate(error)
            if what in ("sticky", "lost"):
                raise LaneError("device-sticky" if what == "sticky" else "device-lost", told_of(error), usable=False) from error
            return f"{type(error).__name__}: {error}"  # for the quarantine, where the row stands as well; nobody else is told
        answers.keep(out, start + first, device.route)
        return None

    def _stand_in(self) -> Device:
        if self._cpu is None:
            self._cpu = self._make_cpu()
        return self._cpu
