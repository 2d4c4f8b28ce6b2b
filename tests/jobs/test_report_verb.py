"""The report of real runs: its numbers are the record's, it can be made again to the byte, and it tells nobody's data."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import people
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from scoring.errors import ConfigError, StoreError
from scoring.jobs import baseline
from scoring.jobs.arguments import words
from scoring.jobs.report import command, render, write_report
from scoring.jobs.run import run
from scoring.jobs.run_facts import gather
from scoring.models.train import Recipe, Target, fit
from scoring.settings import Job, build
from scoring.stores import open_store
from scoring.types import RunRecord

CANARIES = ("canary", "Canary", "O'Bird", "O&#39;Bird", people.KEY)


def table(rows: int, seed: int, shift: float = 0.0) -> pa.Table:
    """Numbers with nulls, a category, and a tenth of the amounts out of range."""
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1.0, rows).astype(np.float32)
    kind = rng.choice(["a", "b", "<i>c</i>"], rows, p=[0.6, 0.3, 0.1])
    amount = np.where(rng.random(rows) < 0.1, -7.0, rng.gamma(2.0, 40.0, rows))
    return pa.table({"x": pa.array(x, mask=rng.random(rows) < 0.1), "kind": kind, "amount": amount, "y": x > 0.3})


def write(folder: Path, day: int, rows: pa.Table) -> None:
    place = folder / f"date=2026-01-{day:02d}"
    place.mkdir(parents=True)
    pq.write_table(rows, place / "f.parquet")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    training = table(4_000, 1)
    given = {"numeric": ["x", "amount"], "categorical": ["kind"], "targets": {"score": Target("y")}}
    fit(training, folder / "bundle", recipe=Recipe(epochs=1, batch_rows=512), **given)
    write(folder / "training", 1, training)
    baseline.command(words("baseline", [str(folder / "training"), f"bundle={folder / 'bundle'}"]))
    for day, shift in enumerate((0.0, 0.0, 0.8), 1):
        write(folder / "days", day, table(1_000, day, shift))
    (folder / "days" / "date=2026-01-01" / "cut.parquet").write_bytes(b"PAR1 and no more")
    return folder


def settings(place: Path, workspace: Path, **more: object) -> dict[str, object]:
    return {
        "workspace": str(workspace),
        "source": {"kind": "parquet", "path": str(place / "days")},
        "model": {"bundle": str(place / "bundle")},
        "engine": {"kind": "inline"},
        "hardware": {"device": "cpu", "memory_per_lane_gb": 0.3, "price_per_hour": 2.0},
        "contract": {"columns": {"amount": {"dtype": "float64", "min": 0}}},
        "release": {"max_bad_share": 0.5},
        "run_id": "one",
    } | more


def score(given: dict[str, object]) -> RunRecord:
    return run(build(Job, given), yaml.safe_dump(given), people.Quiet())


@pytest.fixture(scope="module")
def scored(place, tmp_path_factory) -> tuple[Path, RunRecord]:
    workspace = tmp_path_factory.mktemp("workspace") / "w"
    return workspace, score(settings(place, workspace))


@pytest.fixture
def mine(scored, tmp_path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(scored[0], tmp_path / "w")
    return tmp_path / "w"


def text_of(workspace: Path, run_id: str = "one") -> str:
    return (workspace / "runs" / run_id / "report.html").read_text("utf-8")


def test_its_numbers_are_those_of_the_record(scored, mine):
    record = scored[1]
    write_report(str(mine), "one")
    text = unescape(text_of(mine))
    for number in (*record.rows.values(), *(p.rows["in"] for p in record.partitions), *record.reasons.values()):
        assert f"{number:,}" in text
    assert all(p.key in text for p in record.partitions)
    assert record.environment["torch"] in text
    facts = gather(open_store(str(mine)), "one")
    assert replace(facts.record, run_id="") == replace(record, run_id="")
    (found,) = facts.scores
    assert found.rows == record.rows["scored"]
    assert sum(found.picture.now) == record.rows["scored"]
    assert facts.price == 2.0
    assert "Cost per million rows" in text


def test_drift_is_drawn_from_the_partition_in_which_it_is_worst(mine):
    facts = gather(open_store(str(mine)), "one")
    worst = next(c for c in facts.columns if c.name == "x")
    assert (worst.worst[0].partition, worst.worst[0].finding.status) == ("date=2026-01-03", "fail")
    assert [hit for _, _, hit in worst.trail] == [False, False, True]
    assert sum(worst.picture.before) == 4_000 - table(4_000, 1)["x"].null_count
    kind = next(c for c in facts.columns if c.name == "kind")
    assert kind.picture.labels == ("<i>c</i>", "a", "b", "unseen or rare")
    write_report(str(mine), "one")
    assert "<i>c</i>" not in text_of(mine)
    assert "&lt;i&gt;c&lt;/i&gt;" in text_of(mine)


def test_it_is_made_again_to_the_byte_without_the_bundle(mine, monkeypatch):
    write_report(str(mine), "one")
    before = text_of(mine)
    (mine / "runs" / "one" / "report.html").unlink()
    monkeypatch.setattr("scoring.watch.baseline.read", None)  # the baseline is kept with the run
    found, code = command(words("report", ["one", f"workspace={mine}"]))
    assert (code, text_of(mine)) == (0, before)
    assert found.bytes == len(before.encode())
    assert found.path.endswith("runs/one/report.html")
    assert "report.html" in render(found)


def test_a_baseline_that_is_gone_leaves_the_words(mine):
    config = yaml.safe_load((mine / "runs" / "one" / "config.yaml").read_text())
    config["model"]["bundle"] = str(mine / "moved")
    (mine / "runs" / "one" / "config.yaml").write_text(yaml.safe_dump(config))
    facts = gather(open_store(str(mine)), "one")
    assert "not where it was" in facts.baseline
    assert all(c.picture is None for c in facts.columns)
    assert any(f.finding.status == "fail" for c in facts.columns for f in c.worst)


def test_two_runs_are_set_side_by_side(place, mine, tmp_path):
    score(settings(place, mine, run_id="two", release={"max_bad_share": 0.5, "on_change": "rescore"}, contract={"columns": {}}))
    out = tmp_path / "side.html"
    found, _ = command(words("report", ["--compare", "one", "two", f"workspace={mine}", f"out={out}"]))
    assert found.path == str(out)
    assert out.read_bytes() == (mine / "runs" / "two" / "compare-one.html").read_bytes()
    assert found.sentence.startswith("Run two beside run one. What differs:")
    assert "contract.columns.amount.min" in out.read_text()


def test_a_held_run_shows_what_it_was_held_for(place, tmp_path):
    record = score(settings(place, tmp_path / "w", release={"max_bad_share": 0.01}))
    assert record.status == "held"
    found = write_report(str(tmp_path / "w"), "one")
    assert "held by the gate, first of all by bad_share" in found.sentence
    text = unescape(text_of(tmp_path / "w"))
    assert "scoring release-held one date=2026-01-01" in text
    assert "-7.0" in text, "rows of a partition that is not published are staged, and are shown all the same"


def test_a_run_without_a_baseline_has_a_report(place, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(place / "bundle", bundle)
    (bundle / "baseline.json").unlink()
    score(settings(place, tmp_path / "w", model={"bundle": str(bundle)}))
    write_report(str(tmp_path / "w"), "one")
    assert "There is no baseline to compare with" in text_of(tmp_path / "w")
    score(settings(place, tmp_path / "v", watch={"enabled": False}))
    write_report(str(tmp_path / "v"), "one")
    assert "Nothing was counted of the scores" in text_of(tmp_path / "v")


def test_nobody_can_be_recognised_in_it(tmp_path, monkeypatch):
    """Canaries in personal columns, tagged or broken, and a rule that every row of one person breaks."""
    monkeypatch.setenv("SCORING_PRIVACY_KEY", people.KEY)
    folder = people.make(tmp_path / "people")
    columns = {**people.COLUMNS, "name": {**people.COLUMNS["name"], "allowed": ["nobody"]}}
    columns["email"] = {**people.COLUMNS["email"], "pattern": "[^7]*"}
    given = people.plain(folder, tmp_path / "w", contract__columns=columns)
    record = score(given | {"run_id": "one"})
    assert record.rows["quarantined"] == record.rows["in"]
    facts = gather(open_store(str(tmp_path / "w")), "one")
    shapes = {e.value for e in facts.examples if e.rule.startswith(("admit:name", "admit:email"))}
    assert shapes
    assert all(shape.startswith("str like ") for shape in shapes)
    write_report(str(tmp_path / "w"), "one")
    for text in (text_of(tmp_path / "w"), json.dumps([e.value for e in facts.examples])):
        for canary in CANARIES:
            assert canary not in text.replace(str(folder), "")


def test_what_cannot_be_told_is_an_error_that_says_so(mine):
    with pytest.raises(ConfigError, match=r"no record of a run 'other'.*Newest: one"):
        command(words("report", ["other", f"workspace={mine}"]))
    with pytest.raises(ConfigError, match="cannot be written"):
        command(words("report", ["one", f"workspace={mine}", f"out={mine}/no/such/folder"]))
    (mine / "runs" / "one" / "record.json").write_text("{}")
    with pytest.raises(StoreError, match="is not the record of a run"):
        write_report(str(mine), "one")
