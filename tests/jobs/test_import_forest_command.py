"""The command `models import-forest`: one bundle that scores as the library does, the same however often; and how it refuses."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from scoring.errors import ScoringError
from scoring.jobs import import_forest
from scoring.jobs.arguments import words
from scoring.models.golden import score_table
from scoring.models.load import load

lightgbm = pytest.importorskip("lightgbm")
pytest.importorskip("treelite")
pytest.importorskip("numba")

NAMES = ["age", "income", "tenure"]
RANDOM = np.random.default_rng(1)
X = RANDOM.standard_normal((300, 3))
X[RANDOM.random(X.shape) < 0.1] = np.nan
KIND = np.digitize(np.nan_to_num(X).sum(1), [-0.5, 0.5])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A file of three classes, its booster, and a sample with what it predicts."""
    folder = tmp_path_factory.mktemp("trained")
    params = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1, "num_leaves": 8}
    booster = lightgbm.train(params, lightgbm.Dataset(X, KIND, feature_name=NAMES), 5)
    booster.save_model(folder / "model.txt")
    found = booster.predict(X)
    sample = pa.table({name: pa.array(X[:, place], from_pandas=True) for place, name in enumerate(NAMES)})
    sample = sample.append_column("probabilities", pa.array(found.tolist())).append_column("kind", pa.array(found.argmax(1)))
    sample = sample.append_column("wrong", pa.array((found.argmax(1) + 1) % 3))
    pq.write_table(sample, folder / "sample.parquet")
    pyarrow.csv.write_csv(sample.drop_columns(["probabilities"]), folder / "sample.csv")
    return folder, found


def imported(*given):
    found, code = import_forest.command(words("models import-forest", [*map(str, given)]))
    assert code == 0
    return found


def test_a_bundle_scores_as_its_library(trained, tmp_path):
    folder, theirs = trained
    written = imported(
        folder / "model.txt",
        f"out={tmp_path / 'bundle'}",
        f"sample={folder / 'sample.parquet'}",
        "expected=probabilities",
        "margin=true",
    )
    assert asdict(written) | {"digest": "", "difference": 0.0, "out": ""} == {
        "out": "", "name": "model", "version": "1", "digest": "", "source": "lightgbm v4, multiclass", "inputs": NAMES,
        "outputs": [*(f"probability_{n}" for n in range(3)), "class", *(f"margin_{n}" for n in range(3))],
        "trees": 15, "nodes": written.nodes, "leaves": written.nodes + 15, "agreed": 492, "difference": 0.0, "notes": [],
    }  # fmt: skip
    assert written.difference < 1e-9
    said = import_forest.render(written)
    assert "the library agrees on 492 rows" in said
    assert written.digest in said
    table = score_table(load(tmp_path / "bundle"), pq.read_table(folder / "sample.parquet").select(NAMES))
    ours = np.column_stack([table.column(f"probability_{n}").to_numpy() for n in range(3)])
    assert np.abs(ours - theirs).max() < 1e-6
    assert [int(one) for one in table.column("class").to_pylist()] == theirs.argmax(1).tolist()


def test_reasons_and_names_of_classes(trained, tmp_path):
    folder, _ = trained
    written = imported(
        folder / "model.txt", f"out={tmp_path / 'bundle'}", "explain=2", "contributions=true", "classes=low, mid,high"
    )
    assert written.outputs == [
        "probability_low", "probability_mid", "probability_high", "class",
        "reason_1", "contribution_1", "reason_2", "contribution_2", "contributions",
    ]  # fmt: skip
    table = score_table(load(tmp_path / "bundle"), pq.read_table(folder / "sample.parquet").select(NAMES))
    assert set(table.column("reason_1").to_pylist()) <= set(NAMES)


def test_the_same_however_often(trained, tmp_path):
    folder, _ = trained
    given = (f"sample={folder / 'sample.csv'}", "expected=kind")
    one, two = (imported(folder / "model.txt", f"out={tmp_path / name}", *given) for name in ("one", "two"))
    assert one.digest == two.digest


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (["out={out}", "margin=maybe"], 78, "margin=maybe"),
        (["out={out}", "explain=33"], 78, "0 to 32"),
        (["out={out}", "explain=many"], 64, "whole number"),
        (["out={out}", "classes=a,b"], 78, "names 2, but .* has 3 classes"),
        (["out={out}", "expected=kind"], 78, "sample=…"),
        (["out={out}", "sample={folder}/none.parquet"], 78, "cannot be read"),
        (["out={out}", "sample={folder}/model.txt"], 78, "cannot be read as Parquet"),
        (["out={out}", "sample={folder}/sample.parquet", "expected=other"], 78, "expected=other is no column"),
        (
            ["out={out}", "sample={folder}/sample.parquet", "expected=wrong"],
            78,
            "was not understood: the predictions of expected=wrong",
        ),
        (["out={folder}"], 78, "there already"),
        ([], 64, "needs out=…"),
    ],
)
def test_refusals_leave_nothing_behind(given, code, said, trained, tmp_path):
    folder, out = trained[0], tmp_path / "bundle"
    with pytest.raises(ScoringError, match=said) as found:
        imported(folder / "model.txt", *(word.format(out=out, folder=folder) for word in given))
    assert (found.value.exit_code, len(str(found.value).splitlines())) == (code, 1)
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.pkl", b"\x80\x04abc", "pickle"),
        ("a.bin", b"\x80\x05\x95abc", "pickle"),
        ("a.joblib", b"x\x9c", "pickle"),
        ("a.json", b"{}", "no model of XGBoost"),
        ("a.json", b'[{"nodeid": 0}]', "dump_model"),
        ("a.txt", b"tree\n", "no trees"),
        ("a.onnx", b"\x08\x03\x12", "ONNX"),
        ("a.skops", b"PK\x03\x04", "damaged archive"),
        ("a.bin", b"", "no format that is known"),
        ("a.txt", b"hello", "no format that is known"),
    ],
)
def test_what_is_no_forest_is_named(name, data, said, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ScoringError, match=said):
        imported(tmp_path / name, f"out={tmp_path / 'bundle'}")


def test_the_command_says_json_and_nothing_else(trained, tmp_path):
    known = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")} | {"PYTHONPATH": str(Path(__file__).parents[2])}
    words_of = ["models", "import-forest", str(trained[0] / "model.txt"), f"out={tmp_path / 'bundle'}", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "scoring", *words_of], env=known, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["trees"] == 15
