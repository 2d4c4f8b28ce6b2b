"""A job of three slices of one partition, with bad rows and a lost file, and an account of what it left. Run as a script, it dies.

python small_job.py ROOT ATTEMPT SITE: do the job and be killed at SITE.
"""

import os
import signal
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scoring.settings import Sink
from scoring.sinks.publish import Identity, current, publish
from scoring.sinks.staged import StagedWriter, find
from scoring.stores import open_store
from scoring.types import BadFile, Counts, Fragment, Output, Slice

KEY, RUN, ROWS, BAD = "date=2026-01-01", "r-1", 40, 3
IDENTITY = Identity(RUN, {"name": "m", "version": "7"}, {"model": "m1"}, "f" * 64)
SLICES = tuple(Slice(KEY, (Fragment(f"/in/{n}.parquet", "1-1", (0, 1), 0, ROWS, 10),)) for n in range(3))
SITES = (
    "stage.before_quarantine",
    "stage.before_link",
    "stage.after_link",
    "publish.before_manifest",
    "publish.after_manifest",
    "publish.after_show",
)


def stage(store, place, attempt, sites=lambda site: None, run=RUN, work=None):
    """Stage slice `place`: ids place*1000…, the first BAD of them quarantined; slice 2 also lost a file of 5 rows."""
    work = work or SLICES[place]
    writer = StagedWriter(store, run, work, attempt, Sink(), "7", [Output("score")], sites)
    try:
        ids = np.arange(ROWS, dtype=np.int64) + 1000 * place
        good, bad = ids[BAD:], ids[:BAD]
        for part in np.array_split(good, 3):
            writer.scores(pa.record_batch({"id": part}), (part / 7).astype(np.float32)[:, None])
        writer.quarantine(pa.record_batch({"id": bad}), "/in/x", np.arange(BAD), "admit", [("id:range",)] * BAD)
        lost = (BadFile("/in/lost", "read", "truncated", 5),) if place == 2 else ()
        for file in lost:
            writer.bad_file(file)
        away = BAD + 5 * len(lost)
        return writer.commit(rows_in=len(good) + away, counts=Counts(len(good), away), bad_files=lost)
    except BaseException:
        writer.abort()
        raise


def do(store, attempt, sites=lambda site: None, identity=IDENTITY):
    """What a driver and its lane do: stage what is not staged, publish."""
    run = identity.run_id
    found = [find(store, run, s.id) or stage(store, n, f"{attempt}-{n}", sites, run) for n, s in enumerate(SLICES)]
    return publish(store, identity, KEY, "in-1", found, (), planned_rows=None, sites=sites)


def check(store, run=RUN):
    """Everything is there once: in the manifest, in the staged files, in the public folders. Raises AssertionError."""
    manifest = current(store, KEY)
    assert manifest.run_id == run
    good = [n * 1000 + i for n in range(3) for i in range(BAD, ROWS)]
    bad = Counter([n * 1000 + i for n in range(3) for i in range(BAD)])
    for files in ([f.staged for f in manifest.files], [f.path for f in manifest.files], listed(store, f"scores/{KEY}")):
        assert [i for file in files for i in table(store, file)["id"].to_pylist()] == good
    for files in ([f.staged for f in manifest.quarantine], listed(store, f"quarantine/{KEY}/run={run}")):
        tables = [table(store, file) for file in files]
        assert Counter(i for t in tables if "id" in t.column_names for i in t["id"].to_pylist()) == bad
        assert sum(t["_rows"].to_numpy().sum() for t in tables) == manifest.counts["quarantined"] == 3 * BAD + 5
    for file in (*manifest.files, *manifest.quarantine):
        assert store.sha256(file.path) == store.sha256(file.staged) == file.sha256
        assert store.size(file.path) == file.bytes
    return manifest


def listed(store, folder):
    """What a plain listing reader takes: Parquet files, in the order of their names."""
    return [name for name in store.list(folder) if name.endswith(".parquet")]


def table(store, name):
    return pq.read_table(store.open_file(name), page_checksum_verification=True)


def other_run(n):
    return replace(IDENTITY, run_id=f"r-{n}", fingerprint=f"{n:064d}")


if __name__ == "__main__":
    _, root, attempt, fatal = sys.argv
    print("ready", flush=True)
    sys.stdin.readline()
    do(open_store(root), attempt, lambda site: os.kill(os.getpid(), signal.SIGKILL) if site == fatal else None)
