"""Each kind reads what was written, names what is broken, and says where each row stood in its file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from read_windows import places, rows_of, windows

from scoring.errors import ConfigError, SourceError
from scoring.settings import Csv

TABLE = pa.table(
    {
        "f": pa.array([0.5, None] * 20, pa.float32()),
        "s": [f"s{n % 3}" for n in range(40)],
        "n": range(40),
        "nested": [{"a": n} for n in range(40)],
    }
)


@pytest.mark.parametrize("kind", ["parquet", "feather", "stream"])
def test_binary_kinds_give_the_rows_back_columns_pruned(tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        path = tmp_path / "a.parquet"
        pq.write_table(TABLE, path, row_group_size=15)
    elif kind == "feather":
        path = tmp_path / "a.feather"
        feather.write_feather(TABLE, path, chunksize=15, compression="zstd")
    else:
        path = tmp_path / "a.arrows"
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, TABLE.schema) as sink:
            sink.write_table(TABLE, max_chunksize=15)
    name = "parquet" if kind == "parquet" else "ipc"
    assert rows_of(windows(name, path)) == TABLE.to_pylist()
    pruned = windows(name, path, ["n", "f", "absent"])
    assert pruned[0].batch.schema.names == ["f", "n"]
    assert places(pruned) == (list(range(40)), [])
    assert sum(w.batch.num_rows for w in windows(name, path, ["absent"])) == 40
    assert all(w.batch.num_rows <= 7 for w in pruned)


@pytest.mark.parametrize("values", [["a", None, "of more than twelve bytes"], [b"a", None, b"\xff of more than twelve bytes"]])
def test_views_come_as_values_so_that_rows_can_be_taken(tmp_path: Path, values: list[Any]) -> None:
    """As Polars writes texts to Arrow files."""
    kind, plain = (pa.string_view(), pa.large_string()) if values[0] == "a" else (pa.binary_view(), pa.large_binary())
    feather.write_feather(pa.table({"v": pa.array(values, kind)}), str(tmp_path / "a.arrow"), compression="uncompressed")
    found = windows("ipc", tmp_path / "a.arrow")[0].batch
    assert found.schema.field("v").type == plain
    assert found.take(pa.array([2, 0, 1])).column("v").to_pylist() == [values[2], values[0], None]


def test_row_groups_of_one_file_in_two_slices_keep_their_places(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "a.parquet", row_group_size=15)
    feather.write_feather(TABLE, tmp_path / "a.arrow", chunksize=15)
    for kind, name in (("parquet", "a.parquet"), ("ipc", "a.arrow")):
        found = windows(kind, tmp_path / name, ["n"], slice_rows=15)
        assert [row["n"] for row in rows_of(found)] == places(found)[0] == list(range(40))


def test_parquet_categories_come_as_dictionaries_unless_carried(tmp_path: Path) -> None:
    few = [f"c{n % 50}" for n in range(10_000)]
    many = [f"user-{n * 7919}" for n in range(10_000)]
    pq.write_table(pa.table({"few": few, "many": many, "carried": few}), tmp_path / "a.parquet")
    found = windows("parquet", tmp_path / "a.parquet", rows=4096, carry=("carried",))
    types = {field.name: field.type for field in found[0].batch.schema}
    assert types == {"few": pa.dictionary(pa.int32(), pa.string()), "many": pa.string(), "carried": pa.string()}
    assert [row["few"] for row in rows_of(found)] == few
    assert [row["many"] for row in rows_of(found)] == many


def test_extension_types_come_as_their_storage(tmp_path: Path) -> None:
    ids = pa.array([b"0123456789abcdef"] * 3, pa.binary(16))
    table = pa.table({"id": pa.ExtensionArray.from_storage(pa.uuid(), ids)})
    pq.write_table(table, tmp_path / "a.parquet")
    feather.write_feather(table, tmp_path / "a.feather", compression="uncompressed")
    assert windows("parquet", tmp_path / "a.parquet")[0].batch.schema.field("id").type == pa.binary(16)
    assert windows("ipc", tmp_path / "a.feather")[0].batch.schema.field("id").type == pa.binary(16)


def test_duplicate_column_names_are_refused_by_name(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as sink:
        sink.write_table(table)
    (tmp_path / "a.csv").write_text("x,y,x\n1,2,3\n")
    for kind, name in (("parquet", "a.parquet"), ("ipc", "a.arrow"), ("csv", "a.csv")):
        with pytest.raises(SourceError, match="duplicate column names: columns 1, "):
            windows(kind, tmp_path / name)


def test_a_flipped_bit_in_a_page_is_noticed_where_pages_are_checksummed(tmp_path: Path) -> None:
    table = pa.table({"x": np.random.default_rng(0).standard_normal(5000)})
    pq.write_table(table, tmp_path / "a.parquet", write_page_checksum=True, compression="none", use_dictionary=False)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    data[20_000] ^= 1
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(SourceError, match="CRC"):
        windows("parquet", tmp_path / "a.parquet")


def test_feather_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.feather").write_bytes(b"FEA1" + bytes(100))
    with pytest.raises(SourceError, match="Feather version 1"):
        windows("ipc", tmp_path / "a.feather")


# --- CSV -------------------------------------------------------------------------------------------------------------------


def csv_file(folder: Path, text: str | bytes, name: str = "a.csv") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


def test_csv_values_stay_text_and_null_values_are_null(tmp_path: Path) -> None:
    path = csv_file(tmp_path, 'a,b\n007,"x, ""y"""\n,NA\n 7,"two\nlines"\n')
    found = windows("csv", path, csv=Csv(null_values=("", "NA")))
    assert rows_of(found) == [{"a": "007", "b": 'x, "y"'}, {"a": None, "b": None}, {"a": " 7", "b": "two\nlines"}]
    assert set(found[0].batch.schema.types) == {pa.string()}


def test_csv_lines_of_another_width_cost_themselves_only(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "\n\na,b\nshort\n1,2\n\n3,4\n5,6,7\n8\n9,10\nlast,\none,too,many\n")
    found = windows("csv", path, rows=2)
    assert rows_of(found) == [{"a": a, "b": b} for a, b in (("1", "2"), ("3", "4"), ("9", "10"), ("last", None))]
    assert places(found) == ([1, 2, 5, 6], [0, 3, 4, 7])
    assert [(r.text, r.reason) for w in found for r in w.rejected] == [
        (t, "line:fields") for t in ("short", "5,6,7", "8", "one,too,many")
    ]


CELLS = st.text("ab\"', \n;é", max_size=4)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=20), st.integers(1, 5))
def test_csv_every_record_is_a_row_or_rejected_at_its_place(
    tmp_path_factory: pytest.TempPathFactory, records: list[list[str]], rows: int
) -> None:
    lines = [",".join('"' + cell.replace('"', '""') + '"' for cell in record) for record in records]
    path = csv_file(tmp_path_factory.mktemp("csv"), "\n".join(["a,b", *lines]))
    found = windows("csv", path, rows=rows, csv=Csv(null_values=()))
    good = [n for n, record in enumerate(records) if len(record) == 2]
    assert places(found) == (good, [n for n in range(len(records)) if n not in good])
    assert [[row["a"], row["b"]] for row in rows_of(found)] == [records[n] for n in good]


@pytest.mark.parametrize("tail", ['1,"open\n2,3\n4,5\n', '1,2\n"open,3\n4,5', '"only'])
def test_csv_a_quote_never_closed_does_not_swallow_rows_in_silence(tmp_path: Path, tail: str) -> None:
    with pytest.raises(SourceError, match="never closed"):
        windows("csv", csv_file(tmp_path, "a,b\n0,0\n" + tail + ("" if "\n" in tail else "\nx")))


def test_csv_compressed_streams_are_known_by_their_bytes(tmp_path: Path) -> None:
    text = b"a,b\n" + b"1,2\n" * 1000
    csv_file(tmp_path, gzip.compress(text) + gzip.compress(b"3,4\n"), "a.csv.gz")
    csv_file(tmp_path, pa.compress(text, "zstd", asbytes=True), "b.csv.zst")
    csv_file(tmp_path, text[:-4] + b"5,6\n", "c.csv.gz")
    assert len(rows_of(windows("csv", tmp_path))) == 3001
    cut = csv_file(tmp_path, gzip.compress(text)[:-12], "cut.csv.gz")
    with pytest.raises(SourceError, match=r"(?i)truncated"):
        windows("csv", cut)


def test_csv_encodings(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "näme,b\nä,1\n".encode("cp1252"))
    with pytest.raises(SourceError, match=r"not utf-8.*source\.csv\.encoding"):
        windows("csv", path)
    assert rows_of(windows("csv", path, csv=Csv(encoding="cp1252"))) == [{"näme": "ä", "b": "1"}]
    wide = csv_file(tmp_path, "a,b\nä,1\nx\n".encode("utf-16"))
    found = windows("csv", wide, csv=Csv(encoding="utf-16"))
    assert (rows_of(found), places(found)[1]) == ([{"a": "ä", "b": "1"}], [1])
    marked = csv_file(tmp_path, b"\xef\xbb\xbfa,b\n1,2\n")
    assert rows_of(windows("csv", marked)) == [{"a": "1", "b": "2"}]
    with pytest.raises(ConfigError, match="'klingon' is unknown"):
        windows("csv", marked, csv=Csv(encoding="klingon"))


def test_csv_without_header_needs_names(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "1;2\n3;4\n5\n")
    found = windows("csv", path, csv=Csv(header=False, names=("a", "b"), delimiter=";"))
    assert (rows_of(found), places(found)) == ([{"a": "1", "b": "2"}, {"a": "3", "b": "4"}], ([0, 1], [2]))
    with pytest.raises(ConfigError, match=r"source\.csv\.names"):
        windows("csv", path, csv=Csv(header=False))
    with pytest.raises(ConfigError, match=r"source\.csv\.delimiter"):
        windows("csv", path, csv=Csv(delimiter=";;"))
    with pytest.raises(SourceError, match="header line"):
        windows("csv", path, csv=Csv(names=("a", "b", "c"), delimiter=";"))


def test_csv_an_empty_file_has_no_header(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="empty"):
        windows("csv", csv_file(tmp_path, ""))
    assert rows_of(windows("csv", csv_file(tmp_path, "a,b\n"))) == []


# --- JSON Lines ------------------------------------------------------------------------------------------------------------


def test_jsonl_broken_lines_cost_themselves_only(tmp_path: Path) -> None:
    lines = [
        b'{"a": 1}',
        b"{broken",
        b"",
        b"[1]",
        b'{"a": 2, "b": "x"}',
        b'{"a": "\xff"}',
        b'{"a": NaN}',
        b"[" * 100_000,
        b'{"a": null}',
    ]
    found = windows("jsonl", csv_file(tmp_path, b"\n".join(lines), "a.jsonl"))
    assert rows_of(found) == [{"a": 1, "b": None}, {"a": 2, "b": "x"}, {"a": None, "b": None}]
    assert places(found) == ([0, 3, 7], [1, 2, 4, 5, 6])
    assert [r.reason for w in found for r in w.rejected] == ["line:json", "line:object", "line:encoding", "line:json", "line:json"]


@pytest.mark.parametrize(
    ("values", "kind", "read"),
    [
        ([1, None, 3], pa.int64(), [1, None, 3]),
        ([1, 2.5], pa.float64(), [1.0, 2.5]),
        ([True, None], pa.bool_(), [True, None]),
        (["2020-01-01 00:00:00", "x"], pa.string(), ["2020-01-01 00:00:00", "x"]),
        ([1, "x", 2.5, True], pa.string(), ["1", "x", "2.5", "true"]),
        ([{"k": [1]}, None], pa.string(), ['{"k": [1]}', None]),
        ([2**63, 1], pa.string(), ["9223372036854775808", "1"]),
        ([2**53 + 1, 0.5], pa.string(), ["9007199254740993", "0.5"]),
        ([True, 1], pa.string(), ["true", "1"]),
        ([None, None], pa.null(), [None, None]),
    ],
)
def test_jsonl_types_are_those_of_the_whole_file(tmp_path: Path, values: list[Any], kind: pa.DataType, read: list[Any]) -> None:
    text = "\n".join(json.dumps({"a": value}) for value in values)
    found = windows("jsonl", csv_file(tmp_path, text, "a.jsonl"), rows=1)
    assert {w.batch.schema.field("a").type for w in found} == {kind}
    assert [row["a"] for row in rows_of(found)] == read


def test_jsonl_columns_are_pruned_and_absent_keys_are_absent(tmp_path: Path) -> None:
    path = csv_file(tmp_path, gzip.compress(b'{"a": 1, "b": 2}\n{"b": 3}'), "a.jsonl.gz")
    found = windows("jsonl", path, ["b", "c"])
    assert rows_of(found) == [{"b": 2}, {"b": 3}]
    assert sum(w.batch.num_rows for w in windows("jsonl", path, ["c"])) == 2
