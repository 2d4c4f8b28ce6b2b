"""One measurement, in a process of its own: lanes are opened, warmed and timed as a run would have them, by the same pool.

It has a workspace of its own; what it stages is removed, and nothing is published.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any

from scoring import ops
from scoring.engine.capacity import on_cuda
from scoring.errors import ScoringError, TemporaryError, bug
from scoring.jobs.benching.phases import Phase, Phases
from scoring.jobs.benching.trial import Task, Trial
from scoring.jobs.run import pool_of
from scoring.ledger.suppressed import pin
from scoring.models.bundle import read
from scoring.models.golden import deviation
from scoring.models.load import load_asked
from scoring.pool import LanePool
from scoring.pool.dispatcher import Dispatcher
from scoring.pool.drive import drive
from scoring.sinks.staged import find
from scoring.stores import open_store
from scoring.types import Receipt, Slice

_SMI = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")
_SMI_TIMEOUT_S = 10


def main(answer: str) -> None:
    """A Task on standard input, the answer into a file. Ends the process."""
    task: Task = pickle.loads(sys.stdin.buffer.read())  # from our own parent, by a pipe that nobody else has
    try:
        found: Any = asdict(measure(task))
    except ScoringError as error:
        found = {"lost": " ".join(str(error).split())}
    except Exception as error:
        found = {"lost": bug(error)}
    Path(answer).write_text(json.dumps(found))
    sys.stdout.flush()
    os._exit(0)  # threads of readers must not abort a finished process


def measure(task: Task) -> Trial:
    """Raises: TemporaryError: the lanes did not get to the end of the sample, with what they said."""
    job, prepared, run_id = task.job, task.prepared, f"round-{task.round}"
    store = open_store(job.workspace)
    gpu = _gpu_used_gb() if prepared.lanes.gpus else None
    began = time.monotonic()
    pool = pool_of(job, prepared, run_id, pin(store, run_id, prepared.suppressed.names))
    phases = Phases(task.sample, prepared.lanes.count, job.engine.in_flight, task.rows, task.seconds)
    driven = _Driven(pool, _dispatcher(task), phases, gpu)
    given = (driven.dispatcher, pool, phases.slices(), lambda work: find(store, run_id, work.id), driven.finished)
    outcome = drive(*given, on_ready=phases.ready, on_turn=driven.turn)
    if outcome.ending != "done" or not phases.counted or phases.last is None:
        raise TemporaryError(outcome.message or "the lanes ended before the sample was scored")
    return _trial(task, phases, phases.last, phases.ready_at - began, driven)


class _Driven:
    """What is looked at while the lanes work. Memory is asked for when the last receipt has come: then the lanes still live."""

    def __init__(self, pool: LanePool, dispatcher: Dispatcher, phases: Phases, gpu: float | None) -> None:
        self.dispatcher = dispatcher
        self.host_gb: float | None = None
        self.gpu_gb: float | None = None
        self._pool, self._phases, self._gpu = pool, phases, gpu

    def turn(self) -> None:
        if self.dispatcher.given_up or self.dispatcher.outcome is not None:
            self._phases.end()

    def finished(self, _: Slice, receipt: Receipt) -> None:
        self._phases.finished(receipt)
        if self._phases.counted:
            self.host_gb, self.gpu_gb = _peak_gb(self._pool.describe()), _taken_gb(self._gpu)


def _trial(task: Task, phases: Phases, last: Phase, start_s: float, driven: _Driven) -> Trial:
    return Trial(
        asked=phases.asked,
        rows=last.rows,
        bytes=last.bytes,
        seconds=last.seconds,
        tokens=last.work.get("tokens", 0),
        stages=dict(last.stages),
        routes=dict(last.routes),
        notes=tuple(last.notes),
        device=last.device,
        start_seconds=start_s,
        exhausted=phases.exhausted,
        host_gb=driven.host_gb,
        gpu_gb=driven.gpu_gb,
        deviation=_deviation(task) if task.golden else None,
        load=os.getloadavg()[0],
    )


def _dispatcher(task: Task) -> Dispatcher:
    """Whatever fails, fails the trial: nothing is tried again."""
    engine, lanes = task.job.engine, task.prepared.lanes
    once = replace(engine.retry, attempts=1)
    return Dispatcher(lanes.count, lanes.kind, engine.in_flight, once, engine.fallback, Random(0), lambda n: f"{task.round}-{n}")


def _deviation(task: Task) -> float:
    """Of the golden scores, on the device and with the kernels of the configuration."""
    job = task.job
    if job.engine.fallback.kernel == "reference" and not ops.why_reference():
        ops.only_reference("engine.fallback.kernel=reference")
    model = load_asked(job.model, "cuda" if on_cuda(task.prepared.lanes.kind, job.hardware) else "cpu")
    return deviation(model, read(job.model.bundle).golden(model.outputs)).most


def _peak_gb(lanes: Mapping[int, Mapping[str, str]]) -> float | None:
    """Peak resident memory of the lanes' processes together; None where one of them cannot be asked (another machine)."""
    total = 0
    try:
        for pid in {facts["pid"] for facts in lanes.values() if facts["host"] == os.uname().nodename}:
            status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            total += int(status["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    return total / 1e9 or None


def _gpu_used_gb() -> float | None:
    """Of all GPUs together, by NVIDIA's own tool: lanes live in other processes, which often cannot be told apart from outside."""
    try:
        done = subprocess.run(_SMI, capture_output=True, text=True, timeout=_SMI_TIMEOUT_S, check=True)
        return sum(int(line) for line in done.stdout.split()) * 2**20 / 1e9
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _taken_gb(before: float | None) -> float | None:
    """PyTorch gives nothing back: what is taken at the end is the peak."""
    now = _gpu_used_gb() if before is not None else None
    return None if before is None or now is None else max(0.0, now - before)
