"""Keys counted across files are keys counted in one list, whatever the files, the types and the order."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scoring.admit.row_keys import Keys, Newest
from scoring.errors import StoreError
from scoring.sinks import keys as files
from scoring.stores import open_store
from scoring.types import StagedFile

VALUES = {
    pa.int64(): st.integers(-3, 3) | st.sampled_from([2**63 - 1, -(2**63)]),
    pa.int32(): st.integers(-3, 3),
    pa.uint64(): st.sampled_from([0, 1, 2**64 - 1]),
    pa.string(): st.text("ab", max_size=20) | st.sampled_from(["", "\0", "\0\0", "a" * 8, "a" * 9]),
    pa.dictionary(pa.int32(), pa.string()): st.sampled_from(["", "a", "b"]),
    pa.float64(): st.sampled_from([0.0, -0.0, 1.5]),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
}


@st.composite
def partitions(draw: st.DrawFn) -> tuple[list[pa.DataType], list[list[list[Any]]]]:
    """Types of a key's columns, and slices of windows of rows."""
    kinds = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=3))
    row = st.tuples(*(st.none() | VALUES[kind] if n == 0 else VALUES[kind] for n, kind in enumerate(kinds)))
    return kinds, draw(st.lists(st.lists(st.lists(row, max_size=8), max_size=3), max_size=4))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(partitions())
def test_duplicates_are_counted_as_in_one_list(tmp_path: Path, given_rows: tuple[list[pa.DataType], list[list[list[Any]]]]) -> None:
    kinds, slices = given_rows
    names = [f"k{n}" for n in range(len(kinds))]
    store, staged = open_store(str(tmp_path)), []
    for n, windows in enumerate(slices):
        keys = Keys(names)
        for rows in windows:
            columns = list(zip(*rows, strict=True)) or [()] * len(kinds)
            keys.add(pa.record_batch([pa.array(c, k) for c, k in zip(columns, kinds, strict=True)], names=names))
        found = keys.finished()
        assert found is not None
        if len(found):
            files.write(tmp_path / f"{n}.parquet", found)
            staged.append(StagedFile(f"{n}.parquet", len(found), 0, ""))
    wanted = Counter(row for windows in slices for rows in windows for row in rows if None not in row)
    assert files.duplicates(store, staged) == sum(count - 1 for count in wanted.values())


def test_blocks_are_read_in_step_and_a_damaged_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_HELD_ROWS", 1)  # blocks of 1,024 rows
    store, staged = open_store(str(tmp_path)), []
    for n in range(3):
        keys = Keys(["k"])
        keys.add(pa.record_batch({"k": pa.array([*range(n, 30_000, 3), *[7] * 3_000])}))
        found = keys.finished()
        assert found is not None
        files.write(tmp_path / f"{n}.parquet", found)
        staged.append(StagedFile(f"{n}.parquet", len(found), 0, ""))
    assert files.duplicates(store, staged) == 9_000
    (tmp_path / "1.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match="keys of rows cannot be read"):
        files.duplicates(store, staged)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        (pa.array([None, 0, 5], pa.int32()).cast(pa.date32()), 6 * 86_400_000_000),
        (pa.array([1, None, 3], pa.timestamp("s")), 3_000_000),
        (pa.array([5_000], pa.timestamp("ns", "Europe/Berlin")), 5),
        (pa.array([None], pa.timestamp("ms")), None),
    ],
)
def test_the_newest_value_is_in_microseconds_and_a_date_ends_with_its_day(values: pa.Array[Any], wanted: int | None) -> None:
    newest = Newest("t")
    for part in (values, values.slice(0, 1)):
        newest.add(pa.record_batch({"t": part}))
    assert newest.value == wanted
