"""What 100,000 slices cost the driver: the real dispatcher, account, log and publishing; lanes whose time is only counted.

    python benchmarks/scaling/driver.py --slices 100000 --lanes 64

Time is that of a simulated clock, which jumps to what happens next: a slice takes from 0.75 to 1.25 of `--seconds`, evenly drawn,
one after the other on its lane. What lanes do besides is not measured: a staged file is a small file. Partitions of 1,000 slices
are published as their last receipt comes. Ray is not here: what it costs the driver is in lanes.py. The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import heapq
import json
import resource
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from random import Random

from scoring.jobs.publishing import Publishing
from scoring.ledger.account import Account
from scoring.ledger.chain import Ledger
from scoring.pool import Event, LaneKind, Ready, Replied
from scoring.pool.dispatcher import Dispatcher
from scoring.pool.drive import attend
from scoring.settings import Engine, Fallback, Job, Model, Retry, Source
from scoring.sinks.done import DoneLog
from scoring.sinks.publish import Identity
from scoring.sinks.staged import key_of
from scoring.stores import LocalStore
from scoring.types import Counts, File, Fragment, Partition, Receipt, Slice, StagedFile

RUN, ROWS, OF_PARTITION = "scaling", 500_000, 1_000
TEXT = b"PAR1" * 400
STAGES = {"read": 0.412345, "encode": 0.212345, "score": 1.312345, "stage": 0.112345}


class Simulated:
    """A pool of lanes on a clock of its own. `staging_s` is CPU time of this thread that real lanes would have spent."""

    def __init__(self, root: str, run_id: str) -> None:
        self.now, self.busy_s, self.staging_s = 0.0, 0.0, 0.0
        self._store, self._digest = LocalStore(root), sha256(TEXT).hexdigest()
        self._store.path(f"runs/{run_id}/staged").mkdir(parents=True)
        self._free: dict[int, float] = {}
        self._events: list[tuple[float, int, int, Slice | None, str]] = []
        self._n = 0

    def clock(self) -> float:
        return self.now

    def start(self, lane: int, kind: LaneKind) -> None:
        self._free[lane] = self.now
        self._later(self.now, lane, None, "")

    def send(self, lane: int, work: Slice, attempt: str) -> None:
        seconds = work.bytes / 1e6
        self._free[lane] = max(self.now, self._free[lane]) + seconds
        self.busy_s += seconds
        self._later(self._free[lane], lane, work, attempt)

    def kill(self, lane: int) -> None:
        self._free.pop(lane, None)

    def wait(self, timeout_s: float) -> list[Event]:
        until = self.now + timeout_s
        if not self._events or self._events[0][0] > until:
            self.now = until
            return []
        self.now = max(self.now, self._events[0][0])
        _, _, lane, work, attempt = heapq.heappop(self._events)
        return [Ready(lane, {}) if work is None else Replied(lane, attempt, self._stage(work, attempt))]

    def describe(self) -> dict[int, dict[str, str]]:
        return {}

    def close(self) -> None:
        pass

    def _later(self, due: float, lane: int, work: Slice | None, attempt: str) -> None:
        self._n += 1
        heapq.heappush(self._events, (due, self._n, lane, work, attempt))

    def _stage(self, work: Slice, attempt: str) -> Receipt:
        began = time.thread_time()
        key = key_of(RUN, work.id)
        self._store.path(key).write_bytes(TEXT)
        scores = StagedFile(key, ROWS, len(TEXT), self._digest, self._store.stamp(key) or "")
        facts = {"seconds": STAGES, "routes": {"gpu": ROWS}, "device": "NVIDIA H100", "scores": scores}
        receipt = Receipt(work.id, work.partition, attempt, ROWS, Counts(ROWS), **facts)  # type: ignore[arg-type]
        self.staging_s += time.thread_time() - began
        return receipt


class Planned:
    """Slices as a planner gives them, made in the driver's own thread."""

    def __init__(self, publishing: Publishing, count: int, seconds: float) -> None:
        self.finished = False
        self._publishing, self._count, self._seconds, self._rng = publishing, count, seconds, Random(0)
        self._n = 0
        self._partition = Partition("", ())
        self._waiting: deque[Slice] = deque()

    def take(self, most: int) -> list[Slice]:
        found: list[Slice] = []
        while len(found) < most and self._n < self._count:
            found.append(self._next())
        self.finished = self._n == self._count
        return found

    def _next(self) -> Slice:
        if self._n % OF_PARTITION == 0:
            files = tuple(File(f"/data/{self._n + n}.parquet", 9, "1-1") for n in range(OF_PARTITION))
            self._partition = Partition(f"part={self._n // OF_PARTITION:05d}", files)
            self._publishing.begin(self._partition)
        wait = round(self._seconds * self._rng.uniform(0.75, 1.25) * 1e6)
        work = Slice(self._partition.key, (Fragment(f"/data/{self._n}.parquet", "1-1", (0, 1), 0, ROWS, wait),))
        self._publishing.plan(work)
        self._n += 1
        if self._n % OF_PARTITION == 0:
            self._publishing.planned(self._partition)
        return work


def measure(scratch: Path | None, count: int, lanes: int, seconds: float) -> dict[str, float]:
    root = tempfile.mkdtemp(prefix="scaling-", dir=scratch)
    before, began = _peak_mb(), time.thread_time()
    try:
        store, pool = LocalStore(root), Simulated(root, RUN)
        job = Job(root, Source("parquet", "/data"), Model("/bundle"))
        identity = Identity(RUN, {"name": "m", "version": "1", "digest": "0" * 64}, {"model": "m"}, "f" * 64)
        publishing = Publishing(job, store, Ledger(store), identity, Account(), "gpu")
        log = DoneLog(store, RUN, pool.clock)

        def finished(work: Slice, receipt: Receipt) -> None:
            log.add(receipt)
            publishing.finished(receipt)

        def turn() -> None:
            publishing.publish_due()
            log.flush_due()

        dispatcher = Dispatcher(lanes, "gpu", Engine.in_flight, Retry(), Fallback(), Random(0), partial("{}".format))
        none: Callable[[Slice], None] = lambda work: None  # noqa: E731 - nothing fails
        given = (dispatcher, pool, Planned(publishing, count, seconds), none, finished, lambda: None, pool.clock)
        outcome = attend(*given, on_turn=turn)
        used = time.thread_time() - began - pool.staging_s
        published = sum(p.status == "published" for p in publishing.account.partitions.values())
        if outcome.ending != "done" or published != count // OF_PARTITION or publishing.account.counts.total != count * ROWS:
            raise SystemExit(f"{outcome}: {published} partitions")
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return {
        "slices": count,
        "driver_ms": used / count * 1e3,
        "efficiency": pool.busy_s / (pool.now * lanes),
        "simulated_s": pool.now,
        "mb": _peak_mb(),
        "mb_before": before,
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--slices", type=int, default=100_000)
    ask.add_argument("--lanes", type=int, default=64)
    ask.add_argument("--seconds", type=float, default=2.0)
    ask.add_argument("--scratch", type=Path, help="where staged files lie")
    given = ask.parse_args()
    print(json.dumps(measure(given.scratch, given.slices, given.lanes, given.seconds)))


if __name__ == "__main__":
    main()
