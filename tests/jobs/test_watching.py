"""Drift from the rows to the verdict, through the jobs that users run: baseline, run, history, held, killed and resumed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scoring.errors import ConfigError, ModelError, SourceError
from scoring.jobs import baseline as verb
from scoring.jobs import demo
from scoring.jobs.arguments import words
from scoring.jobs.run import run
from scoring.models import bundle
from scoring.models.train import Recipe, Target, fit
from scoring.respond.progress import ProgressWatcher
from scoring.respond.summary import render
from scoring.settings import Fault, Job, build
from scoring.types import RunRecord
from scoring.watch import baseline as stored

NAMES = ("drift", "score_drift", "null_rate", "quarantine_mix", "history")


def table(rows: int, seed: int, shift: float = 0.0) -> pa.Table:
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1.0, rows).astype(np.float32)
    kind, n = rng.choice(["a", "b", "c"], rows, p=[0.6, 0.3, 0.1]), rng.integers(0, 200, rows).astype(np.int32)
    return pa.table({"id": np.arange(rows), "x": pa.array(x, mask=rng.random(rows) < 0.1), "n": n, "kind": kind, "y": x > 0.3})


def write(folder: Path, day: int, rows: pa.Table) -> None:
    place = folder / f"date=2026-01-{day:02d}"
    place.mkdir(parents=True)
    for part in range(2):
        pq.write_table(rows.slice(part * rows.num_rows // 2, rows.num_rows // 2), place / f"f{part}.parquet", row_group_size=300)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Training rows of December, a bundle fitted on them with its baseline, and two days: as before, and shifted."""
    folder = tmp_path_factory.mktemp("watch")
    training = table(6_000, 1)
    fit(
        training,
        folder / "bundle",
        numeric=["x", "n"],
        categorical=["kind"],
        targets={"score": Target("y")},
        recipe=Recipe(epochs=1, batch_rows=512),
    )
    for day in (1, 2):
        write(folder / "training", day, training.slice((day - 1) * 3_000, 3_000))
    make_baseline(folder, "segments=kind")
    write(folder / "days", 1, table(2_000, 2))
    write(folder / "days", 2, table(2_000, 3, shift=0.5))
    return folder


def make_baseline(folder: Path, *more: str) -> verb.BaselineRecord:
    found, code = verb.command(words("baseline", [str(folder / "training"), f"bundle={folder / 'bundle'}", *more]))
    assert code == 0
    return found


def job(place: Path, workspace: Path, data: str = "days", **groups: object) -> Job:
    given = {
        "workspace": str(workspace),
        "source": {"kind": "parquet", "path": str(place / data)},
        "model": {"bundle": str(place / "bundle")},
        "engine": {"kind": "inline"},
        "hardware": {"memory_per_lane_gb": 0.3},
    }
    return build(Job, given | groups)


def score(one: Job) -> RunRecord:
    with ProgressWatcher(None) as watcher:
        return run(one, "", watcher)


def found(record: RunRecord, key: str) -> dict[tuple[str, str], str]:
    (partition,) = (p for p in record.partitions if p.key == key)
    return {(c.name, c.subject): c.status for c in partition.checks if c.name in NAMES and c.status not in ("pass", "skip")}


def files(workspace: Path) -> dict[str, bytes]:
    return {str(p.relative_to(workspace)): p.read_bytes() for p in sorted((workspace / "watch").rglob("*")) if p.is_file()}


def test_a_baseline_is_no_part_of_the_model(place, tmp_path):
    before = bundle.digest(place / "bundle")
    made = make_baseline(place, f"out={tmp_path / 'other.json'}")
    assert bundle.digest(place / "bundle") == before == bundle.read(place / "bundle").digest
    assert (made.rows, made.rows_in, made.keys) == (6_000, 6_000, ("date=2026-01-01", "date=2026-01-02"))
    assert made.watched == {"number": ["x", "n"], "category": ["kind"]}
    there = stored.read(tmp_path / "other.json")
    assert there.model == before
    assert there.summary.of("columns")["x"]["null"] == table(6_000, 1).column("x").null_count
    assert "date=2026-01-02" in verb.render(made)


def test_a_baseline_of_one_file(place, tmp_path):
    pq.write_table(table(500, 5), tmp_path / "all.parquet")
    made, _ = verb.command(
        words("baseline", [str(tmp_path / "all.parquet"), f"bundle={place / 'bundle'}", f"out={tmp_path / 'b.json'}"])
    )
    assert (made.rows, made.keys, stored.read(tmp_path / "b.json").keys) == (500, ("all",), ("all",))


def test_a_shifted_day_is_told_and_the_day_before_is_not(place, tmp_path):
    record = score(job(place, tmp_path))
    assert [p.status for p in record.partitions] == ["published", "published-with-warnings"]
    assert found(record, "date=2026-01-01") == {}
    assert set(found(record, "date=2026-01-02")) == {("drift", "x"), ("score_drift", "score")}
    text = render(record, str(tmp_path))
    assert "drift x: shift: up by 0.5" in text
    assert record.environment["baseline"] == stored.read(place / "bundle" / stored.NAME).digest


def test_tables_of_each_published_version(place, tmp_path):
    score(job(place, tmp_path))
    profile, drift = (pq.read_table(tmp_path / f"watch/{kind}", partitioning="hive").to_pylist() for kind in ("profile", "drift"))
    assert {(r["partition"], r["window_start"].isoformat()[:10], r["window_end"].isoformat()[:10]) for r in drift} == {
        ("date=2026-01-01", "2026-01-01", "2026-01-02"),
        ("date=2026-01-02", "2026-01-02", "2026-01-03"),
    }
    rows = {r["partition"]: r["value"] for r in profile if r["statistic"] == "rows" and not r["column"]}
    assert rows == {"date=2026-01-01": 2_000, "date=2026-01-02": 2_000}
    (shifted,) = [r for r in drift if r["column"] == "x" and r["family"] == "drift" and r["partition"].endswith("02")]
    assert (shifted["status"], shifted["cause"]) == ("fail", "shift")
    assert shifted["value"] > shifted["threshold"]
    assert shifted["p_value"] < 1e-9


def test_segments_are_judged_where_asked(place, tmp_path):
    record = score(job(place, tmp_path, watch={"segments": ["kind"]}))
    assert found(record, "date=2026-01-01") == {}
    assert {("drift", "x where kind=a"), ("drift", "x where kind=b"), ("score_drift", "score where kind=a")} <= set(
        found(record, "date=2026-01-02")
    )
    with pytest.raises(ConfigError, match=r"watch\.segments: the baseline has none by 'n'"):
        score(job(place, tmp_path / "other", watch={"segments": ["n"]}))


def test_the_same_record_however_the_rows_are_split(place, tmp_path):
    one = score(job(place, tmp_path / "one"))
    other = job(place, tmp_path / "other")
    source, engine = replace(other.source, slice_rows=1), replace(other.engine, window_rows=77)
    assert len(score(replace(other, source=source, engine=engine)).partitions) == len(one.partitions)
    records = [
        {json.loads(data)["key"]: json.loads(data)["summary"] for name, data in files(tmp_path / w).items() if "records" in name}
        for w in ("one", "other")
    ]
    assert records[0] == records[1]
    assert len(records[0]) == 2


@pytest.mark.parametrize("site", ["publish.before_manifest", "publish.after_manifest"])
def test_a_run_that_died_goes_on_with_the_same_findings(place, tmp_path, site):
    whole = job(place, tmp_path / "whole", run_id="r")
    score(whole)
    dying = job(place, tmp_path / "dying", run_id="r")
    fault = Fault(site, "raise", once=str(tmp_path / "struck"))
    with pytest.raises(ValueError, match="injected"):
        score(replace(dying, engine=replace(dying.engine, faults=(fault,))))
    score(dying)
    assert files(tmp_path / "dying") == files(tmp_path / "whole")
    for lost in (tmp_path / "dying" / "watch" / "drift").rglob("*.parquet"):
        lost.unlink()
    score(dying)  # nothing is left to score, and the tables come again
    assert files(tmp_path / "dying") == files(tmp_path / "whole")


@pytest.mark.parametrize(("action", "status"), [("hold", "held"), ("warn", "published-with-warnings"), ("ignore", "published")])
def test_the_policy_decides(place, tmp_path, action, status):
    record = score(job(place, tmp_path, release={"policy": {"drift": action, "score_drift": action}}))
    assert [p.status for p in record.partitions] == ["published", status]
    assert (tmp_path / "scores" / "date=2026-01-02").exists() == (status != "held")


def test_off_costs_nothing_and_leaves_nothing(place, tmp_path):
    record = score(job(place, tmp_path, watch={"enabled": False}))
    assert {p.status for p in record.partitions} == {"published"}
    assert not (tmp_path / "watch").exists()
    assert not any(c.name in NAMES for p in record.partitions for c in p.checks)
    notes = [json.loads(p.read_text())["summary"] for p in (tmp_path / "runs").rglob("receipts/*.json")]
    assert notes
    assert not any(notes)


def test_no_baseline_is_a_skip_or_an_error(place, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(place / "bundle", bare)
    (bare / stored.NAME).unlink()
    record = score(job(place, tmp_path / "w", model={"bundle": str(bare)}))
    assert {c.status for p in record.partitions for c in p.checks if c.name == "drift"} == {"skip"}
    assert {p.status for p in record.partitions} == {"published"}
    with pytest.raises(ConfigError, match="require_baseline: there is no"):
        score(job(place, tmp_path / "w2", model={"bundle": str(bare)}, watch={"require_baseline": True}))
    (bare / stored.NAME).write_text("{}")
    with pytest.raises(ModelError, match="is not a baseline"):
        score(job(place, tmp_path / "w3", model={"bundle": str(bare)}))
    with pytest.raises(ConfigError, match="The baseline does not fit"):
        score(job(place, tmp_path / "w4", contract={"columns": {"x": {"dtype": "string"}}}))


def test_few_rows_are_never_a_pass(place, tmp_path):
    write(tmp_path / "few", 3, table(80, 4))
    record = score(replace(job(place, tmp_path / "w"), source=replace(job(place, tmp_path).source, path=str(tmp_path / "few"))))
    assert [(c.status, c.actual) for c in record.partitions[0].checks if c.name == "drift"] == [
        ("skip", "80 rows, fewer than watch.min_rows (100)")
    ]


def test_history_looks_back_at_the_days_of_earlier_runs(place, tmp_path):
    """Eight quiet days, one run each; then a day of three times the rows, and one of nothing but nulls in x."""
    statuses = []
    for day in range(1, 11):
        rows = table(1_200 if day == 9 else 400 + day, day)
        if day == 10:
            rows = rows.set_column(1, "x", pa.nulls(rows.num_rows, pa.float32()))
        write(tmp_path / "data", day, rows)
        one = job(place, tmp_path / "w")
        record = score(replace(one, source=replace(one.source, path=str(tmp_path / "data"))))
        (latest,) = (p for p in record.partitions if p.key == f"date=2026-01-{day:02d}")
        statuses.append({(c.subject, c.status) for c in latest.checks if c.name == "history"})
    assert all(status == "skip" for said in statuses[:7] for _, status in said)
    assert statuses[7] == {("date=2026-01-08", "pass")}
    assert statuses[8] == {("volume", "warn")}
    assert ("null rate of x", "warn") in statuses[9]


def test_training_rows_that_cannot_be_read_or_scored_are_refused(place, tmp_path):
    shutil.copytree(place / "training", tmp_path / "training")
    (tmp_path / "training" / "date=2026-01-01" / "broken.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(SourceError, match=r"broken\.parquet: unreadable.*A baseline needs every file"):
        verb.command(words("baseline", [str(tmp_path / "training"), f"bundle={place / 'bundle'}", f"out={tmp_path / 'b.json'}"]))
    assert not list(tmp_path.glob("b.json*"))


def test_the_demo_flags_the_days_from_the_21st_and_none_before(tmp_path):
    demo.make(tmp_path, rows=200_000)
    given = job(tmp_path, tmp_path / "w", "data/transactions")
    record = score(given)
    for partition in record.partitions:
        said = found(record, partition.key)
        if int(partition.key[-2:]) < demo.SHIFT_DAY:
            assert said == {}, partition.key
            continue
        drifted = {("drift", name) for name in ("amount", "merchant_risk", "channel", "country", "merchant_category")}
        assert drifted | {("score_drift", "score")} <= set(said), partition.key
        assert {subject for name, subject in said if name == "drift"} <= {name for _, name in drifted}
        actual = {c.subject: c.actual for c in partition.checks if c.name == "drift"}
        assert actual["amount"].startswith("shift: up by 0.")
        assert actual["merchant_risk"].startswith("shift: up by 0.")
        assert actual["channel"].startswith("mix: more 'online'")
        assert actual["country"].startswith("mix: more")
        assert actual["merchant_category"].startswith("unseen: unseen or rare values +")


def test_of_personal_columns_no_value_is_kept(place, tmp_path):
    """Bins of what leaves generalised or as it is, nulls alone of the rest; the baseline, which goes places, has no extremes."""
    personal = {"x": {"dtype": "float32", "pii": "sensitive", "treatment": "pass"}, "kind": {"dtype": "string"}}
    personal["kind"] |= {"pii": "direct", "treatment": "mask"}
    record = score(job(place, tmp_path, contract={"columns": personal}))
    kept = [json.loads(p.read_bytes())["summary"]["columns"] for p in (tmp_path / "watch" / "records").rglob("*.json")]
    assert len(kept) == 2
    for columns in kept:
        assert columns["x"].keys() == {"null", "le", "cells"}
        assert columns["n"].keys() == {"null", "le", "min", "max", "cells"}
        assert columns["kind"].keys() == {"null"}
    assert ("drift", "x") in found(record, "date=2026-01-02")
    summary = stored.read(place / "bundle" / stored.NAME).summary
    assert not [name for name, counts in summary.of("columns").items() if "min" in counts or "max" in counts]
    with pytest.raises(ConfigError, match=r"watch\.segments: 'kind' is personal"):
        score(job(place, tmp_path / "b", contract={"columns": personal}, watch={"segments": ["kind"]}))
