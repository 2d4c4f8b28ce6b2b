"""The contract as laws: every row is kept or bad exactly once, as a slow reading row by row says, however it is split."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.admit.rules import MissingColumns, admit, compile_rules, raw_rows
from scoring.errors import ConfigError, SourceError
from scoring.settings import Column

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
DIGITS = re.compile(r"[+-]?\d+", re.ASCII)
LIMITS = {"int8": 7, "int32": 31, "int64": 63}


# --- the slow reference: one value, plain Python ---------------------------------------------------------------------------


class WrongError(Exception):
    pass


class BeyondError(Exception):
    pass


def meant(value: Any, dtype: str, coerce: bool) -> Any:
    """The value in the declared type. Raises WrongError or BeyondError."""
    if dtype == "string":
        return as_kind(value, str)
    if dtype == "bool":
        if coerce and value in ("true", "false") and type(value) is str:
            return value == "true"
        return as_kind(value, bool)
    if type(value) is bool:
        raise WrongError
    if type(value) is str:
        value = number(value, dtype) if coerce else as_kind(value, float)
    elif dtype.startswith("int") and type(value) is float:
        value = whole(value) if coerce else as_kind(value, int)
    if dtype.startswith("int"):
        if not -(1 << LIMITS[dtype]) <= value < 1 << LIMITS[dtype]:
            raise BeyondError
        return value
    with np.errstate(over="ignore"):
        narrow = float(np.float32(value)) if dtype == "float32" else float(value)
    if math.isinf(narrow) and math.isfinite(value):
        raise BeyondError
    return narrow


def as_kind(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise WrongError
    return value


def whole(value: float) -> int:
    if not math.isfinite(value) or value != int(value) or abs(value) > 2**53:
        raise WrongError
    return int(value)


def number(text: str, dtype: str) -> Any:
    if dtype.startswith("int") and DIGITS.fullmatch(text):
        if not -(2**63) <= int(text) < 2**63:
            raise WrongError
        return int(text)
    if not NUMBER.fullmatch(text) or math.isinf(float(text)):
        raise WrongError
    return whole(float(text)) if dtype.startswith("int") else float(text)


def judged(value: Any, column: Column, coerce: bool) -> tuple[Any, set[str]]:
    if value is None:
        return None, set() if column.nullable else {"null"}
    try:
        value = meant(value, column.dtype, coerce)
    except WrongError:
        return None, {"type"}
    except BeyondError:
        return None, {"range"}
    reasons = set()
    if column.allowed is not None and value not in column.allowed:
        reasons.add("allowed")
    if type(value) is float and math.isnan(value):
        return value, reasons | {"nan"}
    if type(value) is float and math.isinf(value):
        return value, reasons | {"finite"}
    round_ = (lambda bound: float(np.float32(bound))) if column.dtype == "float32" else float
    if (column.min is not None and value < round_(column.min)) or (column.max is not None and value > round_(column.max)):
        reasons.add("range")
    return value, reasons


# --- batches and contracts -------------------------------------------------------------------------------------------------

NOT_NUMBERS = [
    "12,5",
    " 7",
    "7 ",
    "N/A",
    "1e400",
    "-1e400",
    "0x10",
    "0X1f",
    "1_000",
    "nan",
    "inf",
    "Infinity",
    "",
    "-",
    ".",
    "1e",
    "a",
    "b",
]
NOT_NUMBERS += ["7\n", "--1", "1.2.3", "٣", "true", "false", "True", "99999999999999999999"]
NUMBERS = [
    "7",
    "+7",
    "-0",
    "12.5",
    ".5",
    "5.",
    "1e3",
    "1E+2",
    "1e39",
    "9223372036854775807",
    "9007199254740993",
    "300",
    "7.0",
    "1",
    "0",
]
NUMBERS += ["1e-400", "0.1", "2147483648", "-9007199254740992.0"]
TEXTS = st.sampled_from(NOT_NUMBERS + NUMBERS)
FLOATS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 0.1, 7.0, 7.5, 1e39, -1e39, 1e16, 2.0**53, math.nan, math.inf, -math.inf, 300.0, 3e9]),
    st.floats(-20, 20, width=32),
)
INTS = st.one_of(
    st.sampled_from([0, 1, 7, 127, 128, -129, 2**31, -(2**31) - 1, 2**63 - 1, -(2**63), 2**53 + 1]), st.integers(-20, 20)
)
KINDS = {
    pa.string(): TEXTS,
    pa.large_string(): TEXTS,
    pa.dictionary(pa.int8(), pa.string()): TEXTS,
    pa.float64(): FLOATS,
    pa.float32(): st.floats(width=32) | st.sampled_from([math.nan, math.inf, 7.0]),
    pa.int64(): INTS,
    pa.int16(): st.integers(-300, 300),
    pa.bool_(): st.booleans(),
    pa.null(): st.none(),
}


@st.composite
def declared(draw: st.DrawFn) -> Column:
    dtype = draw(st.sampled_from(["float32", "float64", "int8", "int32", "int64", "string", "bool"]))
    low = high = allowed = None
    if dtype not in ("string", "bool"):
        low = draw(st.none() | st.sampled_from([-5.0, 0.0, 0.1, 7.0]))
        high = draw(st.none() | st.sampled_from([7.0, 8.5, 100.0]))
    if draw(st.booleans()):
        allowed = {"string": ("a", "b", "7"), "bool": (True,)}.get(dtype, (0, 1, 7))
    return Column(dtype, draw(st.booleans()), low, high, allowed)


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.RecordBatch, dict[str, Column]]:
    rows = draw(st.integers(0, 25))
    arrays, columns = [], {}
    for n in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(list(KINDS)))
        values = draw(st.lists(st.none() | KINDS[kind], min_size=rows, max_size=rows))
        arrays.append(pa.array(values, kind))
        columns[f"c{n}"] = draw(declared())
    return pa.RecordBatch.from_arrays(arrays, names=list(columns)), columns


def expected(batch: pa.RecordBatch, columns: dict[str, Column], coerce: bool) -> list[tuple[list[Any], set[str]]]:
    out: list[tuple[list[Any], set[str]]] = []
    for row in zip(*(batch.column(name).to_pylist() for name in columns), strict=True):
        pairs = [judged(value, column, coerce) for value, column in zip(row, columns.values(), strict=True)]
        found = {f"{name}:{what}" for name, (_, reasons) in zip(columns, pairs, strict=True) for what in reasons}
        out.append(([value for value, _ in pairs], found))
    return out


@settings(max_examples=250, deadline=None)
@given(tables(), st.booleans(), st.data())
def test_verdicts_equal_the_slow_reference_however_rows_are_split(
    table: tuple[pa.RecordBatch, dict[str, Column]], coerce: bool, data: st.DataObject
) -> None:
    batch, columns = table
    rules = compile_rules(columns, coerce)
    cuts = sorted(data.draw(st.lists(st.integers(0, batch.num_rows), max_size=3)))
    edges = [0, *cuts, batch.num_rows]
    verdicts: list[tuple[Any, set[str]]] = [(None, set())] * batch.num_rows
    seen = 0
    for start, stop in pairwise(edges):
        done = admit(batch.slice(start, stop - start), rules)
        kept = range(stop - start) if done.kept is None else done.kept.tolist()
        assert sorted([*kept, *done.bad.tolist()]) == list(range(stop - start))
        assert done.good.num_rows == len(kept)
        seen += len(kept) + len(done.bad)
        for row, values in zip(kept, zip(*(c.to_pylist() for c in done.good.columns), strict=True), strict=True):
            verdicts[start + row] = (list(values), set())
        for row, reasons in zip(done.bad.tolist(), done.reasons, strict=True):
            assert len(set(reasons)) == len(reasons) > 0
            verdicts[start + row] = (None, set(reasons))
    assert seen == batch.num_rows
    wanted = expected(batch, columns, coerce)
    assert verdicts == [(None if reasons else values, reasons) for values, reasons in wanted]


# --- by hand ---------------------------------------------------------------------------------------------------------------


def one(
    values: list[Any], column: Column, coerce: bool = True, kind: pa.DataType | None = None
) -> tuple[list[Any], list[tuple[str, ...]]]:
    done = admit(pa.record_batch({"x": pa.array(values, kind)}), compile_rules({"x": column}, coerce))
    return done.good.column(0).to_pylist(), done.reasons


@pytest.mark.parametrize("text", ["12,5", " 7", "N/A", "1e400", "0x10", "1_000", "nan", "inf", ""])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_text_that_is_not_plainly_a_number_never_becomes_one(text: str, dtype: str) -> None:
    assert one(["1", text], Column(dtype)) == ([1], [("x:type",)])


def test_without_coercion_text_is_no_number() -> None:
    assert one(["1", "2.5", None], Column("float32"), coerce=False) == ([None], [("x:type",), ("x:type",)])


def test_nan_is_not_null_and_fails_even_where_null_is_welcome() -> None:
    good, reasons = one([1.0, math.nan, None, math.inf], Column("float64", nullable=True))
    assert good == [1.0, None]
    assert reasons == [("x:nan",), ("x:finite",)]


def test_garbage_under_nulls_is_not_looked_at() -> None:
    values = np.array([5.0, np.nan, np.inf, -1.0], np.float32)
    array = pa.Array.from_buffers(pa.float32(), 4, [pa.py_buffer(b"\x01"), pa.py_buffer(values)])
    done = admit(pa.record_batch({"x": array}), compile_rules({"x": Column("float32", min=0.0)}, True))
    assert done.kept is None


def test_float32_bounds_are_inclusive_as_float32() -> None:
    assert one([np.float32(0.1), np.float32(0.2)], Column("float32", min=0.1, max=0.2), kind=pa.float32())[1] == []


def test_every_reason_of_a_row_is_told_in_column_order() -> None:
    batch = pa.record_batch({"b": ["x"], "a": pa.array([None], pa.int64()), "c": [9.0], "d": ["not judged"]})
    rules = compile_rules(
        {"a": Column("int64", nullable=False), "b": Column("float32"), "c": Column("float32", max=1.0, allowed=(1, 2))}, True
    )
    done = admit(batch, rules)
    assert done.reasons == [("a:null", "b:type", "c:allowed", "c:range")]
    assert done.good.schema.names == ["a", "b", "c"]


def test_dictionary_text_stays_a_dictionary_and_unused_values_do_not_count() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 0], pa.int8()), ["a", "b", "never"])
    rules = compile_rules({"x": Column("string", allowed=("a", "b"))}, True)
    done = admit(pa.record_batch({"x": column}), rules)
    assert done.kept is None
    assert done.good.schema.field("x").type == pa.dictionary(pa.int32(), pa.string())
    assert done.good.column(0).to_pylist() == ["a", "b", None, "a"]


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        ("date32", ["2024-02-29"], ["2023-02-29", "29.02.2024", "2024-2-9", "2024-02-29T00:00:00"]),
        (
            "timestamp[us]",
            ["2024-02-29", "2024-02-29T10:11", "2024-02-29 10:11:12.5"],
            ["2024-02-30T00:00:00", "10:11", "1709164800"],
        ),
        ("bool", ["true", "false"], ["True", "1", "yes", ""]),
    ],
)
def test_text_for_dates_times_and_bools(dtype: str, good: list[str], bad: list[str]) -> None:
    kept, reasons = one(good + bad, Column(dtype))
    assert len(kept) == len(good)
    assert reasons == [("x:type",)] * len(bad)


def test_missing_columns_are_a_matter_of_the_file() -> None:
    rules = compile_rules({"a": Column("int64"), "b": Column("int64"), "c": Column("int64")}, True)
    with pytest.raises(MissingColumns, match="missing columns: b, c") as caught:
        admit(pa.record_batch({"a": [1]}), rules)
    assert isinstance(caught.value, SourceError)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (Column("floaty"), "'floaty' cannot be held to"),
        (Column("list<int64>"), "cannot be held to"),
        (Column("string", min=0), "min and max bind numbers"),
        (Column("int64", allowed=("a",)), "allowed: not all are int64"),
    ],
)
def test_rules_that_cannot_be_are_refused_by_name(column: Column, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compile_rules({"x": column}, True)


def test_raw_rows_are_as_read() -> None:
    batch = pa.record_batch({"x": pa.array(["a", "b", None]).dictionary_encode(), "y": [" 1", "2", "3"]})
    taken = raw_rows(batch, np.array([2, 0]))
    assert taken.to_pydict() == {"x": [None, "a"], "y": ["3", " 1"]}
    assert taken.schema.field("x").type == pa.string()


@pytest.mark.parametrize("kind", [pa.struct([("a", pa.int64())]), pa.list_(pa.float32()), pa.binary(), pa.duration("s")])
def test_types_that_are_no_values_of_ours_are_type_faults(kind: pa.DataType) -> None:
    done = admit(pa.record_batch({"x": pa.nulls(2, kind)}), compile_rules({"x": Column("float32")}, True))
    assert done.good.schema.field("x").type == pa.float32()
    assert done.kept is None
