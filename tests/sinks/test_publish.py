"""What readers see while partitions are published, published again, and repaired."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import small_job
from obstore.store import MemoryStore

from scoring.errors import SourceError, StoreError
from scoring.settings import Sink
from scoring.sinks.publish import current, publish, published, repair
from scoring.sinks.reader import read_scores
from scoring.sinks.staged import StagedWriter
from scoring.stores import LocalStore
from scoring.stores.objects import ObjectStore
from scoring.types import Check, Counts, Fragment, Output, Slice


@pytest.fixture
def store(tmp_path):
    return LocalStore(str(tmp_path / "w"))


@pytest.fixture(params=["local", "memory"])
def any_store(request, tmp_path):
    return LocalStore(str(tmp_path / "w")) if request.param == "local" else ObjectStore("memory://w", MemoryStore())


def staged(store, key, place, rows, identity=small_job.IDENTITY, carry="id"):
    """A staged slice of `rows` rows whose scores are its version's number."""
    work = Slice(key, (Fragment(f"/in/{place}", "1-1", (0, 1), 0, rows, 10),))
    writer = StagedWriter(store, identity.run_id, work, f"a{place}", Sink(), "7", [Output("score")])
    if rows:
        writer.scores(pa.record_batch({carry: np.arange(rows) + 100 * place}), np.full((rows, 1), 0.5, np.float32))
    return writer.commit(rows_in=rows, counts=Counts(rows))


LISTER = """
import json, os, sys
import pyarrow.parquet as pq
folder, ticks, stop = sys.argv[1:]
seen = set()
def look():
    names = sorted(n for n in os.listdir(folder) if n.endswith(".parquet"))
    tables = [pq.read_table(os.path.join(folder, n), columns=["run_id"], use_threads=False) for n in names]
    seen.add((tuple(sorted({r for t in tables for r in t["run_id"].unique().to_pylist()})), sum(t.num_rows for t in tables)))
with open(ticks, "ab", buffering=0) as tick:
    while not os.path.exists(stop):
        try:
            look()
        except FileNotFoundError:
            pass  # the version that was listed is gone: list again
        tick.write(b".")
print(json.dumps(sorted(seen)), flush=True)
"""


def test_a_listing_reader_sees_one_version_whole_during_a_hundred_publications(store, tmp_path):
    identities = [small_job.other_run(n) for n in range(10)]
    sizes = [1 + n % 3 for n in range(10)]  # versions differ in their number of files: a mix would show
    receipts = [[staged(store, "all", p, 10, who) for p in range(size)] for who, size in zip(identities, sizes, strict=True)]
    publish(store, identities[0], "all", "in", receipts[0], ())
    stop, ticks = tmp_path / "stop", tmp_path / "ticks"
    command = [sys.executable, "-c", LISTER, str(store.path("scores/all")), str(ticks), str(stop)]
    lister = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    turn = 1
    while turn < 100 or not ticks.exists() or ticks.stat().st_size < 100:
        publish(store, identities[turn % 10], "all", "in", receipts[turn % 10], ())
        turn += 1
        assert lister.poll() is None
    stop.touch()
    seen = json.loads(lister.communicate(timeout=60)[0])
    allowed = [[[who.run_id], 10 * size] for who, size in zip(identities, sizes, strict=True)]
    assert len(seen) > 3
    assert all(view in allowed for view in seen)
    assert current(store, "all").version == turn


def test_a_reader_through_manifests_is_not_disturbed_by_a_publication_in_between(store):
    first = small_job.other_run(1)
    publish(store, first, "all", "in", [staged(store, "all", p, 10, first) for p in range(3)], ())
    frame = read_scores(store.root)
    second = small_job.other_run(2)
    publish(store, second, "all", "in", [staged(store, "all", p, 10, second) for p in range(2)], ())
    assert frame.collect()["run_id"].unique().to_list() == ["r-1"]
    assert read_scores(store.root).collect()["run_id"].to_list() == ["r-2"] * 20


def test_publishing_again_changes_nothing(any_store):
    receipts = [staged(any_store, "all", p, 5) for p in range(2)]
    first = publish(any_store, small_job.IDENTITY, "all", "in", receipts, (Check("c", "all", "pass", "error", "", ""),))
    names = list(any_store.list("scores"))
    assert publish(any_store, small_job.IDENTITY, "all", "in", receipts, ()) == first
    assert list(any_store.list("scores")) == names


def test_new_input_in_the_same_run_is_a_new_version_without_the_old_quarantine(any_store):
    small_job.do(any_store, "a")
    receipts = [small_job.stage(any_store, 1, "b")]
    manifest = publish(any_store, small_job.IDENTITY, small_job.KEY, "in-2", receipts, ())
    assert manifest.version == 2
    assert small_job.listed(any_store, f"scores/{small_job.KEY}") == [f.path for f in manifest.files]
    assert small_job.listed(any_store, f"quarantine/{small_job.KEY}/run=r-1") == [f.path for f in manifest.quarantine]


def test_names_follow_the_input_and_never_repeat_between_versions(store):
    versions = [small_job.do(store, "a", identity=small_job.other_run(n)) for n in range(3)]
    names = [[f.path for f in m.files] for m in versions]
    assert all(list(n) == sorted(n) for n in names)
    assert len({name for version in names for name in version}) == sum(map(len, names))
    assert [n.rsplit("/", 1)[1][:19] for n in names[0]] == [f"part-{p:05d}-{s.id[:8]}" for p, s in enumerate(small_job.SLICES)]


@pytest.mark.parametrize("change", ["rows", "staged", "planned", "twice", "foreign", "unstaged"])
def test_what_does_not_add_up_is_not_published(any_store, change):
    receipts = [staged(any_store, "all", p, 5) for p in range(2)]
    planned, key = None, "all"
    if change == "rows":
        object.__setattr__(receipts[0], "rows_in", 6)
    elif change == "staged":
        receipts[0] = replace(receipts[0], scores=replace(receipts[0].scores, rows=4))
    elif change == "planned":
        planned = 11
    elif change == "twice":
        receipts.append(receipts[0])
    elif change == "foreign":
        key = "other"
    else:
        receipts[0] = replace(receipts[0], scores=None)
    with pytest.raises(StoreError, match=r"not published|no staged file"):
        publish(any_store, small_job.IDENTITY, key, "in", receipts, (), planned)
    assert list(any_store.list("scores")) == []


def test_a_staged_file_that_is_gone_is_named_before_anything_is_committed(any_store):
    receipts = [staged(any_store, "all", p, 5) for p in range(2)]
    any_store.remove(receipts[1].scores.key)
    with pytest.raises(StoreError, match=receipts[1].slice_id):
        publish(any_store, small_job.IDENTITY, "all", "in", receipts, ())
    assert current(any_store, "all") is None


def test_nothing_can_be_published_too(any_store):
    manifest = publish(any_store, small_job.IDENTITY, "date=1", "in", [], ())
    assert (manifest.files, manifest.counts["scored"]) == ((), 0)
    assert list(any_store.list("scores/date=1")) == ["scores/date=1/_SUCCESS"]
    second = small_job.other_run(2)
    publish(any_store, second, "date=1", "in", [staged(any_store, "date=1", 0, 0, second)], ())
    assert len(small_job.listed(any_store, "scores/date=1")) == 1, "a file without rows still tells the columns"


def test_partitions_inside_one_another_never_disappear(any_store):
    outer, inner = "k=1", "k=1/j=2"
    for n in range(3):
        who = small_job.other_run(n)
        for key in (inner, outer) if n % 2 else (outer, inner):
            publish(any_store, who, key, "in", [staged(any_store, key, 0, 5 + n, who)], ())
            for manifest in published(any_store):
                below = [
                    f
                    for f in small_job.listed(any_store, f"scores/{manifest.key}")
                    if "/" not in f[len(f"scores/{manifest.key}/") :]
                ]
                assert below == [f.path for f in manifest.files]


@pytest.mark.parametrize("damage", ["folder gone", "file gone", "file added", "seal gone"])
def test_repair_makes_the_folder_what_the_manifest_says(store, damage):
    manifest = small_job.do(store, "a")
    folder = store.path(f"scores/{small_job.KEY}")
    if damage == "folder gone":
        folder.rename(folder.with_name("elsewhere"))
    elif damage == "file gone":
        next(folder.glob("*.parquet")).unlink()
    elif damage == "file added":
        (folder / "part-9.parquet").touch()
    else:
        (folder / "_SUCCESS").unlink()
    repair(store, manifest)
    small_job.check(store)


def test_an_old_manifest_repairs_nothing(any_store):
    old = small_job.do(any_store, "a")
    new = small_job.do(any_store, "b", identity=small_job.other_run(2))
    repair(any_store, old)
    assert small_job.listed(any_store, f"scores/{small_job.KEY}") == [f.path for f in new.files]


def test_without_an_exchange_the_folder_is_replaced_all_the_same(store, monkeypatch):
    from scoring.stores import renames

    def unsupported(*args):
        raise OSError(22, "this file system cannot exchange")

    small_job.do(store, "a")
    monkeypatch.setattr(renames, "_renameat2", unsupported)
    small_job.do(store, "b", identity=small_job.other_run(2))
    small_job.check(store, run="r-2")
    store.sweep()
    assert os.listdir(store.path("runs/.spool")) == []


def test_a_reader_in_the_folder_while_it_is_exchanged_still_lists_the_version_it_opened(store):
    first, second = small_job.other_run(1), small_job.other_run(2)
    publish(store, first, "all", "in", [staged(store, "all", p, 10, first) for p in range(3)], ())
    opened = os.open(store.path("scores/all"), os.O_RDONLY)
    try:
        before = sorted(os.listdir(opened))
        publish(store, second, "all", "in", [staged(store, "all", 0, 10, second)], ())
        assert sorted(os.listdir(opened)) == before
        assert len(before) == 4
    finally:
        os.close(opened)


def test_plain_tools_read_the_folders(store):
    for day in ("date=2026-01-01", "date=2026-01-02"):
        publish(store, small_job.IDENTITY, day, "in", [staged(store, day, p, 5) for p in range(2)], ())
    root = os.path.join(store.root, "scores")
    assert ds.dataset(root, partitioning="hive").count_rows() == 20
    assert pq.read_table(root).num_rows == 20
    assert pl.read_parquet(root + "/**/*.parquet", hive_partitioning=True).height == 20
    assert pl.read_parquet(root + "/date=2026-01-01/").height == 10


def test_read_scores_keeps_order_and_adds_hive_keys(store):
    for key, first in (("date=b%2Fb/n=1", 5), ("date=a/n=2", 7)):
        receipts = [staged(store, key, p, rows) for p, rows in enumerate((first, 0, 3))]
        publish(store, small_job.IDENTITY, key, "in", receipts, ())
    found = read_scores(store.root).collect()
    assert found["id"].to_list() == [*range(7), 200, 201, 202, *range(5), 200, 201, 202]
    assert found["date"].to_list() == ["a"] * 10 + ["b/b"] * 8
    assert found.schema["n"] == pl.String
    assert read_scores(store.root).select("n", pl.len().over("n").alias("rows")).unique().sort("n").collect().rows() == [
        ("1", 8),
        ("2", 10),
    ]


def test_read_scores_falls_back_to_public_files(store):
    manifest = small_job.do(store, "a")
    for file in manifest.files:
        store.remove(file.staged)
    assert read_scores(store.root).collect().height == manifest.counts["scored"]


def test_read_scores_of_a_column_that_is_carried_and_a_hive_key(store):
    key = "day=1"
    publish(store, small_job.IDENTITY, key, "in", [staged(store, key, 0, 3, carry="day")], ())
    assert read_scores(store.root).collect()["day"].to_list() == [0, 1, 2], "carried columns are untouched"


def test_an_empty_workspace_says_so(store):
    with pytest.raises(SourceError, match="Nothing has been published"):
        read_scores(store.root)


def test_a_damaged_manifest_is_named(any_store):
    manifest = small_job.do(any_store, "a")
    for text in (b"{", b"{}", b"[]", manifest.to_json().replace(b'"version":1', b'"version":3')):
        any_store.replace(manifest.name, text)
        with pytest.raises(StoreError, match=r"v00001.json is damaged"):
            current(any_store, small_job.KEY)


def test_nothing_is_shown_before_its_manifest_stands(store):
    """A run that dies just before the commit leaves readers what they had."""

    def die(site):
        if site == "publish.before_manifest":
            raise OSError("died")

    with pytest.raises(OSError, match="died"):
        small_job.do(store, "a", die)
    assert small_job.listed(store, f"scores/{small_job.KEY}") == []
    first = small_job.do(store, "a")
    with pytest.raises(OSError, match="died"):
        small_job.do(store, "b", die, identity=small_job.other_run(2))
    assert small_job.listed(store, f"scores/{small_job.KEY}") == [f.path for f in first.files]
