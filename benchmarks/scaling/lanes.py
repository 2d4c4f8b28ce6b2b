"""Lanes whose device time is a wait, through the real Ray pool and the real dispatcher; each slice is staged as a real file.

    python benchmarks/scaling/lanes.py --lanes 64 --seconds 2 --each 40

A wait is drawn evenly from 0.75 to 1.25 of `--seconds`; a lane waits for one slice at a time, as a GPU works at one, and stages it
while it waits for the next. Efficiency is the share of time in which devices were busy, from the moment that all lanes were ready
to the end of the last slice; `steady` ends when nothing was left to hand out, so that lanes that have run out of work do not count.
The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa

from scoring.pool import LaneKind
from scoring.pool.dispatcher import Dispatcher
from scoring.pool.drive import drive
from scoring.pool.ray import RayPool, Session, Share
from scoring.settings import Engine, Fallback, Retry, Sink
from scoring.sinks.staged import StagedWriter, find
from scoring.stores import open_store
from scoring.types import Counts, Fragment, Output, Receipt, Slice

RUN, ROWS = "scaling", 64
PATIENT = Retry(start_deadline_s=1800.0)  # 64 processes begin on the cores of one machine
Window = tuple[float, float]


class WaitingLane:
    """The wait of a slice stands where its size would: microseconds in `bytes`."""

    def __init__(self, root: str, kind: LaneKind) -> None:
        pa.set_cpu_count(1)
        self._store, self._device, self.kind = open_store(root), threading.Lock(), kind

    def process(self, work: Slice, attempt: str) -> Receipt:
        known = find(self._store, RUN, work.id)
        if known is not None:
            return known
        with self._device:
            began = time.monotonic()
            time.sleep(work.bytes / 1e6)
        writer = StagedWriter(self._store, RUN, work, attempt, Sink(), "1", [Output("score")])
        scores = np.zeros((ROWS, 1), np.float32)
        writer.scores(pa.record_batch({"id": np.arange(ROWS)}), scores)
        facts = {"seconds": {"score": work.bytes / 1e6}, "work": {"began_us": round(began * 1e6)}, "device": "wait"}
        return writer.commit(rows_in=ROWS, counts=Counts(ROWS), **facts)

    def describe(self) -> dict[str, str]:
        return {"device": "wait"}


class Watched(RayPool):
    """Knows when it sent the last slice."""

    last_sent = 0.0

    def send(self, lane: int, work: Slice, attempt: str) -> None:
        super().send(lane, work, attempt)
        self.last_sent = time.monotonic()


def measure(scratch: Path | None, lanes: int, seconds: float, each: int) -> dict[str, float]:
    """`each` slices for each lane, after those that keep lanes busy until all are ready."""
    root = tempfile.mkdtemp(prefix="scaling-", dir=scratch)
    session = Session(cpus=os.cpu_count())
    began, rng = time.monotonic(), Random(lanes)
    ready: list[float] = []
    cpu: list[float] = []
    done: list[tuple[float, float]] = []  # of device work: begin and end by the clock of the machine
    pool = Watched(partial(WaitingLane, root), {"gpu": Share(1, 0), "cpu": Share(1, 0)}, Engine.in_flight, session=session)

    def slices():  # type: ignore[no-untyped-def]
        """Until all lanes are ready there is always another; from then on so many as were asked for."""
        left, n = lanes * each, 0
        while left:
            if len(ready) == lanes:
                left -= 1
            wait = round(seconds * rng.uniform(0.75, 1.25) * 1e6)
            yield Slice("all", (Fragment(f"/data/{n}", "1-1", (0, 1), 0, ROWS, wait),))
            n += 1
            while len(ready) < lanes and n > 2 * len(ready) + len(done) + 2 * lanes:
                time.sleep(0.05)

    def on_ready() -> None:
        ready.append(time.monotonic())
        cpu.append(time.process_time())

    def on_finished(work: Slice, receipt: Receipt) -> None:
        start = receipt.work["began_us"] / 1e6
        done.append((start, start + receipt.seconds["score"]))

    try:
        dispatcher = Dispatcher(lanes, "cpu", Engine.in_flight, PATIENT, Fallback(), Random(0), partial("{}".format))
        outcome = drive(
            dispatcher, pool, slices(), lambda work: find(open_store(root), RUN, work.id), on_finished, on_ready=on_ready
        )
        ended, used = max(end for _, end in done), time.process_time() - cpu[-1]
    finally:
        session.close()
        shutil.rmtree(root, ignore_errors=True)
    if outcome.ending != "done":
        raise SystemExit(str(outcome))
    whole, steady = (ready[-1], ended), (ready[-1], min(pool.last_sent, ended))
    counted = sum(end > ready[-1] for _, end in done)
    return {
        "lanes": lanes,
        "seconds": seconds,
        "slices": counted,
        "wall_s": whole[1] - whole[0],
        "efficiency": busy(done, whole) / lanes,
        "steady": busy(done, steady) / lanes,
        "start_s": ready[-1] - began,
        "driver_ms": used / counted * 1e3,
        "driver_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def busy(done: list[tuple[float, float]], window: Window) -> float:
    """How many devices were busy in the window, on average."""
    inside = (min(end, window[1]) - max(start, window[0]) for start, end in done)
    return sum(seconds for seconds in inside if seconds > 0) / (window[1] - window[0])


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--lanes", type=int, default=64)
    ask.add_argument("--seconds", type=float, default=2.0)
    ask.add_argument("--each", type=int, default=40)
    ask.add_argument("--scratch", type=Path, help="where staged files lie")
    given = ask.parse_args()
    print(json.dumps(measure(given.scratch, given.lanes, given.seconds, given.each)))


if __name__ == "__main__":
    main()
