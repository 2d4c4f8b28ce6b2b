"""A run that goes on takes what is done from the log of receipts, believes nothing that is not staged, and needs no log."""

import gc
import os
import sys
import tracemalloc
from contextlib import closing
from pathlib import Path

import daily
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.jobs.plan import plan
from scoring.jobs.run import run
from scoring.sinks.done import DoneLog, Recalled
from scoring.sinks.reader import read_scores
from scoring.sinks.staged import finished, key_of
from scoring.sources import discover, parquet, slices
from scoring.stores import LocalStore
from scoring.types import Counts, Fragment, Receipt, Slice, StagedFile

FILES, DONE = 6, 3
DAY = "2026-01-01"


class Counting(daily.Quiet):
    """Stops the run after some receipts, once its plan is kept; keeps their attempts."""

    def __init__(self, most=FILES + 1):
        self.most, self.attempts = most, []

    def begin(self, run_id, resumed, lanes, store):
        self.store = store

    def finished(self, receipt):
        self.attempts.append((receipt.slice_id, receipt.attempt))

    def stop(self):
        return "enough" if len(self.attempts) >= self.most and kept(self.store, "plan") else None


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return daily.make(tmp_path_factory.mktemp("models"))


@pytest.fixture
def stopped(models, tmp_path):
    """A job of one partition of six slices, of which three or more are staged and none is published; and what was done."""
    for n in range(FILES):
        daily.write(tmp_path / "data", DAY, daily.rows(n), f"part-{n}.parquet")
    job = daily.job(
        models, tmp_path / "data", tmp_path / "w", source__slice_rows=daily.ROWS, engine__in_flight=1, engine__retry__backoff_s=0.01
    )
    watcher = Counting(DONE)
    record = run(job, "", watcher, watcher.stop)
    assert record.status == "paused"
    assert DONE <= len(watcher.attempts) < FILES
    return job, record.run_id, dict(watcher.attempts)


def kept(store, what):
    return [key for key in store.list("runs") if f"/{what}/" in key]


def overwrite(path, keep_time):
    """Another content in the same place, of the same size."""
    before = path.stat()
    with open(path, "r+b") as file:
        file.write(b"X" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + (0 if keep_time else 1_000_000_000)))


def goes_on(job, done):
    """The whole partition is published, and what was done keeps the attempt that did it."""
    watcher = Counting()
    record = run(job, "", watcher)
    assert (record.status, record.rows["scored"]) == ("published", FILES * daily.ROWS)
    assert done.items() <= dict(watcher.attempts).items()
    assert len(watcher.attempts) == FILES


def test_what_is_logged_is_not_opened_again(stopped):
    """Bytes that nobody could read, under stamps that stand: only who opens the files would notice."""
    job, run_id, done = stopped
    store = LocalStore(job.workspace)
    for slice_id in done:
        overwrite(store.path(key_of(run_id, slice_id)), keep_time=True)
    goes_on(job, done)


def test_a_file_that_changed_is_not_what_was_logged(stopped):
    job, run_id, done = stopped
    overwrite(LocalStore(job.workspace).path(key_of(run_id, min(done))), keep_time=False)
    record = run(job, "", Counting())
    assert record.status == "failed"
    assert f"{min(done)}.parquet is damaged" in record.message


@pytest.mark.parametrize("what", ["done", "plan"])
@pytest.mark.parametrize("harm", ["gone", "torn", "flipped", "empty"])
def test_without_its_log_or_its_plan_a_run_goes_on_the_same(stopped, harm, what):
    job, _, done = stopped
    store = LocalStore(job.workspace)
    (key,) = kept(store, what)
    path, text = store.path(key), store.get(key)
    if harm == "gone":
        path.unlink()
    else:
        flipped = text[:-9] + bytes([text[-9] ^ 1]) + text[-8:]
        path.write_bytes({"torn": text[: len(text) // 2], "flipped": flipped, "empty": b""}[harm])
    goes_on(job, done)
    assert read_scores(job.workspace).collect()["id"].is_unique().all()


def test_the_garbage_collector_is_spared_receipts_until_the_end(tmp_path):
    store = LocalStore(str(tmp_path))
    ids = logged(store, 3)
    with closing(Recalled(store, "r", finished(store, "r"), ["all"])) as recalled:
        assert recalled.take(["unknown"], "all") == [None]
        assert not gc.get_freeze_count(), "what found nothing keeps nothing from it"
        receipts = recalled.take(ids, "all")
        assert gc.isenabled()
        assert not watched(receipts)
    assert watched(receipts)


def watched(objects):
    """Those that the collector looks at."""
    places = {id(one) for one in gc.get_objects()}
    return [one for one in objects if id(one) in places]


def test_a_run_that_went_on_leaves_the_garbage_collector_as_it_was(stopped):
    job, _, done = stopped
    goes_on(job, done)
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, 0)


def test_what_is_planned_and_done_is_not_planned_again(stopped):
    """Files that nobody could read, with the size and time that they had: only who looks at footers would notice."""
    job, _, done = stopped
    for path in files_of(job, done):
        overwrite(path, keep_time=True)
    goes_on(job, done)


def test_a_run_that_ends_before_all_is_planned_keeps_what_is(models, tmp_path):
    for n in range(40):
        pq.write_table(daily.rows(n, 100), daily.write(tmp_path / "data", f"day-{n}", daily.rows(n, 1)), row_group_size=1)
    job = daily.job(models, tmp_path / "data", tmp_path / "w", source__slice_rows=1)

    class Planned(daily.Quiet):
        slices = 0

        def planned(self, partition, slices, rows):
            self.slices += slices

    watcher = Planned()
    record = run(job, "", watcher, lambda: "enough" if watcher.slices > 150 else None)
    assert record.status == "paused"
    assert watcher.slices < 40 * 100, "nothing is shown where all was planned"
    assert kept(LocalStore(job.workspace), "plan")


def test_a_plan_does_not_outlive_a_file(stopped):
    job, _, done = stopped
    (other, *_) = {Path(file.path) for file in files(job)} - files_of(job, done)
    other.unlink()
    record = run(job, "", Counting())
    assert (record.status, record.rows["scored"]) == ("published", (FILES - 1) * daily.ROWS)


def files(job):
    (partition,) = discover.partitions(job.source, parquet.SUFFIXES)
    return partition.files


def files_of(job, done):
    (partition,) = discover.partitions(job.source, parquet.SUFFIXES)
    return {Path(one.fragments[0].path) for one in slices.plan(partition, job.source) if one.id in done}


def test_what_is_not_staged_is_scored_again_whatever_was_logged(stopped):
    job, run_id, done = stopped
    lost = min(done)
    LocalStore(job.workspace).remove(key_of(run_id, lost))
    watcher = Counting()
    assert run(job, "", watcher).status == "published"
    assert dict(watcher.attempts)[lost] != done[lost]
    assert sorted(read_scores(job.workspace).collect()["id"]) == sorted(
        i for n in range(FILES) for i in daily.rows(n)["id"].to_pylist()
    )


# --- counts, not times -----------------------------------------------------------------------------------------------------


def lines(what):
    """Lines of Python that were run."""
    count = 0

    def seen(frame, event, given):
        nonlocal count
        count += event == "line"
        return seen

    before = sys.gettrace()
    sys.settrace(seen)
    try:
        what()
    finally:
        sys.settrace(before)
    return count


def alike(folder, count, groups=2):
    """Files of one size and shape; no two have the same bytes."""
    folder.mkdir()
    for n in range(count):
        with pq.ParquetWriter(
            folder / f"{n:04d}.parquet", pa.schema({"id": pa.int64(), "x": pa.float64(), "y": pa.float64()})
        ) as writer:
            writer.add_key_value_metadata({"number": f"{n:08d}"})
            writer.write_table(daily.rows(0, 2 * groups), row_group_size=2)
    return folder


def test_planning_twice_as_many_files_is_twice_the_work(models, tmp_path):
    def work(count):
        source = daily.job(models, alike(tmp_path / str(count), count), tmp_path / "w", source__slice_rows=2).source
        (partition,) = discover.partitions(source, parquet.SUFFIXES)
        return lines(lambda: [*slices.plan(partition, source)])

    few, many = work(20), work(80)
    assert many < 4.2 * few


def test_a_plan_keeps_no_slice(models, tmp_path):
    def peak(groups):
        job = daily.job(models, alike(tmp_path / str(groups), 4, groups), tmp_path / "w", source__slice_rows=2)
        plan(job)
        tracemalloc.start()
        try:
            assert plan(job).slices == 4 * groups
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(10), peak(300)
    assert many - few < 4 * 290 * 100  # bytes: a slice and its fragment take some 600, the rows of a group one tuple's place


def logged(store, count):
    """So many slices of run r that are staged, and a log of them; their ids."""
    log, todo = DoneLog(store, "r"), [Slice("all", (Fragment(f"/{n}", "v", None, 0, 1, 1),)) for n in range(count)]
    for one in todo:
        store.put(key_of("r", one.id), b"")
        log.add(Receipt(one.id, "all", "a", 1, Counts(1), scores=StagedFile("k", 1, 0, "", store.stamp(key_of("r", one.id)))))
    log.flush()
    return [one.id for one in todo]


def test_taking_in_twice_as_many_receipts_is_twice_the_work(tmp_path):
    def work(count):
        store = LocalStore(str(tmp_path / str(count)))
        ids = logged(store, count)

        def take():
            with closing(Recalled(store, "r", finished(store, "r"), ["all"])) as recalled:
                assert all(recalled.take(ids, "all"))
                assert not any(recalled.take(ids, "all")), "a receipt is handed out once"

        return lines(take)

    few, many = work(25), work(100)
    assert many < 4.2 * few
