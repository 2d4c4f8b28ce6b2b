"""A staged file gives back what went in, whatever its types; is read back before it counts; and says what it is."""

import datetime as dt
import decimal
import errno
import os

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.errors import ConfigError, StoreError
from scoring.settings import Sink
from scoring.sinks.staged import StagedWriter, find, finished, key_of
from scoring.stores import LocalStore
from scoring.types import BadFile, Counts, Fragment, Output, Slice, StagedFile

PAIR = (Output("p"), Output("q"))
WORK = Slice("date=1", (Fragment("/in/a.parquet", "1-1", (0, 1), 0, 10, 100),))
CARRIED = {
    "seconds": pa.array([1, None, 3], pa.timestamp("ms", "UTC")),
    "tokyo": pa.array([1, None, 3], pa.timestamp("ns", "Asia/Tokyo")),
    "naive": pa.array([dt.datetime(2026, 1, 1), None, dt.datetime(1900, 1, 1)], pa.timestamp("us")),
    "money": pa.array([decimal.Decimal("1.20"), None, decimal.Decimal("-9.99")], pa.decimal128(20, 2)),
    "wide": pa.array([decimal.Decimal("1.20"), None, decimal.Decimal("0.00")], pa.decimal256(50, 2)),
    "large": pa.array(["a", None, ""], pa.large_string()),
    "text": pa.array(["ü", None, "x" * 5000], pa.string()),
    "bytes": pa.array([b"\0", None, b""], pa.binary()),
    "nested": pa.array([{"a": [1, None], "b": "x"}, None, {"a": None, "b": None}]),
    "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int32())),
    "dictionary": pa.array(["x", None, "x"]).dictionary_encode(),
    "half": pa.array([1.5, None, float("nan")], pa.float16()),
    "unsigned": pa.array([2**64 - 1, None, 0], pa.uint64()),
    "nothing": pa.nulls(3),
    "day": pa.array([dt.date(2026, 1, 1), None, dt.date(1, 1, 1)]),
    "took": pa.array([1, None, -1], pa.duration("us")),
}


@pytest.fixture
def store(tmp_path):
    return LocalStore(str(tmp_path / "w"))


def writer(store, attempt="a1", sink=Sink(), outputs=(Output("score"),), work=WORK, sites=lambda site: None):  # noqa: B008
    return StagedWriter(store, "r-1", work, attempt, sink, "7", outputs, sites)


def scores(rows, heads=1):
    return np.arange(rows * heads, dtype=np.float32).reshape(rows, heads)


def values(column):
    """Python values; nanoseconds as integers, for Python's own datetime has none."""
    nanoseconds = pa.types.is_timestamp(column.type) and column.type.unit == "ns"
    return (column.cast(pa.int64()) if nanoseconds else column).to_pylist()


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "lz4"])
def test_carried_columns_come_back_untouched(store, compression):
    batch = pa.record_batch(CARRIED)
    one = writer(store, sink=Sink(compression=compression), outputs=PAIR)
    one.scores(batch, scores(3, 2))
    one.scores(batch.slice(1), scores(2, 2))
    receipt = one.commit(rows_in=5, counts=Counts(5))
    found = pq.read_table(store.open_file(receipt.scores.key), page_checksum_verification=True)
    wanted = pa.Table.from_batches([batch, batch.slice(1)])
    assert found.column_names == [*CARRIED, "p", "q", "model_version", "run_id"]
    for name in CARRIED:
        if name not in ("nested", "map"):  # Parquet names the inner fields; values are compared below
            assert found.schema.field(name).type == wanted.schema.field(name).type
        assert str(values(found[name])) == str(values(wanted[name]))
    assert found["q"].to_pylist() == [1, 3, 5, 1, 3]
    assert [found.schema.field(name).type for name in ("p", "model_version", "run_id")] == [pa.float32(), pa.string(), pa.string()]


def test_constants_are_plain_strings_to_every_reader(store):
    one = writer(store)
    one.scores(pa.record_batch({"id": [1, 2]}), scores(2))
    path = store.open_path(one.commit(rows_in=2, counts=Counts(2)).scores.key)
    assert pl.read_parquet_schema(path)["run_id"] == pl.String
    assert pl.read_parquet(path).rows() == [(1, 0.0, "7", "r-1"), (2, 1.0, "7", "r-1")]
    assert pl.scan_parquet(path).filter(pl.col("run_id") == "r-1").collect().height == 2


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=8), st.integers(1, 40))
def test_rows_and_order_do_not_depend_on_how_they_came(tmp_path_factory, sizes, group):
    store = LocalStore(str(tmp_path_factory.mktemp("w")))
    one, ids = writer(store, sink=Sink(row_group_rows=group)), np.arange(sum(sizes))
    for part in np.split(ids, np.cumsum(sizes)):
        one.scores(pa.record_batch({"id": part}), part.astype(np.float32)[:, None])
    receipt = one.commit(rows_in=len(ids), counts=Counts(len(ids)))
    found = pq.ParquetFile(store.open_file(receipt.scores.key))
    assert found.read()["id"].to_pylist() == ids.tolist()
    assert all(found.metadata.row_group(n).num_rows < group + 31 for n in range(found.num_row_groups))


def test_the_receipt_is_in_the_footer_and_found_again(store):
    one = writer(store)
    one.scores(pa.record_batch({"id": [1]}), scores(1))
    one.quarantine(pa.record_batch({"id": ["x"]}), "/in/a", np.array([7]), "admit", [("id:dtype", "id:range")])
    one.bad_file(BadFile("/in/b", "read", "truncated", 3))
    facts = {"reasons": {"admit:id:dtype": 1}, "bad_files": (BadFile("/in/b", "read", "truncated", 3),), "routes": {"cpu": 1}}
    made = one.commit(rows_in=5, counts=Counts(1, 4), device="cpu", seconds={"read": 0.1}, notes=("n",), **facts)
    assert find(store, "r-1", WORK.id) == made
    store.remove(f"runs/r-1/receipts/{WORK.id}.json")  # the note is a cache
    assert find(store, "r-1", WORK.id) == made
    store.replace(f"runs/r-1/receipts/{WORK.id}.json", b"{ torn")
    assert find(store, "r-1", WORK.id) == made
    key = key_of("r-1", WORK.id)
    assert made.scores == StagedFile(key, 1, store.size(key), store.sha256(key), store.stamp(key))
    assert finished(store, "r-1") == {WORK.id: store.stamp(key)}
    assert os.listdir(store.path("runs/.spool")) == []


def test_a_note_that_says_otherwise_is_not_believed(store):
    one = writer(store)
    one.scores(pa.record_batch({"id": [1]}), scores(1))
    made = one.commit(rows_in=1, counts=Counts(1))
    note = f"runs/r-1/receipts/{WORK.id}.json"
    store.replace(note, store.get(note).replace(b'"attempt":"a1"', b'"attempt":"zz"'))
    assert find(store, "r-1", WORK.id) == made


def test_quarantine_keeps_raw_columns_and_marks_them(store):
    one = writer(store)
    raw = pa.record_batch({"id": ["x", None], "_row": ["theirs", "too"], "when": pa.array([1, 2], pa.timestamp("s", "UTC"))})
    one.quarantine(raw, "/in/a", np.array([3, 9]), "admit", [("id:dtype",), ("id:null", "_row:allowed")])
    one.quarantine(raw.slice(1), "/in/b", np.array([0]), "score", [("nan",)])
    one.quarantine(pa.record_batch({"other": [1.5]}), "/in/c", np.array([4]), "admit", [("other:range",)])
    one.bad_file(BadFile("/in/d", "plan", "duplicate of /in/a", 12))
    receipt = one.commit(rows_in=16, counts=Counts(0, 16))
    assert [f.rows for f in receipt.quarantine] == [3, 1, 1]
    first, second, third = (pq.read_table(store.open_file(f.key)) for f in receipt.quarantine)
    assert first.column_names == ["id", "_row_", "when", "_source_file", "_row", "_rows", "_stage", "_reasons", "_run_id"]
    assert first["_row_"].to_pylist() == ["theirs", "too", "too"]
    assert first["_row"].to_pylist() == [3, 9, 0]
    assert first["_reasons"].to_pylist() == [["id:dtype"], ["id:null", "_row:allowed"], ["nan"]]
    assert first["_source_file"].to_pylist() == ["/in/a", "/in/a", "/in/b"]
    assert second["other"].to_pylist() == [1.5]
    assert third.to_pylist() == [
        {"_source_file": "/in/d", "_row": None, "_rows": 12, "_stage": "plan", "_reasons": ["duplicate of /in/a"], "_run_id": "r-1"}
    ]


def test_types_that_parquet_lacks_are_text_in_quarantine_and_refused_when_carried(store):
    odd = pa.record_batch({"empty": pa.array([{}], pa.struct([])), "gap": pa.array([(1, 2, 3)], pa.month_day_nano_interval())})
    one = writer(store)
    one.quarantine(odd, "/in/a", np.array([0]), "admit", [("x:range",)])
    receipt = one.commit(rows_in=1, counts=Counts(0, 1))
    assert pq.read_table(store.open_file(receipt.quarantine[0].key))["empty"].to_pylist() == ["{}"]
    with pytest.raises(ConfigError, match="cannot be stored in Parquet"):
        writer(store, "a2").scores(odd, scores(1))


@pytest.mark.parametrize("name", ["score", "run_id", "model_version"])
def test_a_carried_column_may_not_hide_an_output(store, name):
    with pytest.raises(ConfigError, match=f"source.carry names {name}"):
        writer(store).scores(pa.record_batch({name: [1]}), scores(1))


def test_no_rows_still_leave_a_file_with_columns(store):
    receipt = writer(store, outputs=PAIR).commit(rows_in=0, counts=Counts())
    assert pq.read_schema(store.open_file(receipt.scores.key)).names == ["p", "q", "model_version", "run_id"]
    other = Slice("date=2", ())
    one = writer(store, work=other)
    one.scores(pa.record_batch({"id": pa.array([], pa.int32())}), scores(0))
    receipt = one.commit(rows_in=0, counts=Counts())
    assert pq.read_schema(store.open_file(receipt.scores.key)).field("id").type == pa.int32()


vectors = st.lists(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=3, max_size=3), max_size=20)


def staged_vectors(folder, rows, kind, batches=2):
    """What is read back of rows of a vector of `kind` with a score to each side; and the file."""
    store = LocalStore(str(folder))
    one = writer(store, outputs=(Output("p"), Output("v", 3, kind), Output("q")))
    matrix = np.array(rows, np.float32).reshape(-1, 3)
    matrix = np.column_stack([np.full(len(matrix), 1.0), matrix, np.full(len(matrix), 2.0)]).astype(np.float32)
    for part in np.array_split(matrix, batches):
        one.scores(pa.record_batch({"id": np.arange(len(part))}), part)
    receipt = one.commit(rows_in=len(matrix), counts=Counts(len(matrix)))
    file = pq.ParquetFile(store.open_file(receipt.scores.key), page_checksum_verification=True)
    found = file.read()
    assert found["p"].to_pylist() == [1.0] * len(matrix)
    assert found["q"].to_pylist() == [2.0] * len(matrix)
    return found, matrix[:, 1:4].astype(np.float64), file


@given(vectors)
def test_float32_vectors_come_back_as_they_are(tmp_path_factory, rows):
    found, wanted, _ = staged_vectors(tmp_path_factory.mktemp("w"), rows, "float32")
    assert found.schema.field("v").type == pa.list_(pa.float32(), 3)
    assert np.array_equal(np.array(found["v"].to_pylist()).reshape(-1, 3), wanted)


@given(st.lists(st.lists(st.floats(-65_519, 65_519, width=32), min_size=3, max_size=3), max_size=20))
def test_float16_vectors_are_the_nearest_halves(tmp_path_factory, rows):
    found, wanted, _ = staged_vectors(tmp_path_factory.mktemp("w"), rows, "float16")
    assert found.schema.field("v").type == pa.list_(pa.float16(), 3)
    values = np.array(found["v"].to_pylist(), np.float64).reshape(-1, 3)
    assert np.array_equal(values, wanted.astype(np.float16).astype(np.float64))


@given(vectors)
def test_int8_vectors_are_within_half_a_step(tmp_path_factory, rows):
    found, wanted, _ = staged_vectors(tmp_path_factory.mktemp("w"), rows, "int8")
    assert found.column_names == ["id", "p", "v", "v_scale", "q", "model_version", "run_id"]
    assert [found.schema.field(name).type for name in ("v", "v_scale")] == [pa.list_(pa.int8(), 3), pa.float32()]
    values, scale = np.array(found["v"].to_pylist(), np.float64).reshape(-1, 3), np.array(found["v_scale"].to_pylist())
    most = np.abs(wanted).max(axis=1, initial=0.0)
    assert (scale[most == 0] == 1.0).all()
    plain = most >= 1e-35  # smaller numbers have no scale that float32 holds exactly
    assert np.allclose(scale[plain], most[plain] / 127, rtol=1e-6)
    off = np.abs(values * scale[:, None] - wanted)
    assert (off[plain] <= scale[plain, None] * (0.5 + 1e-4)).all()
    assert (off[~plain] <= 1e-35).all()


def test_int8_vectors_take_a_byte_a_number(tmp_path):
    rows = np.random.default_rng(0).normal(size=(4_000, 3)).astype(np.float32)
    _, _, file = staged_vectors(tmp_path, rows, "int8")
    places = {file.metadata.schema.column(n).path: n for n in range(len(file.metadata.schema))}
    chunk = file.metadata.row_group(0).column(places["v.list.element"])
    assert chunk.total_uncompressed_size < 1.6 * rows.size  # with the levels that lists have


@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
def test_no_rows_have_the_columns_of_vectors(tmp_path, kind):
    with_batches, _, _ = staged_vectors(tmp_path / "a", [], kind)
    store = LocalStore(str(tmp_path / "b"))
    receipt = writer(store, outputs=(Output("p"), Output("v", 3, kind), Output("q"))).commit(rows_in=0, counts=Counts())
    schema = pq.read_schema(store.open_file(receipt.scores.key))
    assert [*schema] == [*with_batches.schema.remove(0)]
    assert with_batches.num_rows == 0


def test_the_scale_of_a_vector_is_a_column_too(store):
    with pytest.raises(ConfigError, match="names v_scale"):
        writer(store, outputs=(Output("v", 3, "int8"),)).scores(pa.record_batch({"v_scale": [1]}), scores(1, 3))
    writer(store, "a2", outputs=(Output("v", 3),)).scores(pa.record_batch({"v_scale": [1]}), scores(1, 3))


def test_what_was_not_written_cannot_be_counted(store):
    one = writer(store)
    one.scores(pa.record_batch({"id": [1, 2]}), scores(2))
    with pytest.raises(AssertionError, match="2 rows; its receipt says 3"):
        one.commit(rows_in=3, counts=Counts(3))
    assert not store.exists(key_of("r-1", WORK.id))
    one.abort()
    with pytest.raises(AssertionError, match="3 rows in, 2 accounted for"):
        writer(store).commit(rows_in=3, counts=Counts(2))


def test_an_attempt_that_is_given_up_leaves_nothing(store):
    one = writer(store, sink=Sink(row_group_rows=1))
    one.scores(pa.record_batch({"id": [1, 2]}), scores(2))
    one.quarantine(pa.record_batch({"id": [1]}), "/in/a", np.array([0]), "admit", [("id:range",)])
    one.abort()
    one.abort()
    assert os.listdir(store.path("runs/.spool")) == []
    assert list(store.list("runs")) == []


@pytest.mark.parametrize("damage", ["truncated", "footer", "foreign"])
def test_a_damaged_staged_file_is_named(store, damage):
    one = writer(store)
    one.scores(pa.record_batch({"id": [1, 2]}), scores(2))
    path = store.path(one.commit(rows_in=2, counts=Counts(2)).scores.key)
    data = path.read_bytes()
    changed = {"truncated": data[:-9], "footer": data[:-8] + b"\xff" * 8, "foreign": data.replace(WORK.id.encode(), b"0" * 32)}[
        damage
    ]
    path.unlink()
    path.write_bytes(changed)
    with pytest.raises(StoreError, match=rf"staged/{WORK.id}.parquet is damaged .*Remove it"):
        find(store, "r-1", WORK.id)


def test_a_full_disk_while_writing_is_told_and_leaves_nothing(store, tmp_path):
    """The kernel refuses beyond 1 MB; the writer's own error is the disk's, with its number."""
    import resource
    import signal

    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    one = writer(store, sink=Sink(compression="none", row_group_rows=100_000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            one.scores(pa.record_batch({"id": np.arange(400_000)}), scores(400_000))
        one.abort()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.errno == errno.EFBIG
    assert os.listdir(store.path("runs/.spool")) == []


def test_a_flipped_bit_in_the_data_does_not_read_as_another_score(store):
    one = writer(store, sink=Sink(compression="none"))
    marked = np.full((1000, 1), 1.5, np.float32)
    one.scores(pa.record_batch({"id": np.arange(1000)}), marked)
    path = store.path(one.commit(rows_in=1000, counts=Counts(1000)).scores.key)
    data = bytearray(path.read_bytes())
    data[data.index(marked.tobytes()) + 500] ^= 1
    path.unlink()
    path.write_bytes(bytes(data))
    assert pq.read_table(path)["score"].to_numpy().tolist() != [1.5] * 1000, "without verification the reader sees nothing"
    with pytest.raises(OSError, match=r"(?i)crc|checksum"):
        pq.read_table(path, page_checksum_verification=True)
