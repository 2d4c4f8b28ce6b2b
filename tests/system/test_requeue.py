"""Quarantined rows are judged again and let in once: in input order, every row accounted for, whatever dies and however often."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from chaos import Drivers
from hypothesis import given, settings
from hypothesis import strategies as st
from workload import (
    AMOUNT,
    EMPTY,
    POISON,
    Quiet,
    assert_sound,
    changed,
    job,
    manifests,
    plain_days,
    plain_job,
    quarantine,
    rows,
    score_bytes,
)

from scoring.errors import ChangedError, ConfigError, StoreError
from scoring.jobs.requeue import Choice, requeue
from scoring.jobs.run import run
from scoring.settings import Job
from scoring.sinks.reader import read_scores
from scoring.types import RunRecord

SITES = ("stage.before_link", "stage.after_link", "publish.before_manifest", "publish.after_manifest", "publish.after_show")
KEYS = [f"day=2026-01-0{n}" for n in (1, 2)]
WIDE = {**AMOUNT, "max": 10_000.0}  # lets 9999.0 in; -51.0 stays bad


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two partitions of two files of 120 rows; amount 9999.0 in row 3 and -51.0 in row 118 of each."""
    return plain_days(tmp_path_factory.mktemp("data"), days=2, files=2, groups=3, group_rows=40)


@pytest.fixture(scope="module")
def template(data: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = tmp_path_factory.mktemp("published") / "w"
    assert run(job(workspace, data, bundle), "", Quiet()).status == "published"
    return workspace


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Path:
    return fresh(template, tmp_path / "w")


def fresh(template: Path, workspace: Path) -> Path:
    """A copy with its hard links, as the workspace itself has them."""
    import subprocess

    subprocess.run(["cp", "-a", template, workspace], check=True)
    return workspace


def mended(workspace: Path, data: Path, bundle: Path, amount: dict[str, Any] = WIDE, **changes: Any) -> Job:
    return replace(job(workspace, data, bundle, contract__columns={"amount": amount}, **changes), run_id=None)


def again(given: Job, **choice: str) -> RunRecord:
    return requeue(given, "", Quiet(), lambda: None, Choice(**choice))


def ids(workspace: Path) -> Counter[int]:
    """How often each input row is somewhere: in the scores or in quarantine."""
    found = Counter(read_scores(str(workspace)).select("id").collect()["id"].to_list())
    for manifest in manifests(workspace).values():
        for file in manifest.quarantine:
            found.update(i for i in pq.read_table(workspace / file.path, partitioning=None)["id"].to_pylist())
    return found


def scored(workspace: Path, key: str) -> pl.DataFrame:
    return read_scores(str(workspace)).collect().filter(pl.col("day") == key.partition("=")[2])


def test_what_is_good_now_joins_its_partition_behind_the_others(place: Path, template: Path, data: Path, bundle: Path) -> None:
    record = again(mended(place, data, bundle), reason="the limit was too low")
    assert (record.status, record.rows) == ("published", {"in": 8, "scored": 4, "quarantined": 4, "suppressed": 0})
    assert_sound(place)
    for key in KEYS:
        before, after = scored(template, key), scored(place, key)
        assert after[: before.height].equals(before), "what stands stays where it is"
        source = pl.concat([pl.read_parquet(f, hive_partitioning=False) for f in sorted((data / key).glob("*.parquet"))])
        assert after["id"][before.height :].to_list() == source.filter(pl.col("amount") == 9999.0)["id"].to_list()
        assert after["run_id"][before.height :].unique().to_list() == [record.run_id]
        manifest = manifests(place)[key]
        assert (manifest.version, manifest.counts) == (2, {"scored": 238, "quarantined": 2, "suppressed": 0})
        (one,) = manifest.requeued
        assert (one.rows, one.scored, one.reason, one.run_id) == (4, 2, "the limit was too low", record.run_id)
        assert one.contract == manifest.parts["contract"] != one.contract_before == manifests(template)[key].parts["contract"]
    assert set(ids(place).values()) == {1}
    assert score_bytes(place) != score_bytes(template)


def test_the_scores_are_those_that_a_run_with_the_mended_contract_gives(
    place: Path, data: Path, bundle: Path, tmp_path: Path
) -> None:
    again(mended(place, data, bundle))
    run(mended(tmp_path / "anew", data, bundle), "", Quiet())
    mine, anew = (read_scores(str(w)).drop("run_id").sort("id").collect() for w in (place, tmp_path / "anew"))
    assert mine.drop("score", "spent").equals(anew.drop("score", "spent"))
    assert (mine["score"] - anew["score"]).abs().max() < 1e-5


def test_rows_that_are_still_bad_keep_where_they_came_from_and_all_their_columns(
    place: Path, template: Path, data: Path, bundle: Path
) -> None:
    before = quarantine(template)
    record = again(mended(place, data, bundle, {**WIDE, "min": -60.0, "max": 5000.0}))
    now = [json.loads(row) for row in quarantine(place)]
    assert {row["amount"] for row in now} == {9999.0}
    assert {row["_run_id"] for row in now} == {record.run_id}
    old = [json.loads(row) for row in before]
    assert sorted(json.dumps({**r, "_run_id": ""}) for r in now) == sorted(
        json.dumps({**r, "_run_id": ""}) for r in old if r["amount"] == 9999.0
    )
    assert not [p for p in (place / "quarantine").rglob("*.parquet") if "run=the-run" in str(p)], "let in, they are shown no more"


def test_said_again_it_finds_what_is_still_bad_and_publishes_nothing(place: Path, data: Path, bundle: Path) -> None:
    again(mended(place, data, bundle))
    before = (score_bytes(place), quarantine(place), sorted((place / "ledger").iterdir()))
    record = again(mended(place, data, bundle))
    assert (record.rows["in"], record.rows["scored"], {p.status for p in record.partitions}) == (4, 0, {"skipped"})
    assert (score_bytes(place), quarantine(place), sorted((place / "ledger").iterdir())) == before
    everything = again(mended(place, data, bundle, {"dtype": "float64"}))
    assert everything.rows["scored"] == 4
    assert again(mended(place, data, bundle, {"dtype": "float64"})).message.startswith("Nothing to requeue")
    assert_sound(place)
    assert len(manifests(place)[KEYS[0]].requeued) == 2


def test_a_run_with_the_mended_contract_has_nothing_to_do_and_one_with_the_old_is_refused(
    place: Path, data: Path, bundle: Path
) -> None:
    again(mended(place, data, bundle))
    assert run(mended(place, data, bundle), "", Quiet()).message.startswith("Nothing to do")
    with pytest.raises(ChangedError, match="the contract changed since"):
        run(replace(job(place, data, bundle), run_id=None), "", Quiet())


def test_partitions_without_bad_rows_take_the_contract_over(place: Path, data: Path, bundle: Path) -> None:
    everything = {"dtype": "float64"}
    again(mended(place, data, bundle, everything), partition=KEYS[0])
    assert [m.version for m in manifests(place).values()] == [2, 1]
    again(mended(place, data, bundle, {**everything, "min": -1e6}))
    assert {k: (m.version, m.counts["quarantined"]) for k, m in manifests(place).items()} == {KEYS[0]: (3, 0), KEYS[1]: (2, 0)}
    assert run(mended(place, data, bundle, {**everything, "min": -1e6}), "", Quiet()).message.startswith("Nothing to do")
    assert_sound(place)


def test_a_choice_of_partition_or_run(place: Path, data: Path, bundle: Path) -> None:
    assert [p.key for p in again(mended(place, data, bundle), partition=KEYS[1]).partitions] == [KEYS[1]]
    assert [p.key for p in again(mended(place, data, bundle), run="the-run").partitions] == [KEYS[0]]
    with pytest.raises(ConfigError, match=r"under partition=day=2026-01-09\. Nearest: day=2026-01-02"):
        again(mended(place, data, bundle), partition="day=2026-01-09")


def test_only_the_contract_may_differ(place: Path, data: Path, bundle: Path, fussy: Path) -> None:
    with pytest.raises(ChangedError, match="the model changed since"):
        again(mended(place, data, fussy, model__module="fussy:Fussy"))
    with pytest.raises(ChangedError, match="how the source is read changed since"):
        again(mended(place, data, bundle, source__carry=["id"]))


def test_a_column_that_was_not_kept_is_named(place: Path, data: Path, bundle: Path) -> None:
    given = mended(place, data, bundle)
    columns = {**given.contract.columns, "shop": given.contract.columns["amount"]}
    with pytest.raises(ConfigError, match=r"shop was not read when these rows were quarantined"):
        again(replace(given, contract=replace(given.contract, columns=columns)))


def test_a_quarantine_file_that_changed_is_not_let_in(place: Path, data: Path, bundle: Path) -> None:
    path = next((place / "quarantine").rglob("*.parquet"))
    pq.write_table(pq.read_table(path, partitioning=None).slice(0, 1), path.with_name("new"))
    path.with_name("new").replace(path)
    with pytest.raises(StoreError, match="its content has changed since it was published"):
        again(mended(place, data, bundle))


def test_lost_files_stay_and_rows_that_failed_in_the_model_come_in_input_order(fussy: Path, tmp_path: Path) -> None:
    """Rows that fail in the model are quarantined before those that were not admitted: order is made anew."""
    folder = tmp_path / "data" / "day=1"
    folder.mkdir(parents=True)
    table = changed(rows(60, 3), "x0", {20: POISON, 41: EMPTY})
    pq.write_table(changed(table, "amount", {5: 9999.0, 30: 9999.0, 50: 9999.0}), folder / "f.parquet")
    (folder / "cut.parquet").write_bytes(b"PAR1")
    given = {"model__module": "fussy:Fussy", "source__slice_rows": 1000}
    run(job(tmp_path / "w", tmp_path / "data", fussy, **given), "", Quiet())
    (file,) = [f for f in manifests(tmp_path / "w")["day=1"].quarantine if f.rows > 1]
    assert pq.read_table(tmp_path / "w" / file.path, partitioning=None)["_row"].to_pylist() != [5, 20, 30, 41, 50]
    record = again(mended(tmp_path / "w", tmp_path / "data", fussy, **given))
    assert record.rows == {"in": 5, "scored": 3, "quarantined": 2, "suppressed": 0}
    assert record.notes == () or "stay in quarantine" in record.notes[0]
    assert read_scores(str(tmp_path / "w")).collect()["id"].to_list()[-3:] == [5, 30, 50]
    bad = [json.loads(k)["_reasons"][0] for k in quarantine(tmp_path / "w") if k.startswith("{")]
    assert {reason.split(":")[0] for reason in bad} == {"ValueError", "non-finite"}
    assert_sound(tmp_path / "w")


@pytest.mark.slow
def test_on_ray_the_same_bytes(cluster: Any, place: Path, template: Path, data: Path, bundle: Path, tmp_path: Path) -> None:
    there = fresh(template, tmp_path / "ray")
    on_ray = {"engine__kind": "ray", "engine__address": cluster.address, "engine__lanes": 2}
    again(replace(mended(place, data, bundle), run_id="again"))
    record = again(replace(mended(there, data, bundle, **on_ray), run_id="again"))
    assert record.status == "published", record.message
    assert score_bytes(there) == score_bytes(place)
    assert_sound(there)


@pytest.fixture(scope="module")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drivers]:
    with Drivers(tmp_path_factory.mktemp("drivers") / "log") as found:
        yield found


@pytest.mark.parametrize("site", [pytest.param(s, marks=pytest.mark.slow if n else ()) for n, s in enumerate(SITES)])
def test_killed_anywhere_a_row_is_let_in_once(
    site: str, drivers: Drivers, place: Path, data: Path, bundle: Path, tmp_path: Path
) -> None:
    marks = [str(tmp_path / f"mark{n}") for n in range(2)]
    faults = [{"site": site, "kind": "kill", "once": mark} for mark in marks]
    given = plain_job(place, data, bundle, contract__columns={"amount": WIDE}, engine__faults=faults, engine__in_flight=1)
    given |= {"verb": "requeue", "run_id": None}
    codes = [drivers.run(dict(given)) for _ in range(4)]
    assert codes[:3].count(-9) == 2, drivers.said()
    assert codes[-1] == 0, drivers.said()
    assert_sound(place)
    assert set(ids(place).values()) == {1}
    assert {m.version for m in manifests(place).values()} == {2}
    assert sum(m.counts["scored"] for m in manifests(place).values()) == 2 * 238
    assert not [p for p in (place / "quarantine").rglob("*.parquet") if "run=the-run" in str(p)]


LIMITS = st.sampled_from([-60.0, -50.5, -50.0]), st.sampled_from([100.0, 5000.0, 10_000.0])


@settings(max_examples=6)
@given(st.lists(st.tuples(st.sampled_from(["run", "requeue"]), *LIMITS), min_size=1, max_size=4))
def test_any_sequence_keeps_every_row_once(template: Path, data: Path, bundle: Path, steps: list[tuple[str, float, float]]) -> None:
    """Runs (which may replace what is published) and requeues under any contracts."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = fresh(template, Path(folder, "w"))
        for verb, low, high in steps:
            amount = {"dtype": "float64", "min": low, "max": high}
            given = mended(workspace, data, bundle, amount, release__on_change="rescore")
            said = run(given, "", Quiet()) if verb == "run" else again(given)
            assert said.status == "published"
            found = ids(workspace)
            assert (len(found), set(found.values())) == (480, {1})
            assert_sound(workspace)
        shutil.rmtree(workspace)
