"""The demo of forests, small: trained by LightGBM, imported, watched, scored; explanations add up to the margins they explain."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import scoring
from scoring.__main__ import kept
from scoring.jobs import baseline, demo, import_forest
from scoring.jobs.arguments import Given
from scoring.jobs.replay import replay
from scoring.models.load import load
from scoring.sinks.reader import read_scores

pytest.importorskip("lightgbm")
pytest.importorskip("pandas")
pytest.importorskip("treelite")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import demo_forest

ROWS, REASONS = 12_000, 3


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Data, bundle and the account of its import."""
    folder = tmp_path_factory.mktemp("demo-forest")
    demo.make(folder, ROWS)
    table = demo.training_table(5_000, 0)
    pq.write_table(table, folder / "december.parquet")
    demo_forest.train(table, folder / "model.txt", trees=20)
    words = {"path": folder / "model.txt", "out": folder / "forest", "sample": folder / "december.parquet"}
    given = {name: str(path) for name, path in words.items()}
    given |= {"explain": str(REASONS), "contributions": "true", "margin": "true"}
    written, _ = import_forest.command(Given("models import-forest", given, frozenset()))
    given = {"PATH": str(folder / "december.parquet"), "bundle": str(folder / "forest")}
    baseline.command(Given("baseline", given, frozenset()))
    return folder, written


@pytest.fixture(scope="module")
def ran(made, tmp_path_factory):
    folder, workspace = made[0], tmp_path_factory.mktemp("workspace")
    paths = [f"source.path={folder}/data/transactions", f"model.bundle={folder}/forest", f"workspace={workspace}"]
    return scoring.run(["job=demo-forest", *paths, "engine=inline"]), workspace


def test_texts_and_types_come_through_the_import(made):
    folder, written = made
    assert (written.agreed > 5_000, written.difference <= 1e-6) == (True, True)
    inputs = load(folder / "forest").inputs
    found = {name: inputs[name].dtype for name in inputs}
    numbers = {"amount": "float64", "hour": "int32"}
    numbers |= dict.fromkeys(("merchant_risk", "distance_km", "minutes_since_last"), "float32")
    assert found == numbers | dict.fromkeys(demo.CATEGORIES, "string")


def test_every_row_of_thirty_days_is_accounted_for(made, ran):
    """The same truth as the demo's own model is held to."""
    record, workspace = ran
    truth = json.loads((made[0] / "data" / "truth.json").read_text())
    days = {part.key.removeprefix("date="): part for part in record.partitions}
    assert record.status == "published-with-warnings"
    assert days.keys() == truth.keys()
    for day, wanted in truth.items():
        assert days[day].rows["scored"] == wanted["rows"] - wanted["rows_at_fault"], day
        found: Counter[str] = Counter()
        for file in (workspace / "quarantine" / f"date={day}").rglob("*.parquet"):
            rows = pq.read_table(file, partitioning=None).select(["_row", "_reasons"]).to_pylist()
            found.update(reason for row in rows if row["_row"] is not None for reason in row["_reasons"])
        assert found == wanted["reasons"], day


def test_the_drift_of_day_21_is_seen(ran):
    named = " ".join(str(part) for part in ran[0].partitions if part.key >= f"date=2026-01-{demo.SHIFT_DAY}")
    assert "drift" in named
    assert "amount" in named


def test_explanations_add_up(made, ran):
    """Contributions of all features and what is expected are the margin; reasons are the largest of them, by name."""
    found = read_scores(str(ran[1])).collect()
    margin, score = found["margin"].to_numpy(), found["score"].to_numpy()
    everything = np.stack(found["contributions"].to_list()).astype(np.float64)
    assert np.abs(everything.sum(1) - margin).max() <= 1e-6 * max(1.0, np.abs(margin).max())
    assert np.abs(1 / (1 + np.exp(-margin.astype(np.float64))) - score).max() <= 1e-6
    names, parts = list(load(made[0] / "forest").inputs), everything[:, :-1]
    largest = np.argsort(-np.abs(parts), axis=1, kind="stable")[:, :REASONS]
    told = np.stack([found[f"contribution_{n + 1}"].to_numpy() for n in range(REASONS)], 1)
    assert (np.abs(told).sum(1) <= np.abs(parts).sum(1) + 1e-6).all()
    assert np.array_equal(told, np.take_along_axis(parts, largest, 1).astype(np.float32))
    for n in range(REASONS):
        own = found[f"reason_{n + 1}"].to_list()
        alone = np.array([parts[row, names.index(name)] for row, name in enumerate(own)])
        assert np.array_equal(alone.astype(np.float32), told[:, n]), n


def test_scores_reasons_and_contributions_come_out_again(ran):
    record, workspace = ran
    found = replay(str(workspace), record.run_id, kept, sample=2_000)
    assert (found.status, found.rows.bit_equal, found.skipped) == ("reproduced", 2_000, ())
    assert {"score", "contributions"} <= {one.name for one in found.outputs}
    assert any(one.name.startswith("reason") for one in found.outputs)
