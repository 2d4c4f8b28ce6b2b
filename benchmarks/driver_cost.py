"""What a slice costs the driver: 10,000 slices without work through the real dispatcher and real Ray lanes.

    python benchmarks/driver_cost.py

`ours` is CPU time of the driver process per slice (planning, dispatch, replies), `theirs` the goal of 1 ms; wall time is printed
too.
The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from functools import partial
from random import Random

from scoring.pool import LaneKind
from scoring.pool.dispatcher import Dispatcher
from scoring.pool.drive import drive
from scoring.pool.ray import RayPool, Session, Share
from scoring.settings import Fallback, Retry
from scoring.types import Counts, Fragment, Receipt, Slice

GOAL_MS = 1.0


class IdleLane:
    """Answers at once: all that is left is the cost of asking."""

    def __init__(self, kind: LaneKind) -> None:
        self.kind = kind

    def process(self, work: Slice, attempt: str) -> Receipt:
        return Receipt(work.id, work.partition, attempt, work.rows, Counts(work.rows))

    def describe(self) -> dict[str, str]:
        return {"device": self.kind}


def once(count: int, session: Session) -> tuple[float, float]:
    """(CPU, wall) milliseconds per slice."""
    work = [Slice("all", (Fragment(f"/data/{n}.parquet", "1-1", (0, 1), 0, 1, 1),)) for n in range(count)]
    pool = RayPool(IdleLane, {"gpu": Share(1, 0), "cpu": Share(1, 0)}, in_flight=2, session=session)
    dispatcher = Dispatcher(2, "cpu", 2, Retry(), Fallback(), Random(0), partial("{}".format))
    done: list[str] = []
    cpu, wall = time.process_time(), time.monotonic()
    outcome = drive(dispatcher, pool, iter(work), lambda w: None, lambda w, receipt: done.append(w.id))
    used = ((time.process_time() - cpu) / count * 1e3, (time.monotonic() - wall) / count * 1e3)
    if outcome.ending != "done" or len(set(done)) != count:
        raise SystemExit(f"{outcome}: {len(set(done))} of {count} slices")
    return used


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--slices", type=int, default=10_000)
    ask.add_argument("--rounds", type=int, default=5)
    given = ask.parse_args()
    session, found = Session(cpus=2), []
    try:
        for _ in range(given.rounds):
            found.append(once(given.slices, session))
            print(f"{found[-1][0]:.3f} ms CPU, {found[-1][1]:.3f} ms wall per slice", flush=True)
    finally:
        session.close()
    ours = round(statistics.median(cpu for cpu, _ in found), 3)
    row = {"name": "driver CPU per slice", "ours": ours, "theirs": GOAL_MS, "ratio": round(ours / GOAL_MS, 3)}
    print(json.dumps(row | {"unit": "ms", "n": given.rounds}))


if __name__ == "__main__":
    main()
