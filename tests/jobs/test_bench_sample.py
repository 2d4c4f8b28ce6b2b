"""The sample that a bench scores: spread over the dataset, about as large as asked for, the same each time, cut where need be."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.jobs.benching.sample import sample_of
from scoring.parts import part
from scoring.settings import Source
from scoring.sources.discover import discover

ROWS, FILES = 4_000, 6


def values(work, source):
    """The ids of the rows of a slice, as a lane reads them."""
    read = part("sources", source.kind).read
    return [int(v) for f in work.fragments for w in read(f, ["id"], 1_000, source) for v in w.batch["id"].to_pylist()]


def write(folder, kind, groups=500):
    for n in range(FILES):
        table = pa.table({"id": np.arange(n * ROWS, (n + 1) * ROWS), "text": ['a "quoted"\nline'] * ROWS})
        path = folder / f"{n}.{kind}"
        if kind == "parquet":
            pq.write_table(table, path, row_group_size=groups)
        elif kind == "arrow":
            with pa.ipc.new_file(path, table.schema) as writer:
                writer.write_table(table, groups)
        elif kind == "csv":
            with open(path, "w", newline="") as out:
                writer = csv.writer(out)
                writer.writerow(table.column_names)
                writer.writerows(zip(*table.to_pydict().values(), strict=True))
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))


KINDS = {"parquet": "parquet", "arrow": "ipc", "csv": "csv", "jsonl": "jsonl"}


@pytest.fixture(scope="module", params=sorted(KINDS))
def dataset(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "data").mkdir()
    (folder / "cut").mkdir()
    write(folder / "data", request.param)
    source = Source(KINDS[request.param], str(folder / "data"), slice_rows=ROWS // 4)
    found = discover(source, part("sources", source.kind).SUFFIXES)
    return source, sample_of(found.partitions, source, folder / "cut")


@pytest.mark.parametrize("rows", [60, 600, 6_000, 10 * ROWS * FILES])
def test_a_sample_is_spread_and_about_as_large_as_asked_for(dataset, rows):
    source, sample = dataset
    found = sample.take(rows, FILES, "x")
    ids = [values(work, source) for work in found]
    total = sum(map(len, ids))
    rough = 1 if sample.rows is not None else 4  # rows of text are guessed
    assert min(rows, ROWS * FILES) * 0.7 <= total <= max(rows * 1.3 * rough, FILES)
    assert len({each[0] // ROWS for each in ids}) == FILES, "not from all files"
    assert len({one for each in ids for one in each}) == total, "a row is there twice"


def test_a_sample_is_the_same_each_time_and_another_mark_makes_other_slices(dataset):
    _, sample = dataset
    first, again, other = (sample.take(600, 4, mark) for mark in ("x", "x", "y"))
    assert [w.id for w in first] == [w.id for w in again]
    assert not {w.id for w in first} & {w.id for w in other}
    assert [w.fragments for w in first] == [w.fragments for w in other]


def test_rows_are_known_where_footers_tell(dataset):
    source, sample = dataset
    assert sample.rows == (ROWS * FILES if source.kind in ("parquet", "ipc") else None)
    assert sample.bytes > 0


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    (folder / "data").mkdir()
    (folder / "cut").mkdir()
    write(folder / "data", "parquet", groups=1_500)
    source = Source("parquet", str(folder / "data"), slice_rows=2 * ROWS)
    return source, sample_of(discover(source, (".parquet",)).partitions, source, folder / "cut")


@given(st.integers(1, 40_000), st.integers(1, 12))
def test_any_size_can_be_had_of_large_row_groups(large, rows, pieces):
    source, sample = large
    found = sample.take(rows, pieces, "x")
    promised = sum(work.rows for work in found)
    assert promised == sum(len(values(work, source)) for work in found)
    assert min(rows, ROWS * FILES) * 0.5 - len(found) <= promised <= rows * 1.3 + len(found)  # row groups are taken whole
