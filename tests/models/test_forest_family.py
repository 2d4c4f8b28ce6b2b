"""The forest family: every way down the trees gives the sums of the plain one, to the bit; a bundle scores as it was written."""

import math
import tempfile
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from scoring import columns, ops
from scoring.errors import ModelError
from scoring.kernels.forest_parts import drawn
from scoring.kernels.forest_parts.trees import Ranking, pack
from scoring.kernels.frame import operator
from scoring.models.forest_parts import bits, plain, walk
from scoring.models.forest_parts.cover import Cover
from scoring.models.forest_parts.ranks import Ranker
from scoring.models.forest_parts.shape import Feature, ForestShape
from scoring.models.forest_parts.write import write_forest
from scoring.models.load import load
from scoring.settings import Column

FEATURES = 7  # features 0, 3 and 6 are categorical where any is
NAMES = {"float": "float32", "double": "float64"}
EDGES = [math.inf, -math.inf, 0.0, -0.0, 1e-45, 3.4e38, 1e300, 2.0**24 + 1, 1e-35, -1e-36]


@st.composite
def forests(draw):
    """Trees of up to 16 levels, up to 2,000 of the flat ones; float64 thresholds, some of them shared and some infinite."""
    depth = draw(st.sampled_from([0, 1, 2, 3, 5, 6, 9, 16]))
    count = draw(st.integers(1, {0: 50, 1: 2000, 2: 300, 3: 120, 5: 40, 6: 20, 9: 6, 16: 3}[depth]))
    outputs, vectors = draw(st.integers(1, 4)), draw(st.booleans())
    seed = torch.Generator().manual_seed(draw(st.integers(0, 1 << 30)))
    trees = drawn.trees(
        seed, count, depth, FEATURES, outputs=outputs, vectors=vectors and outputs > 1, bushy=0.9 if depth < 9 else 0.7,
        categorical=draw(st.booleans()), leaf=torch.float64, less_equal=draw(st.booleans()),
    )  # fmt: skip
    odd = torch.tensor(draw(st.lists(st.sampled_from(EDGES), min_size=1, max_size=4)), dtype=torch.float64)
    some = torch.rand(trees.feature.numel(), generator=seed) < 0.3
    threshold = torch.where(some, odd[torch.randint(len(odd), some.shape, generator=seed)], trees.threshold)
    return replace(trees, threshold=threshold)


def shape_of(trees, rounded, smallest=0.0, **more):
    categorical = bool(trees.sets)
    features = tuple(Feature(f"f{n}", categorical and n % 3 == 0) for n in range(FEATURES))
    return ForestShape(features, rounded, "identity", margins=len(trees.base), smallest=smallest, **more)


def batch(trees, rows, seed):
    """Columns of several types, with nulls, NaN, infinities, thresholds themselves, unseen and negative codes."""
    rng = np.random.default_rng(seed)
    found = {}
    for n in range(FEATURES):
        null = rng.random(rows) < 0.1
        if trees.sets and n % 3 == 0:
            values = rng.integers(-2, drawn.MOST_CATEGORIES + 5, rows)
            found[f"f{n}"] = pa.array(values, pa.int16() if n else pa.int64(), mask=null)
            continue
        near = trees.threshold.numpy() if trees.threshold.numel() else np.zeros(1)
        values = np.where(rng.random(rows) < 0.5, rng.choice(near, rows), rng.standard_normal(rows))
        values[rng.random(rows) < 0.2] = rng.choice([*EDGES, math.nan, 1e30])
        with np.errstate(over="ignore"):
            found[f"f{n}"] = pa.array(values.astype(np.float32 if n % 2 else np.float64), mask=null)
    return pa.record_batch(found)


ROWS = st.one_of(st.sampled_from([0, 1, 63, 64, 65, 511, 512, 513]), st.integers(2, 700))


@settings(max_examples=60, deadline=None)
@given(forests(), st.booleans(), st.sampled_from([0.0, 1e-35]), ROWS, st.integers(1, 3), st.integers(0, 9))
def test_every_way_down_gives_the_plain_sums(trees, rounded, smallest, rows, threads, seed):
    shape, given_ = shape_of(trees, rounded, smallest), batch(trees, rows, seed)
    wanted = plain.margins(shape, trees, pa.Table.from_batches([given_])).T
    ranking = Ranking.of(trees, FEATURES)
    ranks = Ranker(shape, ranking).ranks(given_)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ways = {
            "walk": walk.Walk(pack(trees, ranking, perfect=False)).margins(ranks.columns.numpy()),
            "bits": bits.Bits(trees, ranking).margins(ranks.columns.numpy()),
            "torch": ops.forest()(ranks.columns, **pack(trees, ranking).arguments(), dtype=torch.float64).numpy().T,
        }
    finally:
        torch.set_num_threads(before)
    for name, found in ways.items():
        np.testing.assert_array_equal(found, wanted, err_msg=name)


@settings(max_examples=8, deadline=None)
@given(trees=forests().filter(lambda t: t.roots.numel() <= 20 and t.feature.numel() < 600), rows=st.sampled_from([0, 1, 70]))
def test_the_kernel_gives_the_plain_sums(trees, rows):
    """In the interpreter, or on the GPU where there is one."""
    shape, given_ = shape_of(trees, True), batch(trees, rows, 1)
    ranking = Ranking.of(trees, FEATURES)
    ranks = Ranker(shape, ranking).ranks(given_).columns
    device = "cuda" if torch.cuda.is_available() else "cpu"
    operator.force("triton")
    try:
        found = ops.forest()(ranks.to(device), **pack(trees, ranking).arguments(device), dtype=torch.float64).cpu().numpy()
    finally:
        operator.force(None)
    np.testing.assert_array_equal(found, plain.margins(shape, trees, pa.Table.from_batches([given_])))


@settings(max_examples=25, deadline=None)
@given(trees=forests(), rounded=st.booleans(), data=st.data())
def test_a_bundle_scores_as_it_was_written(trees, rounded, data):
    """Through the loader, its golden rows, and in any grouping of rows, to the bit."""
    links = {"softmax": 2, "one_vs_all": 2, "probabilities": 2}
    margins = len(trees.base)
    link = data.draw(st.sampled_from(["identity", "sigmoid", "hinge", "exponential", "signed_square", "log1p_exp", "anomaly"]))
    link = data.draw(st.sampled_from(sorted(links))) if margins > 1 and data.draw(st.booleans()) else link
    small = replace(trees, leaves=trees.leaves / max(len(trees.roots), 1))
    classes = tuple(f"c{n}" for n in range(margins)) if link in links else ()
    shape = replace(shape_of(small, rounded), link=link, classes=classes, margin=data.draw(st.booleans()))
    given_ = batch(small, 150, 5)
    table = pa.Table.from_batches([given_])
    wanted = plain.outputs(shape, small, None, table).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        inputs = {field.name: Column(NAMES.get(str(field.type), str(field.type))) for field in given_.schema}
        write_forest(
            folder, name="f", version="1", inputs=inputs, shape=shape, trees=small, cover=None, golden=table, expected=wanted,
            source="drawn",
        )  # fmt: skip
        model = load(folder)
    found = model.forward(model.encode(given_)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-6)
    rows = data.draw(st.lists(st.integers(0, 149), min_size=1, max_size=60))
    again = model.forward(model.encode(given_.take(pa.array(rows)))).numpy()
    np.testing.assert_array_equal(again.view(np.int32), found[rows].view(np.int32))
    assert columns.width(model.outputs) == found.shape[1]


@settings(max_examples=15, deadline=None)
@given(forests().filter(lambda t: t.roots.numel() <= 60), st.integers(1, 9), st.booleans())
def test_explanations_sum_to_the_margin_and_name_the_largest(trees, reasons, everything):
    """Of the class that was decided for, where there are several; with every other output beside them."""
    margins = len(trees.base)
    classes = tuple(f"c{n}" for n in range(margins)) if margins > 1 else ()
    shape = replace(
        shape_of(trees, True), link="softmax" if classes else "sigmoid", classes=classes, margin=True, reasons=reasons,
        contributions=True,
    )  # fmt: skip
    table = pa.Table.from_batches([batch(trees, 40, 3)])
    found = plain.outputs(shape, trees, cover_of(trees), table)
    names = [field for output in shape.outputs for field in [output.name] * output.width]
    of = {name: found[:, [n for n, other in enumerate(names) if other == name]] for name in names}
    chosen = of["class"][:, 0].astype(int) if classes else np.zeros(40, int)
    margin = np.column_stack([of[f"margin_{name}"] for name in classes] or [of["margin"]])[np.arange(40), chosen]
    np.testing.assert_allclose(of["contributions"].sum(1), margin, rtol=1e-9, atol=1e-9)
    given_ = np.column_stack([of[f"contribution_{n}"] for n in range(1, reasons + 1)])
    feature = np.column_stack([of[f"reason_{n}"] for n in range(1, reasons + 1)]).astype(int)
    largest = -np.sort(-np.abs(of["contributions"][:, :-1]), axis=1)[:, :reasons]
    np.testing.assert_array_equal(np.abs(given_[:, : largest.shape[1]]), largest)
    kept = min(reasons, FEATURES)
    np.testing.assert_array_equal(given_[:, :kept], np.take_along_axis(of["contributions"][:, :-1], feature[:, :kept], 1))


def cover_of(trees):
    """Each leaf was reached by some rows, and each node by those of both sides."""
    leaves = torch.randint(1, 50, (len(trees.leaves),), generator=torch.Generator().manual_seed(0)).double()
    nodes = torch.zeros(trees.feature.numel(), dtype=torch.float64)

    def weight(child):
        if child < 0:
            return float(leaves[~child])
        nodes[child] = weight(int(trees.left[child])) + weight(int(trees.right[child]))
        return float(nodes[child])

    for root in trees.roots.tolist():
        weight(root)
    return Cover(nodes, leaves)


def foreign(change):
    """A bundle whose file was altered."""
    torch.manual_seed(0)
    trees = drawn.trees(torch.Generator().manual_seed(1), 4, 3, FEATURES, outputs=2, categorical=True, leaf=torch.float64)
    shape, rows = shape_of(trees, True), batch(trees, 20, 1)
    table = pa.Table.from_batches([rows])
    folder = tempfile.mkdtemp()
    inputs = {field.name: Column(NAMES.get(str(field.type), str(field.type))) for field in rows.schema}
    expected = plain.outputs(shape, trees, None, table)
    write_forest(
        folder, name="f", version="1", inputs=inputs, shape=shape, trees=trees, cover=None, golden=table, expected=expected,
        source="drawn",
    )  # fmt: skip
    path = f"{folder}/weights.safetensors"
    held = load_file(path)
    change(held)
    save_file(held, path)
    return folder


CHANGES = {
    "a node has two parents": lambda held: held["left"].__setitem__(1, 0),  # a circle
    "a child is beyond": lambda held: held["right"].__setitem__(0, 10_000),
    "features beyond": lambda held: held["feature"].fill_(FEATURES),
    "splits it otherwise": lambda held: held["feature"].fill_(1),
    "must be finite": lambda held: held["leaves"].fill_(math.nan),
    "does not divide": lambda held: held["sets.starts"].__setitem__(0, 1),
    "output must hold": lambda held: held["output"].fill_(7),
    "threshold is NaN": lambda held: held["threshold"].fill_(math.nan),
    "golden scores": lambda held: held["leaves"].add_(1.0),
    "lacks": lambda held: held.pop("roots"),
}


@pytest.mark.parametrize("said", CHANGES)
def test_an_altered_bundle_is_refused(said):
    with pytest.raises(ModelError) as error:
        load(foreign(CHANGES[said]))
    assert said in str(error.value)


def test_a_set_of_no_categories_sends_every_code_right():
    """Also where it is the only question to its feature: a code is no rank."""
    one = {
        "feature": torch.tensor([0]),
        "threshold": torch.tensor([math.inf], dtype=torch.float64),
        "default_left": torch.tensor([True]),
    }
    ends = {"left": torch.tensor([-1]), "right": torch.tensor([-2]), "roots": torch.tensor([0]), "less_equal": False}
    leaves = {"leaves": torch.tensor([[1.0], [2.0]], dtype=torch.float64), "base": torch.tensor([0.0], dtype=torch.float64)}
    trees = drawn.Trees(**one, **ends, **leaves, output=None, sets={0: []})
    missing = np.iinfo(np.int16).min
    found = bits.Bits(trees, Ranking.of(trees, 1)).margins(np.array([[0, 1, 73, -5, missing]], np.int16))
    assert found.tolist() == [[2.0, 2.0, 2.0, 2.0, 1.0]]
