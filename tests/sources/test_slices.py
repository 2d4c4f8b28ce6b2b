"""Planning as laws: rows are conserved, schemas never mix, a slice is what its files are; bad and repeated files are named."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.errors import SourceError
from scoring.settings import Source
from scoring.sources import parquet
from scoring.sources.discover import partitions
from scoring.sources.slices import plan
from scoring.types import Partition, Slice

FILES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 25), st.sampled_from(["x", "y"])), min_size=1, max_size=6)


def write(path: Path, rows: int, group: int, column: str, first: int) -> None:
    pq.write_table(pa.table({"id": range(first, first + rows), column: [1.0] * rows}), path, row_group_size=group)


def whole(folder: Path, **more: object) -> tuple[Partition, Source]:
    source = Source(kind="parquet", path=str(folder), **more)
    return partitions(source, parquet.SUFFIXES)[0], source


def ids_read(work: Slice, source: Source, window: int) -> tuple[list[int], list[int]]:
    ids, places = [], []
    for fragment in work.fragments:
        for part in parquet.read(fragment, ["id"], window, source):
            assert part.batch.num_rows <= window
            ids += part.batch.column("id").to_pylist()
            places += part.positions.tolist()
    return ids, places


@settings(max_examples=40, deadline=None)
@given(FILES, st.integers(1, 80), st.integers(1, 30), st.randoms())
def test_slices_conserve_rows_and_never_mix_schemas(
    files: list[tuple[int, int, str]], limit: int, window: int, chance: object
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, wanted, first = Path(name), {}, 0
        for n, (rows, group, column) in enumerate(files):
            write(folder / f"{n}.parquet", rows, group, column, first)
            wanted[n] = list(range(first, first + rows))
            first += rows
        partition, source = whole(folder, slice_rows=limit)
        made = list(plan(partition, source))
        assert all(work.fault is None for work in made)
        read = [ids_read(work, source, window) for work in made]
        assert [i for ids, _ in read for i in ids] == [i for ids in wanted.values() for i in ids]
        assert [len(ids) for ids, _ in read] == [work.rows for work in made]
        assert [p for _, places in read for p in places] == [p for ids in wanted.values() for p in range(len(ids))]
        for work in made:
            columns = {files[int(Path(f.path).stem)][2] for f in work.fragments}
            assert len(columns) == 1
            one_group = len(work.fragments) == 1 and work.fragments[0].groups is not None and sum(work.fragments[0].groups) % 2
            assert work.rows <= limit or one_group
        shuffled = list(partition.files)
        chance.shuffle(shuffled)  # type: ignore[attr-defined]
        assert [w.id for w in plan(replace(partition, files=tuple(shuffled)), source)] == [w.id for w in made]


def test_a_copy_is_named_unless_copies_are_kept(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 10, 5, "x", 0)
    shutil.copy(tmp_path / "a.parquet", tmp_path / "b.parquet")
    write(tmp_path / "c.parquet", 10, 5, "x", 10)
    partition, source = whole(tmp_path)
    made = list(plan(partition, source))
    copies = [work for work in made if work.fault]
    assert [work.fault for work in copies] == [f"duplicate of {tmp_path / 'a.parquet'}"]
    assert (copies[0].fragments[0].path, copies[0].rows) == (str(tmp_path / "b.parquet"), 10)
    assert sum(work.rows for work in made if not work.fault) == 20
    assert not [work for work in plan(partition, replace(source, duplicates="keep")) if work.fault]


def test_files_of_one_size_and_footer_but_other_bytes_are_no_copies(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 2)):
        pq.write_table(pa.table({"x": pa.array([value] * 8, pa.int64())}), tmp_path / f"{name}.parquet", write_statistics=False)
    assert os.path.getsize(tmp_path / "a.parquet") == os.path.getsize(tmp_path / "b.parquet")
    assert not [work for work in plan(*whole(tmp_path)) if work.fault]


def test_empty_files_are_alike_without_being_copies_and_still_make_a_slice(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.parquet", 0, 5, "x", 0)
    (work,) = plan(*whole(tmp_path))
    assert work.fault is None
    assert (work.rows, len(work.fragments)) == (0, 2)
    assert [list(parquet.read(f, None, 10, Source("parquet", ""))) for f in work.fragments] == [[], []]


@pytest.mark.parametrize("keep", [0, 3, 100, -9, -1])
def test_a_truncated_file_is_a_fault_of_its_own(tmp_path: Path, keep: int) -> None:
    write(tmp_path / "a.parquet", 10, 5, "x", 0)
    write(tmp_path / "b.parquet", 10, 5, "x", 10)
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data[:keep])
    bad, good = plan(*whole(tmp_path))
    assert (bad.fault or "").startswith("unreadable: ")
    assert (bad.rows, good.rows) == (0, 10)


def test_a_file_that_vanished_is_a_fault(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 10, 5, "x", 0)
    partition, source = whole(tmp_path)
    (tmp_path / "a.parquet").unlink()
    (work,) = plan(partition, source)
    assert (work.fault or "").startswith("unreadable: ")


def test_the_first_slice_leaves_before_later_footers_are_read(tmp_path: Path) -> None:
    for n in range(4):
        write(tmp_path / f"{n}.parquet", 10, 10, "x", 10 * n)
    partition, source = whole(tmp_path, slice_rows=10)
    made = plan(partition, source)
    first = list(islice(made, 1))
    for n in range(2, 4):
        (tmp_path / f"{n}.parquet").unlink()
    later = list(made)
    assert first[0].rows == 10
    assert [bool(work.fault) for work in sorted(later, key=lambda w: w.fragments[0].path)] == [False, True, True]


def test_a_file_changed_since_planning_is_not_read(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 10, 5, "x", 0)
    (work,) = plan(*whole(tmp_path))
    write(tmp_path / "a.parquet", 12, 5, "x", 0)
    with pytest.raises(SourceError, match="changed since planning"):
        list(parquet.read(work.fragments[0], None, 10, Source("parquet", "")))


def test_a_file_changed_under_the_reader_is_noticed_at_the_end(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", 10, 5, "x", 0)
    (work,) = plan(*whole(tmp_path))
    windows = parquet.read(work.fragments[0], None, 2, Source("parquet", ""))
    next(windows)
    os.utime(tmp_path / "a.parquet", ns=(1, 1))
    with pytest.raises(SourceError, match="changed since planning"):
        list(windows)
