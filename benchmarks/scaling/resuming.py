"""A run that goes on where a million slices are done: the last slice of each partition is missing.

    python benchmarks/scaling/resuming.py --slices 1000000

First a run is begun and stopped at once. Then its plan is kept as a pass keeps it, and a staged file and a logged receipt are made
for all slices but one of each partition: every file is one of its own, with the bytes of one that a lane staged (whoever opened it
would find the receipt of another slice). Then the same run goes on in a new process: the plan and what is staged are found, the
receipts are taken in, the missing slices are scored. With `--publish 1` every partition is published, and at last the command is
given again, with nothing left to do; without it partitions count as published when they are complete. `--planned 0` keeps no plan:
footers are read again. The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from many import GROUP_ROWS, PARTITIONS, job_of, write_data, write_model

from scoring.jobs import run as running
from scoring.jobs.publishing import Publishing, Waiting
from scoring.ledger.account import rows, total
from scoring.ledger.plans import Plans
from scoring.settings import Job, Sink
from scoring.sinks.done import MOST, DoneLog
from scoring.sinks.staged import StagedWriter, key_of
from scoring.sources import discover, parquet, slices
from scoring.stores import LocalStore
from scoring.types import Counts, Fragment, Output, PartitionRecord, Receipt, RunRecord, Slice

SECONDS = {"read": 0.412345, "encode": 0.212345, "score": 1.312345, "stage": 0.112345}


class Clock:
    """A watcher that notes when receipts came."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.first = self.last = 0.0
        self.known = 0

    def begin(self, run_id: str, resumed: bool, lanes: int, store: Any) -> None:
        pass

    def planned(self, partition: str, slices: int, rows: int) -> None:
        pass

    def finished(self, receipt: Receipt) -> None:
        if receipt.attempt == "made":
            self.known, self.last = self.known + 1, time.monotonic()
        elif not self.first:
            self.first = time.monotonic()

    def end(self, record: RunRecord) -> None:
        pass


def stage_all(job: Job, run_id: str, planned: bool) -> int:
    """Returns how many slices were made to look done."""
    store, made = LocalStore(job.workspace), 0
    text, pattern = _staged(store)
    log, plans = DoneLog(store, run_id), Plans(store, run_id, job.source)
    store.path(f"runs/{run_id}/staged").mkdir(parents=True, exist_ok=True)
    for partition in discover.partitions(job.source, parquet.SUFFIXES):
        found = slices.plan(partition, job.source)
        work = list(plans.planning(partition, found) if planned else found)
        for one in work[:-1]:
            key = key_of(run_id, one.id)
            store.path(key).write_bytes(text)
            assert pattern.scores is not None
            scores = replace(pattern.scores, key=key, stamp=store.stamp(key) or "")
            log.add(replace(pattern, slice_id=one.id, partition=one.partition, scores=scores))
            made += 1
            if made % MOST == 0:
                log.flush()
    log.flush()
    if planned:
        plans.flush()
    return made


def _staged(store: LocalStore) -> tuple[bytes, Receipt]:
    """A staged file as a lane makes it, and its receipt; the file is taken away again."""
    work = Slice("all", (Fragment("/none", "1-1", (0, 1), 0, GROUP_ROWS, 1),))
    writer = StagedWriter(store, "made", work, "made", Sink(), "1", [Output("score")])
    writer.scores(pa.record_batch({"id": np.arange(GROUP_ROWS)}), np.zeros((GROUP_ROWS, 1), np.float32))
    facts: dict[str, Any] = {"routes": {"cpu": GROUP_ROWS}, "seconds": SECONDS, "device": "Intel(R) Xeon(R) Processor"}
    receipt = writer.commit(rows_in=GROUP_ROWS, counts=Counts(GROUP_ROWS), **facts)
    text = store.get(key_of("made", work.id))
    shutil.rmtree(store.path("runs/made"))
    return text, receipt


def go_on(job: Job, publish: bool) -> dict[str, Any]:
    """In a process of its own."""
    clock = Clock()
    if not publish:
        Publishing._release = _count  # type: ignore[method-assign]
    record = running.run(job, "", clock)
    ended, used = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    return {
        "status": record.status,
        "known": clock.known,
        "first_s": clock.first - clock.began if clock.first else 0.0,
        "resume_s": clock.last - clock.began if clock.known else 0.0,
        "total_s": ended - clock.began,
        "rows": record.rows["in"],
        "cpu_s": used.ru_utime + used.ru_stime,
        "mb": used.ru_maxrss / 1024,
    }


def _count(self: Publishing, waiting: Waiting, receipts: Sequence[Receipt]) -> PartitionRecord:
    return PartitionRecord(waiting.partition.key, "published", rows(total(receipts)))


def measure(folder: Path, scratch: Path, count: int, publish: bool, planned: bool) -> dict[str, float]:
    data, bundle = write_data(folder, count), write_model(folder)
    workspace = scratch / "resume-workspace"
    shutil.rmtree(workspace, ignore_errors=True)
    job = job_of(data, bundle, workspace)
    job = replace(job, engine=replace(job.engine, kind="inline", lanes=1))
    stopped = running.run(job, "", Clock(), lambda: "stopped by the benchmark")
    made = stage_all(job, stopped.run_id, planned)
    found = child(folder, scratch, count, publish)
    if found["known"] != made or found["rows"] != count * GROUP_ROWS or made != count - PARTITIONS:
        raise SystemExit(f"{made} slices were staged: {found}")
    if publish:
        again = child(folder, scratch, count, publish)
        if again["known"]:
            raise SystemExit(f"Something was left to do: {again}")
        found |= {"nothing_s": again["total_s"], "nothing_mb": again["mb"]}
    shutil.rmtree(workspace)
    return {**found, "slices": count}


def child(folder: Path, scratch: Path, count: int, publish: bool) -> dict[str, Any]:
    command = [
        sys.executable,
        __file__,
        "--folder",
        str(folder),
        "--scratch",
        str(scratch),
        "--slices",
        str(count),
        "--publish",
        str(int(publish)),
        "--go-on",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--folder", type=Path, default=Path(".bench/scale"))
    ask.add_argument("--scratch", type=Path, help="the folder of the workspace")
    ask.add_argument("--slices", type=int, default=1_000_000)
    ask.add_argument("--publish", type=int, default=0)
    ask.add_argument("--planned", type=int, default=1)
    ask.add_argument("--go-on", action="store_true", help=argparse.SUPPRESS)
    given = ask.parse_args()
    folder = given.folder.absolute()
    scratch = (given.scratch or folder).absolute()
    if given.go_on:
        job = job_of(write_data(folder, given.slices), write_model(folder), scratch / "resume-workspace")
        print(json.dumps(go_on(replace(job, engine=replace(job.engine, kind="inline", lanes=1)), bool(given.publish))))
    else:
        print(json.dumps(measure(folder, scratch, given.slices, bool(given.publish), bool(given.planned))))


if __name__ == "__main__":
    main()
