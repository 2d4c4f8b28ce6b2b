"""Columns to carry: a name that no file of a partition has is refused first; what some files lack is known with its type."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from scoring.errors import ConfigError
from scoring.parts import part
from scoring.settings import Source
from scoring.sources.carried import decoded, with_absent
from scoring.sources.discover import partitions
from scoring.sources.slices import plan, refuse_absent
from scoring.types import Slice

X = pa.array([0.5, 1.5])
IDS = pa.array([1, 2], pa.int32())


def planned(folder: Path, kind: str = "parquet", **more: object) -> list[Slice]:
    source = Source(kind, str(folder), slice_rows=1, **more)  # type: ignore[arg-type]
    return [work for one in partitions(source, part("sources", kind).SUFFIXES) for work in plan(one, source)]


def by_file(works: list[Slice]) -> dict[str, dict[str, pa.DataType]]:
    return {Path(w.fragments[0].path).name: dict(zip((s := decoded(w.absent)).names, s.types, strict=True)) for w in works}


def test_a_column_that_no_file_has_is_refused_with_the_nearest_names(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pq.write_table(pa.table({"x": X, "customer": IDS, "customer_name": ["u", name]}), tmp_path / f"{name}.parquet")
    with pytest.raises(ConfigError) as caught:
        planned(tmp_path, carry=("customer", "custmer"))
    said = str(caught.value)
    assert all(word in said for word in ("'custmer'", f"{tmp_path}/a.parquet", "1 other file", "all", "'customer'"))
    assert "\n" not in said


@pytest.mark.parametrize("kind", ["ipc", "csv"])
def test_other_kinds_with_a_header_refuse_it_too(tmp_path: Path, kind: str) -> None:
    if kind == "ipc":
        feather.write_feather(pa.table({"x": X, "id": IDS}), tmp_path / "a.feather")
    else:
        (tmp_path / "a.csv").write_text("x,id\n1,2\n")
    assert [work.absent for work in planned(tmp_path, kind, carry=("id",))] == [""]
    with pytest.raises(ConfigError, match=r"'idd' is no column of .*Did you mean 'id'"):
        planned(tmp_path, kind, carry=("idd",))


def test_it_is_refused_before_the_first_slice_leaves(tmp_path: Path) -> None:
    for n in range(5):
        pq.write_table(pa.table({"x": [n]}), tmp_path / f"{n}.parquet")
    source = Source("parquet", str(tmp_path), slice_rows=1, carry=("id",))
    (partition,) = partitions(source, (".parquet",))
    with pytest.raises(ConfigError):
        next(plan(partition, source))
    with pytest.raises(ConfigError):
        refuse_absent(partition, source)


def test_files_that_lack_it_are_told_its_type_wherever_they_stand(tmp_path: Path) -> None:
    """Order and identity of the slices are those of a job that carries nothing: only the nulls are known in addition."""
    uuid = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0123456789abcdef"] * 2, pa.binary(16)))
    pq.write_table(pa.table({"x": X}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    pq.write_table(pa.table({"x": X, "id": IDS}), tmp_path / "c.parquet")
    pq.write_table(pa.table({"x": X, "u": uuid}), tmp_path / "d.parquet")
    works = planned(tmp_path, carry=("u", "id", "x"))
    assert by_file(works) == {
        "a.parquet": {"u": pa.binary(16), "id": pa.int32()},
        "b.parquet": {},
        "c.parquet": {"u": pa.binary(16)},
        "d.parquet": {"id": pa.int32()},
    }
    assert [work.id for work in works] == [work.id for work in planned(tmp_path)]


def test_slices_leave_at_once_when_the_first_file_has_all(tmp_path: Path) -> None:
    for n in range(3):
        pq.write_table(pa.table({"x": [n], "id": [n]} if n != 1 else {"x": [n]}), tmp_path / f"{n}.parquet")
    source = Source("parquet", str(tmp_path), slice_rows=1, carry=("id",))
    (partition,) = partitions(source, (".parquet",))
    made = plan(partition, source)
    next(made)
    (tmp_path / "2.parquet").unlink()
    gone, second = made  # what cannot be read leaves at once
    assert gone.fault
    assert decoded(second.absent).names == ["id"]


def test_a_hive_key_is_told_by_the_folder_and_needs_no_column(tmp_path: Path) -> None:
    place = tmp_path / "my%20day=1"
    place.mkdir()
    pq.write_table(pa.table({"x": X}), place / "a.parquet")
    assert [work.absent for work in planned(tmp_path, carry=("my day",))] == [""]


def test_files_without_rows_or_that_cannot_be_read_accuse_nobody(tmp_path: Path) -> None:
    pq.write_table(pa.table({}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    assert [decoded(work.absent).names for work in planned(tmp_path, carry=("id",))] == [[], ["id"]]


def test_json_lines_tell_only_by_reading(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": 1}\n')
    assert by_file(planned(tmp_path, "jsonl", carry=("id",))) == {"a.jsonl": {"id": pa.null()}}


def test_absent_columns_take_their_place_as_nulls() -> None:
    batch = pa.record_batch({"x": X, "id": IDS})
    found = with_absent(batch, ("gone", "id", "day"), pa.schema({"gone": pa.string(), "id": pa.null()}))
    assert found.to_pydict() == {"gone": [None, None], "id": [1, 2]}
    assert found.schema.types == [pa.string(), pa.int32()]
    assert with_absent(batch, (), pa.schema([])).num_columns == 0
