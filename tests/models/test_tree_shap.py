"""Contributions against all subsets of features by hand, against exact fractions, and against LightGBM and XGBoost."""

import math
from dataclasses import replace
from itertools import combinations

import lightgbm
import numpy as np
import pytest
import torch
import treelite
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.kernels import forest
from scoring.kernels.forest_parts import drawn
from scoring.kernels.forest_parts.trees import Ranking, Trees, pack
from scoring.models.forest_parts.cover import Cover
from scoring.models.forest_parts.tree_shap import Explainer

SPLITS, NUMERIC, CATEGORIES, LESS_THAN_OR_EQUAL = ("split_index", "threshold", "default_left"), 1, 2, 3


def covered(trees, leaves):
    """Covers of nodes as sums of `leaves`: children come after their nodes in no particular order."""
    nodes = [0.0] * trees.feature.numel()

    def weight(ref):
        if ref < 0:
            return leaves[~ref]
        nodes[ref] = weight(int(trees.left[ref])) + weight(int(trees.right[ref]))
        return nodes[ref]

    for root in trees.roots.tolist():
        weight(root)
    return Cover(torch.tensor(nodes, dtype=torch.float64), torch.tensor(leaves, dtype=torch.float64))


def values(rng, trees, features, rows, categorical):
    """Columns float64 [features, rows]: thresholds themselves, infinities, missing values, and categories of every kind."""
    pool = np.concatenate([trees.threshold.numpy(), [math.inf, -math.inf, math.nan, 0.0], rng.normal(size=20)])
    found = rng.choice(pool, size=(features, rows))
    if categorical:
        found[::3] = rng.choice([*range(-2, drawn.MOST_CATEGORIES + 5), 40_000, math.nan], size=found[::3].shape)
    return torch.tensor(found)


def goes_left(trees, node, value):
    if math.isnan(value):
        return bool(trees.default_left[node])
    if node in trees.sets:
        return int(value) in trees.sets[node]
    threshold = float(trees.threshold[node])
    return value <= threshold if trees.less_equal else value < threshold


def worth(trees, cover, ref, row, known):
    """The leaf's values to expect if features of `known` are: algorithm 1 of Lundberg et al. 2020."""
    if ref < 0:
        return trees.leaves[~ref].double().numpy()
    left, right, feature = int(trees.left[ref]), int(trees.right[ref]), int(trees.feature[ref])
    if feature in known:
        return worth(trees, cover, left if goes_left(trees, ref, row[feature]) else right, row, known)
    whole = float(cover.nodes[ref])
    parts = [float(cover.leaves[~child] if child < 0 else cover.nodes[child]) for child in (left, right)]
    shares = [part / whole for part in parts] if whole > 0 else [0.5, 0.5]
    return sum(share * worth(trees, cover, child, row, known) for share, child in zip(shares, (left, right), strict=True))


def by_subsets(trees, cover, row, features):
    """[features, margins] and [margins]: Shapley values by their definition, and what is expected if nothing is known."""

    def game(known):
        sums = trees.base.numpy().copy()
        for number, root in enumerate(trees.roots.tolist()):
            value, at = worth(trees, cover, root, row, known), 0 if trees.output is None else int(trees.output[number])
            sums[at : at + value.size] += value
        return sums

    table = {known: game(known) for size in range(features + 1) for known in combinations(range(features), size)}
    found = np.zeros((features, trees.base.numel()))
    for known, value in table.items():
        for other in set(range(features)) - set(known):
            weight = math.factorial(len(known)) * math.factorial(features - 1 - len(known)) / math.factorial(features)
            found[other] += weight * (table[tuple(sorted((*known, other)))] - value)
    return found, table[()]


@settings(max_examples=40)
@given(
    st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(1, 4), st.integers(1, 3), st.booleans(), st.booleans(),
    st.booleans(), st.sampled_from(["sums", "zeros", "apart"]),
)  # fmt: skip
def test_contributions_are_shapley_values_over_all_subsets(seed, depth, features, outputs, vectors, categorical, less_equal, kind):
    """Features come again and again on a path; covers of nodes may be 0, or not what their children make up."""
    rng, draw = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    trees = drawn.trees(draw, 3, depth, features, outputs, vectors, 0.8, categorical, less_equal=less_equal)
    cover = covered(trees, rng.integers(0 if kind == "zeros" else 1, 3, len(trees.leaves)).astype(float).tolist())
    if kind == "apart":
        cover = replace(cover, nodes=cover.nodes * torch.tensor(rng.uniform(0.5, 2.0, len(cover.nodes))))
    ranking, columns = Ranking.of(trees, features), values(rng, trees, features, 4, categorical)
    margin = rng.integers(0, outputs, 4)
    explainer = Explainer(trees, cover, ranking, features)
    found = explainer.contributions(ranking.ranks(columns).numpy(), margin)
    for row in range(4):
        want, expected = by_subsets(trees, cover, columns[:, row].tolist(), features)
        np.testing.assert_allclose(explainer.expected, expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found[row], want[:, margin[row]], rtol=1e-11, atol=1e-12)


def spine(features, shares):
    """One tree that asks every feature once and goes on to the left where x <= 0; its last leaf is 1, all others are 0."""
    places = torch.arange(features)
    trees = Trees(
        places, torch.zeros(features, dtype=torch.float64), torch.where(places + 1 < features, places + 1, ~places), ~(places + 1),
        places < 0, torch.tensor([0]), torch.zeros(features + 1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64), True,
    )  # fmt: skip
    trees.left[-1], trees.leaves[0] = ~0, 1.0
    cover = Cover(torch.cumprod(torch.tensor([1.0, *shares], dtype=torch.float64), 0), torch.zeros(features + 1).double())
    cover.leaves[0], cover.leaves[1:] = cover.nodes[-1], cover.nodes[:-1] - cover.nodes[1:]
    return trees, Cover(cover.nodes[:-1], cover.leaves)


@pytest.mark.parametrize("features", [1, 2, 3, 17, 64, 101])
def test_long_paths_lose_no_digits(features):
    """Against weights of subsets summed in integers; shares of training rows are multiples of 1 / 16."""
    rng = np.random.default_rng(features)
    shares, passes = rng.integers(1, 16, features), rng.random(features) < 0.7
    trees, cover = spine(features, (shares / 16).tolist())
    ranking = Ranking.of(trees, features)
    explainer = Explainer(trees, cover, ranking, features)
    columns = torch.tensor(np.where(passes, -1.0, 1.0))[:, None]
    found = explainer.contributions(ranking.ranks(columns).numpy(), None)[0]
    assert found.sum() + explainer.expected[0] == pytest.approx(float(passes.all()), abs=1e-15)
    for feature in {0, features // 2, features - 1}:
        sums = [1]  # by size of subset: the sum over subsets of the others, times 16^(features - 1)
        for share, passed in zip(np.delete(shares, feature).tolist(), np.delete(passes, feature).tolist(), strict=True):
            sums = [share * a + 16 * passed * b for a, b in zip([*sums, 0], [0, *sums], strict=True)]
        weights = [math.factorial(size) * math.factorial(features - 1 - size) for size in range(features)]
        total = sum(a * b for a, b in zip(sums, weights, strict=True)) * int(16 * passes[feature] - shares[feature])
        assert found[feature] == pytest.approx(total / (math.factorial(features) * 16**features), rel=1e-11, abs=0)


@pytest.mark.parametrize(
    "kind",
    [{"depth": 12, "bushy": 0.85}, {"depth": 6, "outputs": 3, "categorical": True}, {"depth": 5, "outputs": 3, "vectors": True}],
)
@pytest.mark.parametrize("consistent", [True, False])
def test_contributions_and_the_expected_margin_sum_to_the_margin(kind, consistent):
    draw, rng = torch.Generator().manual_seed(5), np.random.default_rng(5)
    trees = drawn.trees(draw, 40, features=9, **kind)
    cover = covered(trees, rng.integers(1, 50, len(trees.leaves)).astype(float).tolist())
    if not consistent:
        cover = replace(cover, nodes=cover.nodes * torch.tensor(rng.uniform(0.9, 1.1, len(cover.nodes))))
    ranking, columns = Ranking.of(trees, 9), values(rng, trees, 9, 300, kind.get("categorical", False))
    ranks, margin = ranking.ranks(columns), rng.integers(0, kind.get("outputs", 1), 300)
    explainer = Explainer(trees, cover, ranking, 9)
    margins = forest.reference(columns=ranks, **pack(trees, ranking).arguments(), dtype=torch.float64).numpy()
    sums = explainer.contributions(ranks.numpy(), margin).sum(1) + explainer.expected[margin]
    np.testing.assert_allclose(sums, margins[np.arange(300), margin], rtol=1e-9, atol=1e-11)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(1, 700), st.booleans(), st.integers(2, 5))
def test_bits_of_a_row_depend_on_no_other_row_and_not_on_threads_or_the_width_of_ranks(seed, rows, categorical, threads):
    rng, draw, before = np.random.default_rng(seed), torch.Generator().manual_seed(seed), torch.get_num_threads()
    trees = drawn.trees(draw, 7, 6, 5, 2, categorical=categorical)
    cover = covered(trees, rng.integers(1, 9, len(trees.leaves)).astype(float).tolist())
    ranking = Ranking.of(trees, 5)
    explainer = Explainer(trees, cover, ranking, 5)
    columns, margin = values(rng, trees, 5, rows, categorical), rng.integers(0, 2, rows)
    ranks = ranking.ranks(columns).numpy()
    try:
        torch.set_num_threads(1)
        whole = explainer.contributions(ranks, margin).view(np.int64)
        torch.set_num_threads(threads)
        assert np.array_equal(explainer.contributions(ranks, margin).view(np.int64), whole)
    finally:
        torch.set_num_threads(before)
    wide = replace(ranking, dtype=torch.int32).ranks(columns).numpy()
    assert np.array_equal(explainer.contributions(wide, margin).view(np.int64), whole)
    order = rng.permutation(rows)
    assert np.array_equal(explainer.contributions(ranks[:, order], margin[order]).view(np.int64), whole[order])
    for some in (order[:1], order[: rows // 2], np.sort(order[: rows // 3])):
        assert np.array_equal(explainer.contributions(ranks[:, some], margin[some]).view(np.int64), whole[some])


def converted(model, covers):
    """Trees and Cover of a treelite model; `covers`: the field that holds them."""
    header, nodes, refs, leaves, come, sets, kinds = model.get_header_accessor(), [], [], [], [], {}, set()
    for tree in range(int(header.get_field("num_tree")[0])):
        accessor = model.get_tree_accessor(tree)
        field = {
            name: np.array(accessor.get_field(name)).tolist()
            for name in ("cleft", "cright", "node_type", "cmp", "leaf_value", "category_list", "category_list_begin",
                         "category_list_end", "category_list_right_child", covers, *SPLITS)
        }  # fmt: skip
        ref, inner = {}, len(nodes)
        for node, child in enumerate(field["cleft"]):
            ref[node] = ~len(leaves) if child < 0 else inner
            if child < 0:
                leaves.append([field["leaf_value"][node]])
                come.append(float((field[covers] or [1.0])[node]))
            inner += child >= 0
        for node in (node for node in ref if ref[node] >= 0):
            flipped = bool(field["node_type"][node] == CATEGORIES and field["category_list_right_child"][node])
            sides = ref[field["cleft"][node]], ref[field["cright"][node]]
            feature, threshold, default = (field[name][node] for name in SPLITS)
            nodes.append((feature, threshold, *(sides[::-1] if flipped else sides), default != flipped, field[covers][node]))
            if field["node_type"][node] == CATEGORIES:
                held = slice(field["category_list_begin"][node], field["category_list_end"][node])
                sets[ref[node]] = field["category_list"][held]
        kinds |= {cmp for cmp, kind in zip(field["cmp"], field["node_type"], strict=True) if kind == NUMERIC}
        refs.append(ref[0])
    feature, threshold, left, right, default, cover = (np.array(part) for part in zip(*nodes, strict=True))
    base = torch.tensor(np.array(header.get_field("base_scores"), np.float64))
    output = torch.tensor(np.array(header.get_field("class_id"), np.int64)) if base.numel() > 1 else None
    assert len(kinds) == 1
    trees = Trees(
        *map(torch.tensor, (feature, threshold.astype(np.float64), left, right, default.astype(bool), refs)),
        torch.tensor(leaves, dtype=torch.float64), base, kinds == {LESS_THAN_OR_EQUAL}, output, sets,
    )  # fmt: skip
    return trees, Cover(torch.tensor(cover.astype(np.float64)), torch.tensor(come))


def data(classes):
    """float32 rows with missing values, values that are equal, and a column of categories; labels."""
    rng = np.random.default_rng(classes)
    rows = rng.normal(size=(3000, 7)).astype(np.float32)
    rows[:, 2] = rows[:, 2].round(1)
    rows[:, 6] = rng.integers(0, 40, 3000)
    signal = rows[:, 0] * rows[:, 1] + np.sin(3 * rows[:, 2]) + (rows[:, 6] % 3 - 1) + rng.normal(size=3000) / 3
    rows[rng.random(rows.shape) < 0.1] = np.nan
    return rows, np.digitize(signal, np.linspace(-0.7, 0.7, classes + 1)[1:-1])


def agrees(trees, cover, rows, theirs, within):
    """`theirs` [rows, margins, features + 1]; a row's contributions are asked for one margin after the other."""
    features = rows.shape[1]
    ranking = Ranking.of(trees, features)
    explainer = Explainer(trees, cover, ranking, features)
    ranks, scale = ranking.ranks(torch.tensor(rows.T.copy())).numpy(), np.abs(theirs[..., :-1]).max()
    for shift in range(theirs.shape[1]):
        margin = (np.arange(len(rows)) + shift) % theirs.shape[1]
        want = theirs[np.arange(len(rows)), margin]
        found = explainer.contributions(ranks, margin)
        assert np.abs(found - want[:, :-1]).max() <= within * scale
        assert np.abs(explainer.expected[margin] - want[:, -1]).max() <= within * scale


@pytest.mark.parametrize("classes", [2, 3])
def test_contributions_are_those_of_lightgbm(classes):
    rows, labels = data(classes)
    goal = {"objective": "binary"} if classes == 2 else {"objective": "multiclass", "num_class": classes}
    settings = {**goal, "num_leaves": 24, "verbose": -1, "num_threads": 1, "seed": 1, "bagging_fraction": 0.7, "bagging_freq": 1}
    booster = lightgbm.train(settings, lightgbm.Dataset(rows, labels, categorical_feature=[6]), 25)
    odd = rows[:200].copy()
    odd[:40, 6] = np.tile([-3, 41, 1000, np.nan], 10)
    theirs = booster.predict(odd.astype(np.float64), pred_contrib=True).reshape(200, -1, 8)
    trees, cover = converted(treelite.frontend.from_lightgbm(booster), "data_count")
    assert trees.sets
    agrees(trees, cover, odd, theirs, 1e-12)


@pytest.mark.parametrize("classes", [2, 3])
def test_contributions_are_those_of_xgboost(classes):
    rows, labels = data(classes)
    goal = {"objective": "binary:logistic"} if classes == 2 else {"objective": "multi:softprob", "num_class": classes}
    settings = {**goal, "max_depth": 6, "nthread": 1, "seed": 1, "subsample": 0.7, "max_cat_to_onehot": 4}
    kinds = ["float"] * 6 + ["c"]

    def matrix(given, labels=None):
        return xgboost.DMatrix(given, labels, feature_types=kinds, enable_categorical=True)

    booster = xgboost.train(settings, matrix(rows, labels), 20)
    odd = rows[:200].copy()
    odd[:40, 6] = np.tile([39, 0, 7, np.nan], 10)
    theirs = booster.predict(matrix(odd), pred_contribs=True).astype(np.float64).reshape(200, -1, 8)
    trees, cover = converted(treelite.frontend.from_xgboost(booster), "sum_hess")
    assert trees.sets
    agrees(trees, cover, odd, theirs, 1e-6)  # theirs are sums of float32


def test_forests_without_rows_nodes_or_trees():
    draw = torch.Generator().manual_seed(0)
    trees = drawn.trees(draw, 4, 0, 3)
    explainer = Explainer(trees, covered(trees, [0.0] * 4), Ranking.of(trees, 3), 3)
    assert explainer.expected[0] == pytest.approx(float(trees.base + trees.leaves.double().sum()))
    assert explainer.contributions(np.zeros((3, 5), np.int16), None).tolist() == [[0.0] * 3] * 5
    assert explainer.contributions(np.zeros((3, 0), np.int32), np.zeros(0, np.int64)).shape == (0, 3)
    none = replace(trees, roots=trees.roots[:0], leaves=trees.leaves[:0])
    explainer = Explainer(none, covered(none, []), Ranking.of(none, 3), 3)
    assert explainer.contributions(np.zeros((3, 1), np.int16), None).tolist() == [[0.0] * 3]
    assert explainer.expected.tolist() == trees.base.tolist()


def test_what_does_not_fit_is_refused():
    draw = torch.Generator().manual_seed(0)
    trees = drawn.trees(draw, 2, 3, 4, 2)
    ranking, cover = Ranking.of(trees, 4), covered(trees, [1.0] * len(trees.leaves))
    for wrong in (
        replace(cover, nodes=cover.nodes[:-1]), replace(cover, leaves=-cover.leaves), replace(cover, nodes=cover.nodes * math.nan),
        replace(cover, leaves=cover.leaves[:, None]), replace(cover, nodes=cover.nodes * math.inf),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="covers must be one finite number"):
            Explainer(trees, wrong, ranking, 4)
    with pytest.raises(ValueError, match="runs in a circle"):
        Explainer(replace(trees, left=trees.left * 0), cover, ranking, 4)
    explainer, ranks = Explainer(trees, cover, ranking, 4), np.zeros((4, 3), np.int16)
    for wrong, margin, message in (
        (ranks[:3], np.zeros(3, int), "ranks must be"), (ranks.astype(np.int64), np.zeros(3, int), "ranks must be"),
        (ranks, None, "one of 2 margins"), (ranks, np.zeros(2, int), "one of 2 margins"),
        (ranks, np.array([0, 2, 0]), "margins must be 0 to 1"), (ranks, np.array([0, -1, 0]), "margins must be 0 to 1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            explainer.contributions(wrong, margin)
