"""What becomes of receipts: a partition goes out as soon as its plan and its last receipt are there, by the driver's thread; one of
which nothing could be read, or that lacks a carried column everywhere, does not go out.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.jobs.publishing import Publishing
from scoring.jobs.run import run
from scoring.ledger.account import Account
from scoring.ledger.chain import Ledger
from scoring.models.train import Recipe, Target, fit
from scoring.pool import Event, Ready, Replied
from scoring.pool.dispatcher import Dispatcher
from scoring.pool.drive import drive
from scoring.settings import Fallback, Job, Model, Retry, Sink, Source, build
from scoring.sinks.publish import Identity, published
from scoring.sinks.reader import read_scores
from scoring.sinks.staged import StagedWriter
from scoring.stores import Store, open_store
from scoring.types import Counts, Fragment, Output, Partition, Receipt, RunRecord, Slice

DAY, NEXT = Partition("day=1", ()), Partition("day=2", ())


def work(n: int, key: str = DAY.key) -> Slice:
    return Slice(key, (Fragment(f"/in/{n}", "1-1", (0, 1), 0, 2, 10),))


def receipt(store: Store, one: Slice) -> Receipt:
    writer = StagedWriter(store, "r", one, f"a-{one.id[:4]}", Sink(), "1", [Output("score")])
    writer.scores(pa.record_batch({"id": [1, 2]}), np.zeros((2, 1), np.float32))
    return writer.commit(rows_in=2, counts=Counts(2))


def publishing(folder: Path) -> tuple[Publishing, Store]:
    store = open_store(str(folder))
    job = Job(str(folder), Source("parquet", "/in"), Model("b"))
    return Publishing(job, store, Ledger(store), Identity("r", {}, {}, "f"), Account(), "cpu"), store


def keys(store: Store) -> list[str]:
    return [manifest.key for manifest in published(store)]


@pytest.mark.parametrize("order", ["plan first", "receipt first"])
def test_whichever_comes_second_makes_a_partition_due(tmp_path: Path, order: str) -> None:
    to_publish, store = publishing(tmp_path)
    to_publish.begin(DAY)
    to_publish.plan(work(1))
    if order == "plan first":
        to_publish.planned(DAY)
        assert keys(store) == []
        to_publish.finished(receipt(store, work(1)))
    else:
        to_publish.finished(receipt(store, work(1)))
        to_publish.publish_due()
        assert keys(store) == []
        to_publish.planned(DAY)
        assert keys(store) == []  # the planner's thread writes nothing
        to_publish.publish_due()
    assert keys(store) == ["day=1"]
    to_publish.publish_due()
    assert [m.version for m in published(store)] == [1]


class OneLane:
    """Answers at once with a receipt."""

    def __init__(self, store: Store) -> None:
        self._store, self._events = store, list[Event]()

    def start(self, lane: int, kind: str) -> None:
        self._events.append(Ready(lane, {}))

    def send(self, lane: int, one: Slice, attempt: str) -> None:
        self._events.append(Replied(lane, attempt, receipt(self._store, one)))

    def kill(self, lane: int) -> None:
        pass

    def wait(self, timeout_s: float) -> list[Event]:
        if not self._events:
            time.sleep(min(timeout_s, 0.001))
        events, self._events = self._events, []
        return events

    def describe(self) -> dict[int, dict[str, str]]:
        return {}

    def close(self) -> None:
        pass


def test_a_partition_whose_plan_is_late_goes_out_while_the_run_goes_on(tmp_path: Path) -> None:
    """The planner ends day=1 only after its receipt was taken, and plans nothing more until day=1 stands there."""
    to_publish, store = publishing(tmp_path)
    received, threads, out = threading.Event(), set[str](), list[str]()

    def slices() -> Any:
        to_publish.begin(DAY)
        to_publish.plan(work(1))
        yield work(1)
        assert received.wait(20)
        to_publish.planned(DAY)
        end = time.monotonic() + 20
        while not keys(store) and time.monotonic() < end:
            time.sleep(0.001)
        out.extend(keys(store))
        to_publish.begin(NEXT)
        to_publish.plan(work(2, NEXT.key))
        yield work(2, NEXT.key)
        to_publish.planned(NEXT)

    def finished(one: Slice, said: Receipt) -> None:
        to_publish.finished(said)
        received.set()

    def turn() -> None:
        threads.add(threading.current_thread().name)
        to_publish.publish_due()

    dispatcher = Dispatcher(1, "cpu", 1, Retry(), Fallback(), Random(0), str)
    outcome = drive(dispatcher, OneLane(store), slices(), lambda one: None, finished, on_turn=turn)
    assert (outcome.ending, out) == ("done", ["day=1"])
    assert keys(store) == ["day=1", "day=2"]
    assert threads == {threading.current_thread().name}


# --- through a whole run ---------------------------------------------------------------------------------------------------


class Quiet:
    def begin(self, *given: object) -> None: ...

    def planned(self, partition: str, slices: int, rows: int) -> None: ...

    def finished(self, said: Receipt) -> None: ...

    def end(self, record: RunRecord) -> None: ...


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "b"
    table = pa.table({"x": np.arange(200.0), "label": np.arange(200) > 99})
    fit(table, folder, numeric=["x"], categorical=[], targets={"score": Target("label")}, recipe=Recipe(epochs=1))
    return folder


def scored(folder: Path, bundle: Path, kind: str = "parquet", carry: tuple[str, ...] = (), **release: Any) -> RunRecord:
    given: dict[str, Any] = {
        "workspace": str(folder / "ws"),
        "source": {"kind": kind, "path": str(folder / "data"), "carry": list(carry), "slice_rows": 1},
        "model": {"bundle": str(bundle)},
        "engine": {"kind": "inline"},
        "hardware": {"device": "cpu", "memory_per_lane_gb": 0.3},
        "release": release,
    }
    return run(build(Job, given), "", Quiet())


def put(folder: Path, name: str, content: pa.Table | bytes) -> None:
    place = folder / "data" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        place.write_bytes(content)
    else:
        pq.write_table(content, place)


def failed(record: RunRecord) -> dict[str, list[str]]:
    return {p.key: [c.name for c in p.checks if c.status == "fail"] for p in record.partitions}


ROWS = pa.table({"x": [0.5, 1.5]})
CUT = b"PAR1 this is not what it says PAR1"


def test_a_partition_of_which_nothing_could_be_read_is_held_and_an_empty_one_is_not(bundle: Path, tmp_path: Path) -> None:
    put(tmp_path, "day=1/a.parquet", CUT)
    put(tmp_path, "day=1/b.parquet", CUT + b"2")
    put(tmp_path, "day=2/a.parquet", ROWS.slice(0, 0))
    put(tmp_path, "day=3/a.parquet", CUT)
    put(tmp_path, "day=3/b.parquet", ROWS)
    put(tmp_path, "day=4/a.parquet", pa.table({"other": [1]}))
    put(tmp_path, "day=5/a.parquet", CUT)
    put(tmp_path, "day=5/b.parquet", ROWS.slice(0, 0))
    record = scored(tmp_path, bundle, max_bad_files=None, max_bad_share=None)
    assert record.status == "held"
    lacking = ["readable", "contract:schema:missing"]
    assert failed(record) == {"day=1": ["readable"], "day=2": [], "day=3": [], "day=4": lacking, "day=5": ["readable"]}
    assert keys(open_store(str(tmp_path / "ws"))) == ["day=2", "day=3"]
    (entry,) = [e for e in map(json.loads, ledger(tmp_path)) if e["subject"] == "day=1"]
    assert entry["kind"] == "held"


def ledger(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted((folder / "ws/ledger").glob("*.json"))]


def test_a_column_that_some_files_lack_is_null_in_their_rows_and_the_record_says_so(bundle: Path, tmp_path: Path) -> None:
    """Every published file has it, of one type, so that readers of the plain folder need no special mode."""
    import polars as pl

    put(tmp_path, "day=1/a.parquet", pa.table({"x": [0.25, 0.75]}))
    put(tmp_path, "day=1/b.parquet", pa.table({"x": [0.5, 1.5], "id": pa.array([7, 8], pa.int16())}))
    record = scored(tmp_path, bundle, carry=("id", "day"))
    assert record.status == "published"
    said = f"source.carry: 'id' is null in 2 rows, because files lack it, e.g. {tmp_path}/data/day=1/a.parquet"
    assert list(record.notes) == [said]
    frame = pl.scan_parquet(tmp_path / "ws/scores/day=1/*.parquet", hive_partitioning=False).collect()
    assert (frame["id"].to_list(), frame.schema["id"]) == ([None, None, 7, 8], pl.Int16)
    assert read_scores(str(tmp_path / "ws")).collect()["day"].to_list() == ["1"] * 4


def test_a_json_key_that_no_line_has_holds_the_partition(bundle: Path, tmp_path: Path) -> None:
    put(tmp_path, "day=1/a.jsonl", b'{"x": 1.5, "id": 3}\n')
    put(tmp_path, "day=1/b.jsonl", b'{"x": 2.5}\n')
    put(tmp_path, "day=2/a.jsonl", b'{"x": 3.5, "idd": 3}\n')
    record = scored(tmp_path, bundle, "jsonl", ("id",))
    assert failed(record) == {"day=1": [], "day=2": ["carried_columns"]}
    assert read_scores(str(tmp_path / "ws")).collect()["id"].to_list() == [3, None]
