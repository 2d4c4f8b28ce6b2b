"""Training for tests and the demo: bundles that load, learn, and know what they have not seen."""

import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from scoring.models.load import load
from scoring.models.net import Architecture
from scoring.models.train import Recipe, Target, fit

ADULT = Path(__file__).parents[3] / "shared" / "data" / "tabular" / "adult"
SHAPES = [Architecture("mlp", (16,)), Architecture("dcn-v2", (16,), cross_layers=2), Architecture("dlrm", (16,), bottom=(8,))]


def made_up(count=4000):
    rng = np.random.default_rng(0)
    x, place = rng.normal(10, 3, count).astype(np.float32), rng.integers(0, 3, count)
    y = (x - 10) / 3 + place - 1 + rng.normal(0, 0.3, count)
    return pa.table(
        {
            "x": pa.array(x, mask=rng.random(count) < 0.05),
            "n": pa.array(rng.integers(0, 100, count).astype(np.int32)),
            "place": pa.array(np.array(["a", "b", "c"], object)[place], pa.string(), mask=rng.random(count) < 0.05),
            "code": pa.array(place * 100),
            "amount": pa.array(1000 + 50 * y),
            "big": pa.array(y > 0),
            "band": pa.array(np.digitize(y, [-1, 1])),
        }
    )


TARGETS = {"amount": Target("amount", "regression"), "big": Target("big"), "band": Target("band", "multiclass")}


@pytest.mark.parametrize("architecture", SHAPES, ids=lambda a: a.kind)
def test_several_heads_are_learnt_at_once(tmp_path, architecture):
    table = made_up()
    recipe = Recipe(architecture, epochs=12, batch_rows=128, rate=1e-2)
    fit(table, tmp_path / "b", numeric=["x", "n"], categorical=["place", "code"], targets=TARGETS, recipe=recipe)
    scores = load(tmp_path / "b").score(table)
    assert scores.column_names == ["amount", "big", "band_0", "band_1", "band_2"]
    assert np.corrcoef(scores.column("amount"), table.column("amount"))[0, 1] > 0.9
    assert np.mean(scores.column("amount")) == pytest.approx(1000, abs=15)
    assert auc(scores.column("big").to_numpy(), table.column("big").to_numpy()) > 0.95
    bands = np.stack([scores.column(f"band_{k}").to_numpy() for k in range(3)], 1)
    assert (bands.argmax(1) == table.column("band").to_numpy()).mean() > 0.75


def test_the_same_seed_gives_the_same_bundle(tmp_path):
    for name in "ab":
        recipe = Recipe(epochs=1, seed=7)
        fit(made_up(500), tmp_path / name, numeric=["x"], categorical=["place"], targets={"big": Target("big")}, recipe=recipe)
    assert load(tmp_path / "a").digest == load(tmp_path / "b").digest


def test_golden_rows_hold_nulls_and_unknown_categories(tmp_path):
    fit(made_up(500), tmp_path / "b", numeric=["x"], categorical=["place", "code"], targets={"big": Target("big")})
    golden = pq.read_table(tmp_path / "b" / "golden.parquet")
    assert any(all(row[c] is None for c in ("x", "place", "code")) for row in golden.to_pylist())
    assert not set(golden.column("place").to_pylist()) <= {"a", "b", "c", None}


def auc(scores, truth):
    """Area under the ROC curve: the share of pairs ranked rightly (Mann-Whitney U)."""
    order = np.argsort(scores, kind="stable")
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    yes = truth.sum()
    return (ranks[truth].sum() - yes * (yes + 1) / 2) / (yes * (len(truth) - yes))


NUMERIC = ["age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours"]
CATEGORICAL = ["workclass", "education", "marital", "occupation", "relationship", "race", "sex", "country"]
HEADER = ["age", "workclass", "fnlwgt", "education", "education_num", "marital", "occupation", "relationship", "race", "sex"]
HEADER += ["capital_gain", "capital_loss", "hours", "country", "income"]


def adult(name):
    text = gzip.decompress((ADULT / name).read_bytes()).replace(b", ", b",")
    table = pyarrow.csv.read_csv(
        pa.py_buffer(text),
        read_options=pyarrow.csv.ReadOptions(column_names=HEADER),
        convert_options=pyarrow.csv.ConvertOptions(null_values=["?"], strings_can_be_null=True),
    )
    return table.append_column("rich", pc.starts_with(table.column("income"), ">50K"))


@pytest.mark.skipif(not ADULT.exists(), reason="the UCI Adult data are not beside this checkout")
def test_uci_adult_is_learnt_in_seconds(tmp_path):
    fit(adult("adult-train.csv.gz"), tmp_path / "b", numeric=NUMERIC, categorical=CATEGORICAL, targets={"rich": Target("rich")})
    table = adult("adult-test.csv.gz")
    scores = load(tmp_path / "b").score(table).column("score").to_numpy()
    truth = table.column("rich").to_numpy()
    assert auc(scores, truth) > 0.90
    bands = np.array_split(np.argsort(scores), 10)
    assert max(abs(scores[b].mean() - truth[b].mean()) for b in bands) < 0.08  # calibrated: deciles say what happens
