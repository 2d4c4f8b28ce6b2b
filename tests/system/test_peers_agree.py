"""Answers are compared row by row: what is missing, doubled, moved or off is seen."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from peers import agree


def rows(scores, ids=None):
    return np.arange(len(scores)) if ids is None else np.array(ids), np.array(scores, np.float64)


def written(folder, name, ids, scores, column="score"):
    pq.write_table(pa.table({"id": pa.array(ids, pa.int64()), column: scores}), folder / f"{name}.parquet")
    return folder / f"{name}.parquet"


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20), st.randoms())
def test_order_and_files_do_not_matter(tmp_path_factory, scores, random):
    folder = tmp_path_factory.mktemp("files")
    mixed = list(enumerate(scores))
    random.shuffle(mixed)
    half = len(mixed) // 2
    parts = [written(folder, n, [i for i, _ in p], pa.array([s for _, s in p])) for n, p in enumerate((mixed[:half], mixed[half:]))]
    found = agree.compare("tabular", agree.read(parts, "score"), rows(scores))
    assert (found.rows, found.largest, found.holds) == (len(scores), 0, True)


@pytest.mark.parametrize("ids", [[0, 1], [0, 1, 1], [0, 1, 3], [0, 1, 2, 3]])
def test_a_missing_doubled_or_foreign_row_is_a_disagreement(ids):
    with pytest.raises(agree.DisagreementError):
        agree.compare("tabular", rows([0.5] * len(ids), ids), rows([0.5] * 3))


@given(st.integers(0, 99), st.floats(2e-5, 1))
def test_one_row_that_is_off_is_seen(place, off):
    scores = np.full(100, 0.25)
    scores[place] += off
    assert not agree.compare("tabular", rows(scores), rows([0.25] * 100)).holds


def test_nan_never_agrees():
    assert not agree.compare("lightgbm", rows([np.nan]), rows([np.nan])).holds


def test_trees_are_held_relatively():
    """A difference that is allowed beside 1 is none beside a thousandth."""
    assert agree.compare("lightgbm", rows([1 + 5e-7]), rows([1.0])).holds
    assert not agree.compare("lightgbm", rows([1e-3 + 5e-7]), rows([1e-3])).holds


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 2), pa.large_list(pa.float32())])
def test_vectors_come_in_any_list(tmp_path, kind):
    path = written(tmp_path, "0", [1, 0], pa.array([[0.5, 1.0], [0.25, 0.0]], kind), "embedding")
    ids, found = agree.read([path], "embedding")
    assert (ids.tolist(), found.tolist()) == ([0, 1], [[0.25, 0.0], [0.5, 1.0]])


def test_bfloat16_has_a_tolerance_of_its_own():
    near, far = rows([[0.5, 0.51]]), rows([[0.5, 0.53]])
    assert agree.compare("text bf16", near, rows([[0.5, 0.5]])).holds
    assert not agree.compare("text bf16", far, rows([[0.5, 0.5]])).holds
    assert not agree.compare("text", near, rows([[0.5, 0.5]])).holds
