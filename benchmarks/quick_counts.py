"""What a small job does, counted: calls, operators, bytes and store operations, which are the same on a busy machine.

Each is the difference of a larger and a smaller job, so that what is done once does not count.
"""

from __future__ import annotations

import queue
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from spine_data import table, write_model
from torch.utils._python_dispatch import TorchDispatchMode

from scoring.__main__ import settings
from scoring.engine import lane
from scoring.jobs.run import run
from scoring.pool import Event, LaneKind, Ready, Replied
from scoring.pool.dispatcher import Dispatcher
from scoring.pool.drive import attend
from scoring.settings import Fallback, Job, Retry
from scoring.sources import slices
from scoring.sources.discover import discover
from scoring.stores.local import LocalStore
from scoring.types import Counts, Receipt, RunRecord, Slice

WINDOW = 4_096
_OPERATIONS = ("put", "get", "size", "exists", "list", "folders", "replace", "remove", "copy", "open_file", "sha256")


def write(folder: Path, partitions: int, files: int, windows: int) -> Path:
    """A dataset of so many partitions of so many files of so many windows of rows."""
    for day in range(partitions):
        for n in range(files):
            path = folder / f"date=2026-01-{day + 1:02d}" / f"{n:02d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table(windows * WINDOW, n * windows * WINDOW, n), path)
    return folder


def job_of(data: Path, bundle: Path, workspace: Path) -> Job:
    """A slice for each file, and one window at a time: nothing runs side by side."""
    said = ["source=parquet", f"source.path={data}", "source.carry=[id]", f"model.bundle={bundle}", f"workspace={workspace}"]
    said += [
        "engine=inline",
        f"engine.window_rows={WINDOW}",
        "engine.in_flight=1",
        "source.slice_rows=1",
        "respond.lineage.enabled=false",
    ]
    return settings(said, None)[0]


def planned(job: Job) -> list[Slice]:
    return [work for p in discover(job.source, (".parquet",)).partitions for work in slices.plan(p, job.source)]


@dataclass
class Work:
    """What one slice made a lane do."""

    calls: int = 0
    operators: int = 0
    tensor_bytes: int = 0
    arrow_bytes: int = 0
    arrow_allocations: int = 0


class _Operators(TorchDispatchMode):
    """Counts operators of torch and the bytes of the tensors that they make."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self._work.operators += 1
        made = found if isinstance(found, (tuple, list)) else [found]
        self._work.tensor_bytes += sum(t.nbytes for t in made if isinstance(t, torch.Tensor) and t._base is None)
        return found


@contextmanager
def calls(count: Callable[[], None]) -> Iterator[None]:
    """Tell each call of a Python or C function in this thread."""

    def seen(frame: Any, event: str, arg: Any) -> None:
        if event in ("call", "c_call"):
            count()

    sys.setprofile(seen)
    try:
        yield
    finally:
        sys.setprofile(None)


def of_lane(job: Job, work: Slice, opened: lane.EngineLane) -> Work:
    """One slice through a lane, in this thread; twice, because a profiler would count in the other's calls."""
    found, pool = Work(), pa.default_memory_pool()

    def one() -> None:
        found.calls += 1

    with calls(one):
        _done(opened.process(work, "calls"))
    _again(job)
    before = (pool.total_bytes_allocated(), pool.num_allocations())
    _done(opened.process(work, "arrow"))
    found.arrow_bytes, found.arrow_allocations = pool.total_bytes_allocated() - before[0], pool.num_allocations() - before[1]
    _again(job)
    with _Operators(found):
        _done(opened.process(work, "torch"))
    _again(job)
    return found


def _again(job: Job) -> None:
    """Forget what was staged."""
    for path in Path(job.workspace).rglob("*"):
        if path.is_file() and {"staged", "receipts"} & set(path.parts):
            path.unlink()


def _done(answer: Any) -> None:
    if not isinstance(answer, Receipt):
        raise SystemExit(f"a slice failed: {answer}")


class _AtOnce:
    """A pool whose only lane answers while it is asked: the dispatcher's own calls are all there are."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()

    def start(self, lane: int, kind: LaneKind) -> None:
        self._events.put(Ready(lane, {"pid": "0", "host": "here"}))

    def send(self, lane: int, work: Slice, attempt: str) -> None:
        self._events.put(Replied(lane, attempt, Receipt(work.id, work.partition, attempt, work.rows, Counts(work.rows))))

    def kill(self, lane: int) -> None: ...

    def wait(self, timeout_s: float) -> list[Event]:
        return [self._events.get()]

    def describe(self) -> dict[int, dict[str, str]]:
        return {}

    def close(self) -> None: ...


class _All:
    """A feed that has everything at once."""

    def __init__(self, work: list[Slice]) -> None:
        self._work, self.finished = work, False

    def take(self, most: int) -> list[Slice]:
        found, self._work = self._work[:most], self._work[most:]
        self.finished = not self._work
        return found


def of_driver(job: Job) -> int:
    """Calls of planning and dispatching all slices of a job."""
    total = 0

    def one() -> None:
        nonlocal total
        total += 1

    with calls(one):
        work = planned(job)
        dispatcher = Dispatcher(1, "cpu", 1, Retry(), Fallback(), Random(0), partial("{}".format))
        told = attend(dispatcher, _AtOnce(), _All(work), lambda w: None, lambda w, r: None, lambda: None, lambda: 0.0)
    if told.ending != "done":
        raise SystemExit(f"the dispatcher did not end: {told}")
    return total


class _Quiet:
    """A watcher that does nothing: progress is written by the clock."""

    def begin(self, run_id: str, resumed: bool, lanes: int, store: Any) -> None: ...

    def planned(self, partition: str, slices: int, rows: int) -> None: ...

    def finished(self, receipt: Receipt) -> None: ...

    def end(self, record: RunRecord) -> None: ...


def of_store(job: Job) -> int:
    """Operations on the workspace of a whole run."""
    seen: Counter[str] = Counter()
    kept = {name: getattr(LocalStore, name) for name in _OPERATIONS}

    def counted(name: str) -> Any:
        def method(self: LocalStore, *given: Any) -> Any:
            seen[name] += 1
            return kept[name](self, *given)

        return method

    for name in _OPERATIONS:
        setattr(LocalStore, name, counted(name))
    try:
        record = run(job, "", _Quiet())
    finally:
        for name, method in kept.items():
            setattr(LocalStore, name, method)
    if record.status != "published":
        raise SystemExit(f"the run was {record.status}: {record.message}")
    return seen.total()


def counts() -> dict[str, float]:
    """All counters by name."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        bundle = write_model(folder)
        short, long = (write(folder / f"windows-{n}", 1, 1, n) for n in (2, 6))
        few, files, days = write(folder / "few", 1, 2, 1), write(folder / "files", 1, 10, 1), write(folder / "days", 5, 2, 1)
        jobs = {p.name: job_of(p, bundle, folder / f"w-{p.name}") for p in (short, long, few, files, days)}
        return {**_lane(jobs["windows-2"], jobs["windows-6"]), **_run(jobs["few"], jobs["files"], jobs["days"])}


def _lane(short: Job, long: Job) -> dict[str, float]:
    found = []
    for job in (short, long):
        opened = lane.build(lane.LaneSpec(job, "quick"), "cpu")
        work = planned(job)[0]
        _done(opened.process(work, "warm"))
        _again(job)
        found.append(of_lane(job, work, opened))
    a, b = found
    rows = 4 * WINDOW
    return {
        "lane: Python calls per window": (b.calls - a.calls) / 4,
        "lane: torch operators per window": (b.operators - a.operators) / 4,
        "lane: bytes of tensors per row": (b.tensor_bytes - a.tensor_bytes) / rows,
        "lane: bytes of Arrow per row": (b.arrow_bytes - a.arrow_bytes) / rows,
        "lane: Arrow allocations per window": (b.arrow_allocations - a.arrow_allocations) / 4,
        "lane: Python calls per slice": a.calls - (b.calls - a.calls) / 2,
    }


def _run(few: Job, files: Job, days: Job) -> dict[str, float]:
    """`files` has 8 slices more than `few`, `days` 8 slices in 4 partitions more."""
    of_driver(few)  # imports
    driver, store = (
        {name: count(job) for name, job in (("few", few), ("files", files), ("days", days))} for count in (of_driver, of_store)
    )
    per_slice = (store["files"] - store["few"]) / 8
    return {
        "driver: Python calls per slice": (driver["files"] - driver["few"]) / 8,
        "store: operations per slice": per_slice,
        "store: operations per partition": (store["days"] - store["few"] - 8 * per_slice) / 4,
    }
