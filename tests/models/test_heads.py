"""Heads: the formulas of calibration against their definitions, and how outputs are named."""

import math

import numpy as np
import pytest
import torch
from conftest import HEADS, rows, write
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.models.calibrate import platt, temperature
from scoring.models.heads import Head, activate, affine, output_names
from scoring.models.load import load

LOGITS = st.floats(-30, 30, width=32)


@given(z=LOGITS, slope=st.floats(-3, 3), intercept=st.floats(-3, 3))
def test_platt_is_a_sigmoid_of_an_affine_logit(z, slope, intercept):
    head = (Head("score", "binary", slope=slope, intercept=intercept),)
    factor, summand = affine(head)
    found = activate(head, torch.tensor([[z]], dtype=torch.float32) * factor + summand).item()
    assert found == pytest.approx(1 / (1 + math.exp(-(slope * z + intercept))), abs=1e-5)


@given(z=st.lists(LOGITS, min_size=3, max_size=3), t=st.floats(0.1, 10))
def test_temperature_divides_the_logits_of_a_softmax(z, t):
    head = (Head("kind", "multiclass", ("a", "b", "c"), slope=1 / t),)
    factor, summand = affine(head)
    found = activate(head, torch.tensor([z], dtype=torch.float32) * factor + summand)[0].numpy()
    power = np.exp(np.array(z, np.float64) / t - max(z) / t)
    np.testing.assert_allclose(found, power / power.sum(), atol=1e-4)


def test_fitted_temperature_recovers_the_one_that_was_put_in():
    torch.manual_seed(0)
    honest = torch.randn(20_000, 4) * 2
    classes = torch.multinomial(torch.softmax(honest, 1), 1)[:, 0]
    assert temperature(honest * 3, classes) == pytest.approx(3, rel=0.05)
    assert temperature(honest / 2, classes) == pytest.approx(0.5, rel=0.05)


def test_fitted_platt_recovers_slope_and_intercept():
    torch.manual_seed(0)
    honest = torch.randn(40_000) * 2
    labels = torch.bernoulli(torch.sigmoid(honest))
    slope, intercept = platt((honest - 1) / 0.5, labels)
    assert slope == pytest.approx(0.5, rel=0.05)
    assert intercept == pytest.approx(1, abs=0.06)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_no_nearby_pair_fits_better_than_platt(seed):
    draw = torch.Generator().manual_seed(seed)
    logits, labels = torch.randn(60, generator=draw).double(), (torch.rand(60, generator=draw) < 0.3).float()
    yes = int(labels.sum())
    target = torch.where(labels.bool(), (yes + 1) / (yes + 2), 1 / (60 - yes + 2)).double()

    def loss(a, b):
        return torch.nn.functional.binary_cross_entropy_with_logits(a * logits + b, target).item()

    slope, intercept = platt(logits, labels)
    best = loss(slope, intercept)
    assert all(best <= loss(slope + da, intercept + db) + 1e-9 for da in (-0.05, 0, 0.05) for db in (-0.05, 0, 0.05))


def test_separable_labels_do_not_make_platt_infinite():
    slope, intercept = platt(torch.tensor([-1.0, -2.0, 1.0, 2.0]), torch.tensor([0.0, 0.0, 1.0, 1.0]))
    assert 0 < slope < 10
    assert abs(intercept) < 1


def test_output_names():
    assert output_names((Head("anything", "regression"),)) == ("score",)
    assert output_names(HEADS["several"]) == ("risk", "kind_a", "kind_b", "kind_c", "value")
    assert output_names((Head("kind", "multiclass", ("a", "b")),)) == ("kind_a", "kind_b")


def test_several_heads_come_back_as_columns_of_their_own(tmp_path, shape):
    model = load(write(tmp_path / "b", shape, "several"))
    scores = model.score(rows(50))
    assert scores.column_names == ["risk", "kind_a", "kind_b", "kind_c", "value"]
    total = sum(scores.column(f"kind_{c}").to_numpy() for c in "abc")
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert ((scores.column("risk").to_numpy() > 0) & (scores.column("risk").to_numpy() < 1)).all()
