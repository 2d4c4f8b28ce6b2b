"""One model on one device, long-lived: takes slices, answers with receipts or failures, never with an exception.

Weights are loaded once, golden rows are checked once per device. Several slices may be in hand at a time: while one computes, the
next is read and encoded; a GPU is used by one window at a time, and a core by one slice.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import pyarrow as pa
import torch

from scoring import columns, ops
from scoring.admit.privacy import Privacy
from scoring.admit.rules import compile_rules
from scoring.admit.treatments import tagged
from scoring.engine import recall
from scoring.engine.attempt import Attempt
from scoring.engine.capacity import on_cuda
from scoring.engine.device import Device, open_device
from scoring.engine.environment import computing
from scoring.engine.faults import Faults
from scoring.engine.flow import Broken, Flow
from scoring.engine.pipeline import Pipeline
from scoring.engine.scorer import LaneError, Scorer
from scoring.errors import InputChangedError, StoreError, unseen
from scoring.ledger.suppressed import pinned
from scoring.log import Log, about
from scoring.models.load import load_asked
from scoring.models.precision import slow_here
from scoring.parts import part
from scoring.pool import LaneKind
from scoring.settings import Column, Job
from scoring.sinks.staged import StagedWriter, find
from scoring.stores import open_store
from scoring.types import BadFile, Failure, FailureKind, File, Fragment, Receipt, Slice
from scoring.watch.baseline import Baseline, fitted

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

_log = Log("engine")


@dataclass(frozen=True)
class LaneSpec:
    """All a lane needs to know, picklable: what to score with, beside what to count, and where to stage. `cpus` is its share,
    `suppressed` the key of the list of people who are not to be scored, "" for none. Secrets are not in it: lanes read their own
    environment.
    """

    job: Job
    run_id: str
    cpus: int = 1
    baseline: Baseline | None = None
    suppressed: str = ""
    people: str = ""  # digest of the list of erased people, for receipts


def build(spec: LaneSpec, kind: LaneKind) -> EngineLane:
    """The lane factory that pools call in the process where the lane will live. `kind` is "gpu" or "cpu"."""
    _keep_memory()
    torch.set_num_threads(spec.cpus)
    pa.set_cpu_count(spec.cpus)
    return EngineLane(spec, kind)


class EngineLane:
    def __init__(self, spec: LaneSpec, kind: LaneKind) -> None:
        job = self._job = spec.job
        self._run_id, self._people = spec.run_id, spec.people
        self._store = open_store(job.workspace)
        self._faults = Faults(job.engine.faults)
        self._faults.hit("lane.start")
        privacy = Privacy(job.contract, job.source.carry, pinned(self._store, spec.suppressed))
        if job.engine.fallback.kernel == "reference":
            ops.only_reference("engine.fallback.kernel=reference")
        self._model = load_asked(job.model, "cuda" if on_cuda(kind, job.hardware) else "cpu")
        declared = {**self._model.inputs, **job.contract.columns}
        rules = compile_rules(declared, job.contract.coerce, job.contract.rules)
        counted = (spec.baseline, declared, tuple(columns.scalars(self._model.outputs)), job.watch, tagged(job.contract))
        self._plan = fitted(*counted) if job.watch.enabled else None
        self._elsewhere = self._counted_on_device(declared)
        device = open_device(self._model, job.hardware, self._faults) if kind == "gpu" else Device(self._model, self._faults)
        made_for = (self._model.digest, device.name, job.engine.batch, job.engine.window_rows, self._model.unit)
        self._budget = recall.opened(self._store, *made_for)
        slow = slow_here(job.model.precision) if self._model.device.type == "cpu" else ()
        self._scorer = Scorer(device, self._stand_in, self._budget, job.engine.fallback, slow)
        self._remembered = self._budget.size if self._budget.settled else 0
        self._flow = Flow(job, self._model, rules, privacy, self._scorer, self._turns(spec.cpus))
        # As many slices as cores: a thread for each slice, not for each stage, and a slice beyond that waits, ready to begin.
        side_by_side = spec.cpus == 1 or (self._model.reentrant and spec.cpus <= job.engine.in_flight)
        self._in_turn = self._scorer.device.route == "cpu" and side_by_side
        self._room = threading.BoundedSemaphore(spec.cpus if self._in_turn else job.engine.in_flight)
        _log.info("lane.open", **self.describe(), cores=spec.cpus, model=self._model.name, version=self._model.version)

    def process(self, work: Slice, attempt: str) -> Receipt | Failure:
        """Score one slice and stage the result; idempotent: a slice that is staged already is not scored again."""
        self._faults.next_slice()
        with about(run_id=self._run_id, partition=work.partition, slice_id=work.id, attempt=attempt):
            return self._answer(work, attempt)

    def _answer(self, work: Slice, attempt: str) -> Receipt | Failure:
        """What foreign code says while it has rows in hand may be a row: of such an error, only class and place are told."""
        try:
            return find(self._store, self._run_id, work.id) or self._score(work, attempt)
        except LaneError as error:
            return self._failure(work, attempt, error.kind, error.message, error.usable)
        except InputChangedError as error:
            return self._failure(work, attempt, "input", str(error))
        except StoreError as error:
            return self._failure(work, attempt, "store", str(error))
        except MemoryError as error:
            return self._failure(work, attempt, "memory", f"host memory: {unseen(error)}")
        except OSError as error:
            kind: FailureKind = "disk" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "store"
            return self._failure(work, attempt, kind, _of_system(error))
        except Exception as error:
            return self._failure(work, attempt, "bug", unseen(error))

    def describe(self) -> dict[str, str]:
        device = self._scorer.device
        return {"device": device.name, "route": device.route, "pid": str(os.getpid()), "host": platform.node()}

    def _score(self, work: Slice, attempt: str) -> Receipt:
        """Attempts until no fragment breaks: what cannot be read is named and left out, the rest is scored from the start."""
        fragments = work.fragments
        lost: tuple[BadFile, ...] = ()
        if work.fault is not None:
            fragments, lost = (), tuple(BadFile(f.path, "plan", work.fault, f.rows or 0) for f in work.fragments)
        while True:
            pipeline = Pipeline(0 if self._in_turn else 2)
            given = (self._writer(work, attempt), self._people, self._room, pipeline, self._plan, self._elsewhere)
            one = Attempt(self._flow, *given)
            try:
                receipt = one.run(fragments, lost, work.absent, self._faults)
            except Broken as found:
                smaller = self._pieces(found)
                _log.warning(
                    "fragment.broken", file=found.fragment.path, stage=found.stage, message=found.reason, pieces=len(smaller)
                )
                lost = (
                    lost if smaller else (*lost, BadFile(found.fragment.path, found.stage, found.reason, found.fragment.rows or 0))
                )
                at = fragments.index(found.fragment)
                fragments = (*fragments[:at], *smaller, *fragments[at + 1 :])
            else:
                self._remember_budget()
                return receipt

    def _remember_budget(self) -> None:
        if self._budget.settled and self._budget.size != self._remembered:
            self._remembered = self._budget.size
            recall.remember(self._store, self._model.digest, self._scorer.device.name, self._budget.size)

    def _pieces(self, found: Broken) -> tuple[Fragment, ...]:
        """The row groups of a broken fragment, to be tried one by one; none if it is one already, or reading is not the trouble.

        Row groups are given up singly so that which rows are lost does not depend on how a file was cut into slices.
        """
        whole = found.fragment
        if found.stage != "read" or whole.groups is None or whole.groups[1] - whole.groups[0] < 2:
            return ()
        footer = part("sources", self._job.source.kind).footer(File(whole.path, 0, whole.version), self._job.source)
        pieces, first = [], whole.first_row
        for group in range(*whole.groups):
            rows = footer.groups[group]
            pieces.append(replace(whole, groups=(group, group + 1), first_row=first, rows=rows, bytes=0))
            first += rows
        return tuple(pieces)

    def _writer(self, work: Slice, attempt: str) -> StagedWriter:
        model = self._model
        private = bool(tagged(self._job.contract))
        made_by = (self._job.sink, model.version, model.outputs)
        return StagedWriter(self._store, self._run_id, work, attempt, *made_by, self._faults.hit, private, computing())

    def _counted_on_device(self, declared: dict[str, Column]) -> frozenset[str]:
        """Columns whose values are counted on their way to the device; uint64 has no exact comparison there."""
        watched = {} if self._plan is None else self._plan.columns
        numbers = {name: own.edges for name, own in watched.items() if own.kind == "number" and declared[name].dtype != "uint64"}
        return self._model.count(numbers)

    def _turns(self, cpus: int) -> AbstractContextManager[object]:
        """Who may score: one window at a time, or, on CPU cores with a model that allows it, all slices in hand side by side.

        Small matrix products do not gain from a second thread; a second slice on the second core does.
        """
        if self._scorer.device.route != "cpu" or not self._model.reentrant:
            return threading.Lock()
        torch.set_num_threads(max(1, cpus // self._job.engine.in_flight))
        return nullcontext()

    def _stand_in(self) -> Device:
        job = self._job
        model = self._model if self._model.device.type == "cpu" else load_asked(job.model)
        return Device(model, self._faults)

    @staticmethod
    def _failure(work: Slice, attempt: str, kind: FailureKind, message: str, usable: bool = True) -> Failure:
        return Failure(work.id, attempt, kind, " ".join(message.split())[:500], usable)


def _of_system(error: OSError) -> str:
    """What the system said; nothing of what code may have made of it."""
    if error.errno is None:
        return unseen(error)
    return f"{os.strerror(error.errno)}{f': {error.filename}' if isinstance(error.filename, str) else ''}"


def _keep_memory() -> None:
    """Let glibc keep freed blocks of up to 32 MiB (its maximum) instead of giving them back: windows come in the same sizes for
    ever, and fresh pages cost encode twice its time. Peak memory is bounded by the pipeline, not by this. See mallopt(3).
    Arrow's own allocator returns what lay unused for some milliseconds, which costs reading a sixth: Arrow takes glibc's, too.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 1 << 30)
        pa.set_memory_pool(pa.system_memory_pool())
