"""A window on its way to a device: in one arena, decoded and counted there by Triton's kernels, and served to the golden scores."""

import numpy as np
import pytest
import torch
from conftest import HEADS, SHAPES, rows, write

from scoring import ops
from scoring.errors import ModelError
from scoring.kernels.frame import operator
from scoring.models import bundle as bundles
from scoring.models import golden, tabular
from scoring.models.bundle import EXPECTED
from scoring.models.load import load
from scoring.watch.plan import Plan, Watched
from scoring.watch.tally import Tally

CPU = torch.device("cpu")
EDGES = {"x": (-1.0, 0.1, 0.5), "y": (999_950.5, 1e6), "n": (-2.0, 0.5, 3.0, 4.0)}


@pytest.fixture
def away(monkeypatch):
    """Models as on a GPU: windows travel packed, nothing is folded, Triton computes (in its interpreter)."""

    class Away(tabular.Tabular):
        def __init__(self, *given):
            super().__init__(*given)
            self.device = torch.device("cpu", 0)  # not the host's own

        def encode(self, batch):
            return self._encoder.packed(batch)

        def count(self, edges):
            return self._encoder.count(edges)

        def forward(self, encoded):
            with torch.inference_mode():
                return self._heads.scores(self._served.compute(encoded.numbers, encoded.slots))

    monkeypatch.setattr(ops, "_reasons", [])
    monkeypatch.setattr(tabular, "Tabular", Away)
    monkeypatch.setattr(tabular, "pays", lambda net: False)

    def loaded(folder):
        monkeypatch.setenv("SCORING_KERNELS", "triton")
        return load(folder)

    with np.errstate(all="ignore"):  # as on a GPU: what is computed of garbage beyond the rows is masked
        yield loaded
    assert ops.why_reference() == "", "a kernel failed, and torch answered"


@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_give_the_golden_scores(away, tmp_path, shape):
    """Loading checks them; here the difference is seen, for every kind of network and head, nulls and unknown words included."""
    folder = write(tmp_path, shape, "several")
    model = away(folder)
    expected = bundles.read(folder).golden(model.outputs)
    found = golden.scores(model, expected.select(list(model.inputs)))
    want = np.column_stack([expected.column(EXPECTED + output.name).to_numpy() for output in model.outputs])
    np.testing.assert_allclose(found, want, atol=1e-5, rtol=1e-5)
    assert len(model.outputs) == sum(head.width for head in HEADS["several"])


def test_counts_from_the_device_make_the_same_summary(away, tmp_path):
    """Equal to the bit with a CPU's own, window by window, so that lanes of both kinds can share a partition (law 7)."""
    model = away(write(tmp_path))
    watched = {name: Watched("number", edges) for name, edges in EDGES.items()}
    plan = Plan({**watched, "city": Watched("category", values=("Bern", "K\u00f6ln"))}, {})
    elsewhere = model.count(EDGES)
    assert elsewhere == frozenset(EDGES)
    here, there = Tally(plan), Tally(plan, elsewhere)
    table = rows(3000, seed=3).combine_chunks()
    for start, count in ((0, 1), (1, 0), (1, 1999), (2000, 1000)):
        batch = table.slice(start, count).combine_chunks().to_batches()[0] if count else table.to_batches()[0].slice(0, 0)
        positions = np.arange(start, start + count)
        here.rows(batch, positions, None)
        there.rows(batch, positions, None)
        there.counted(model.encode(batch).to(CPU).counted())
    assert there.summary().to_json() == here.summary().to_json()


def test_a_part_of_a_window_is_not_counted(away, tmp_path):
    model = away(write(tmp_path))
    model.count(EDGES)
    packed = model.encode(rows(50).combine_chunks().to_batches()[0])
    assert packed.counted() == packed.narrow(10, 20).counted() == {}
    assert packed.rows == 50


def test_a_kernel_that_fails_on_golden_rows_is_replaced_by_torch(tmp_path, monkeypatch):
    """As on a GPU that is too old for a kernel: the model loads, and why is kept for the notes of the run."""
    monkeypatch.setattr(ops, "_reasons", [])
    whole = ops.score_head()

    def failing(*given):
        if operator.forced() != "torch":
            raise operator.KernelError("score_head: CompilationError: too old")
        return whole(*given)

    monkeypatch.setattr(ops, "score_head", lambda: failing)
    try:
        assert load(write(tmp_path)).name == "toy"
        assert ops.why_reference() == "score_head: CompilationError: too old"
    finally:
        operator.force(None)
        ops._reasons.clear()
    with monkeypatch.context() as broken:
        broken.setattr(ops, "why_reference", lambda: "already torch")
        with pytest.raises(ModelError, match="KernelError"):
            load(tmp_path)
