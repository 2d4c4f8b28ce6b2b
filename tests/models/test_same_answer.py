"""A row's score is the same to the bit whatever rows travel with it, however they are batched, on one thread or two."""

import functools
import itertools
import tempfile

import numpy as np
import pyarrow as pa
import pytest
import torch
from conftest import HEADS, SHAPES, rows, write
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.models import tabular
from scoring.models.blocks import BLOCK_ROWS
from scoring.models.load import load

COUNT = 2 * BLOCK_ROWS + 77
CASES = [(shape, heads) for shape in SHAPES for heads in HEADS]


@functools.cache
def case(shape, heads):
    """A model, its rows as one batch, and their scores as integers that show every bit."""
    with tempfile.TemporaryDirectory() as folder:
        model = load(write(folder, shape, heads))
    batch = rows(COUNT, seed=5).to_batches()[0]
    return model, batch, bits(model, batch)


def bits(model, batch):
    return model.forward(model.encode(batch)).numpy().view(np.int32).copy()


@pytest.mark.parametrize(("shape", "heads"), CASES)
@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(0, COUNT), max_size=5), threads=st.sampled_from([1, 2]))
def test_splits_change_no_bit(shape, heads, cuts, threads):
    model, batch, whole = case(shape, heads)
    edges = [0, *sorted(cuts), COUNT]
    with torch_threads(threads):
        parts = [bits(model, batch.slice(a, b - a)) for a, b in itertools.pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize(("shape", "heads"), CASES)
def test_narrow_and_neighbours_change_no_bit(shape, heads):
    model, batch, whole = case(shape, heads)
    encoded = model.encode(batch)
    for start, count in ((0, 1), (1, 1), (COUNT - 1, 1), (3, 5), (17, BLOCK_ROWS), (100, BLOCK_ROWS + 3)):
        part = model.forward(encoded.narrow(start, count)).numpy().view(np.int32)
        np.testing.assert_array_equal(part, whole[start : start + count])
    order = np.random.default_rng(0).permutation(COUNT)
    np.testing.assert_array_equal(bits(model, batch.take(pa.array(order))), whole[order])


@pytest.mark.parametrize("shape", SHAPES)
def test_every_position_of_a_block_gives_the_same_bits(shape):
    model, batch, whole = case(shape, "several")
    for row in (0, 7, 4000):
        same = bits(model, batch.take(pa.array([row] * BLOCK_ROWS)))
        np.testing.assert_array_equal(same, np.broadcast_to(whole[row], same.shape))


def test_the_folded_path_gives_the_served_scores(tmp_path, monkeypatch):
    model, batch, _ = case("mlp", "several")
    monkeypatch.setattr(tabular, "pays", lambda net: False)
    served = load(write(tmp_path, "mlp", "several"))
    assert model._folded is not None
    assert served._folded is None
    folded, plain = (m.forward(m.encode(batch)).numpy() for m in (model, served))
    np.testing.assert_allclose(folded, plain, atol=2e-6)


def test_no_rows_give_no_scores():
    model, batch, _ = case("mlp", "several")
    assert model.forward(model.encode(batch.slice(0, 0))).shape == (0, 5)


class torch_threads:  # noqa: N801 - reads as a statement
    def __init__(self, count):
        self.count = count

    def __enter__(self):
        self.before = torch.get_num_threads()
        torch.set_num_threads(self.count)

    def __exit__(self, *_):
        torch.set_num_threads(self.before)
