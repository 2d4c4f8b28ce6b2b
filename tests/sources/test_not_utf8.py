"""Texts that are not UTF-8 in Parquet and Arrow files, where no reader looks: a row that has one costs itself only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from read_windows import windows

from scoring.admit.rules import admit, compile_rules, raw_rows
from scoring.errors import SourceError
from scoring.settings import Column

VALUES = [b"fine", b"\xff", None, b"a\xed\xa0\x80b", b"nul\0is text", "😀 Łódź".encode(), b"", b"cut \xe2\x82", b"last"]
BAD = [1, 3, 7]
GOOD = ["fine", None, "nul\0is text", "😀 Łódź", "", "last"]
RULES = compile_rules({"text": Column("string"), "n": Column("int64")}, True)
STRING = pa.string()
KINDS = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}


def unchecked(values: list[Any], kind: pa.DataType = STRING) -> pa.Array[Any]:
    """Text as a writer makes it who does not look."""
    return pa.array(values, KINDS[kind]).view(kind)


def written(folder: Path, kind: str, column: pa.Array[Any]) -> Path:
    table = pa.table({"text": column, "n": range(len(column))})
    path = folder / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        feather.write_feather(table, str(path), compression="uncompressed")
    return path


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("text", KINDS, ids=str)
@pytest.mark.parametrize("rows", [2, 100])
def test_a_row_that_is_not_utf8_costs_itself_only(tmp_path: Path, kind: str, text: pa.DataType, rows: int) -> None:
    path = written(tmp_path, kind, unchecked(VALUES, text))
    good, bad = [], []
    for window in windows("parquet" if kind == "parquet" else "ipc", path, ["text", "n"], rows):
        done = admit(window.batch, RULES)
        done.good.validate(full=True)
        assert done.good.schema.field("text").type == pa.string()
        assert set(done.reasons) <= {("text:utf8",)}
        good += done.good.column("text").to_pylist()
        raw = raw_rows(window.batch, done.bad).column("text")
        bad += zip(window.positions[done.bad].tolist(), raw.to_pylist(), strict=True)
    assert good == GOOD
    assert bad == [(row, VALUES[row]) for row in BAD]  # as it came


def test_in_dictionaries_too(tmp_path: Path) -> None:
    values = [VALUES[n % len(VALUES)] for n in range(9_000)]
    path = written(tmp_path, "parquet", unchecked(values))
    found = windows("parquet", path, ["text", "n"], 10_000)
    assert pa.types.is_dictionary(found[0].batch.schema.field("text").type)
    done = admit(found[0].batch, RULES)
    done.good.validate(full=True)
    assert done.bad.tolist() == [n for n in range(9_000) if n % 9 in BAD]
    assert set(done.reasons) == {("text:utf8",)}
    assert raw_rows(found[0].batch, done.bad[:3]).column("text").to_pylist() == [VALUES[n] for n in BAD]


def test_as_a_number_it_is_of_the_wrong_type(tmp_path: Path) -> None:
    found = windows("parquet", written(tmp_path, "parquet", unchecked([b"1", b"\xff", b"2.5"])), ["text"])
    for coerce, good in ((True, [1.0, 2.5]), (False, [])):
        done = admit(found[0].batch, compile_rules({"text": Column("float64")}, coerce))
        assert done.good.column(0).to_pylist() == good
        assert set(done.reasons) == {("text:type",)}


@pytest.mark.parametrize("kind", ["parquet", "ipc"])
def test_what_is_carried_keeps_its_type_so_the_row_group_is_named(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, "parquet" if kind == "parquet" else "arrow", unchecked(VALUES))
    with pytest.raises(SourceError, match="Invalid UTF8"):
        windows(kind, path, ["text", "n"], carry=("text",))


def test_other_damage_is_still_named_as_such(tmp_path: Path) -> None:
    """Offsets that run backwards, beside a text that is not UTF-8."""
    ends = pa.py_buffer(np.array([0, 5, 2, 3], np.int32))
    broken = pa.Array.from_buffers(pa.string(), 3, [None, ends, pa.py_buffer(b"\xff\xffabc")])
    path = tmp_path / "a.arrow"
    batch = pa.RecordBatch.from_arrays([broken], names=["text"])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as sink:
        sink.write_batch(batch)
    with pytest.raises(SourceError):
        windows("ipc", path, ["text"])
