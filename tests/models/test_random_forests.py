"""Forests that libraries grew at random: library, plain meaning, torch, kernel and both ways of a CPU give the same."""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring import ops
from scoring.kernels.forest_parts.trees import Ranking, pack
from scoring.kernels.frame import operator
from scoring.models.foreign_trees import rows
from scoring.models.foreign_trees.agree import check_library
from scoring.models.foreign_trees.read import Asked, read_forest
from scoring.models.forest_parts import bits, plain, walk
from scoring.models.forest_parts.ranks import Ranker

lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")
skops = pytest.importorskip("skops.io")
pytest.importorskip("treelite")
threadpoolctl = pytest.importorskip("threadpoolctl")
FEATURES = 4  # the first may be categorical
MOST = {1: 2000, 2: 400, 4: 60, 8: 12, 16: 4}  # trees of a depth


@st.composite
def grown(draw):
    """A library, and how it is to grow: depth 1 to 16, 1 to 2,000 trees."""
    depth = draw(st.sampled_from(sorted(MOST)))
    return {
        "library": draw(st.sampled_from(["lightgbm", "xgboost", "sklearn"])),
        "depth": depth,
        "trees": draw(st.integers(1, MOST[depth])),
        "classes": draw(st.sampled_from([0, 2, 3])),
        "categorical": draw(st.booleans()),
        "seed": draw(st.integers(0, 99)),
    }


def trained(how, folder):
    """The path of the saved model; labels are noise, so that trees are as random as their data."""
    rng = np.random.default_rng(how["seed"])
    x = np.round(rng.standard_normal((200, FEATURES)), int(rng.integers(1, 9)))
    x[rng.random(x.shape) < 0.1] = np.nan
    if how["categorical"]:
        x[:, 0] = rng.integers(0, 50, 200)
    y = rng.standard_normal(200) if how["classes"] == 0 else rng.integers(0, how["classes"], 200)
    with warnings.catch_warnings(), threadpoolctl.threadpool_limits(1):
        warnings.simplefilter("ignore")
        return {"lightgbm": _lightgbm, "xgboost": _xgboost, "sklearn": _sklearn}[how["library"]](how, x, y, folder)


def _lightgbm(how, x, y, folder):
    kind = {0: {"objective": "regression"}, 2: {"objective": "binary"}, 3: {"objective": "multiclass", "num_class": 3}}
    how_much = {
        "max_depth": how["depth"],
        "num_leaves": min(2 ** how["depth"], 100),
        "min_data_in_leaf": 1,
        "min_data_per_group": 1,
    }
    data = lightgbm.Dataset(x, y, categorical_feature=[0] if how["categorical"] else "auto")
    model = lightgbm.train(
        {**kind[how["classes"]], **how_much, "verbose": -1}, data, -(-how["trees"] // max(how["classes"] - 1, 1))
    )
    model.save_model(folder / "model.txt")
    return folder / "model.txt"


def _xgboost(how, x, y, folder):
    kind = {
        0: {"objective": "reg:squarederror"},
        2: {"objective": "binary:logistic"},
        3: {"objective": "multi:softprob", "num_class": 3},
    }
    types = ["c" if how["categorical"] and n == 0 else "float" for n in range(FEATURES)]
    data = xgboost.DMatrix(x, y, feature_types=types, enable_categorical=True)
    grow = {"max_depth": how["depth"], "min_child_weight": 0, "max_cat_to_onehot": 1 + how["seed"] % 60}
    model = xgboost.train({**kind[how["classes"]], **grow}, data, -(-how["trees"] // max(how["classes"] - 1, 1)))
    model.save_model(folder / "model.json")
    return folder / "model.json"


def _sklearn(how, x, y, folder):
    from sklearn import ensemble

    kind = ensemble.RandomForestRegressor if how["classes"] == 0 else ensemble.ExtraTreesClassifier
    model = kind(min(how["trees"], 60), max_depth=how["depth"], random_state=how["seed"]).fit(x, y)
    skops.dump(model, folder / "model.skops")
    return folder / "model.skops"


def asked_rows(found, count):
    """Rows drawn from the thresholds, and some whose numbers are infinite."""
    table = rows.drawn(found.shape, found.trees, found.inputs)
    ends = {}
    for name, column in found.inputs.items():
        whole = not column.dtype.startswith("float")
        ends[name] = pa.array([0, 1] if whole else [np.inf, -np.inf], pa.type_for_alias(column.dtype))
    return pa.concat_tables([pa.table(ends, schema=table.schema), table]).slice(0, count).combine_chunks()


@settings(max_examples=40, deadline=None)
@given(grown(), st.sampled_from([0, 1, 150]))
def test_all_ways_give_what_the_library_gives(how, count):
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings(), threadpoolctl.threadpool_limits(1):
        warnings.simplefilter("ignore")
        path = str(trained(how, Path(name)))
        found = read_forest(path, Asked())
        table = asked_rows(found, count)
        asked = table if how["library"] == "lightgbm" else table.slice(2)  # the others raise for infinity
        if asked.num_rows:
            assert check_library(path, found, asked).compared
    wanted = plain.margins(found.shape, found.trees, table)
    ranking = Ranking.of(found.trees, len(found.shape.features))
    batches = table.to_batches()
    ranks = Ranker(found.shape, ranking).ranks(batches[0] if batches else pa.RecordBatch.from_pylist([], table.schema)).columns
    ragged, packed = pack(found.trees, ranking, perfect=False), pack(found.trees, ranking)
    ways = {"walk": walk.Walk(ragged).margins(ranks.numpy()).T, "bits": bits.Bits(found.trees, ranking).margins(ranks.numpy()).T}
    ways["torch"] = ops.forest()(ranks, **packed.arguments(), dtype=torch.float64).numpy()
    if packed.starts[-1] <= 40:  # in the interpreter a tree takes milliseconds
        operator.force("triton")
        try:
            ways["kernel"] = ops.forest()(ranks, **packed.arguments(), dtype=torch.float64).numpy()
        finally:
            operator.force(None)
    for way, sums in ways.items():
        np.testing.assert_array_equal(sums, wanted, err_msg=way)
