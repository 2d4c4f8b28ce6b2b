"""Published scores come out again, bit for bit on this machine, whatever they were made of; what differs is found, named by place,
and laid to what changed.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import foreign
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
import workload
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from workload import AMOUNT, RUN, Quiet, changed, manifests, plain_days, plain_job, rows

from scoring.__main__ import kept
from scoring.errors import ConfigError, SourceError
from scoring.jobs.arguments import Given
from scoring.jobs.import_text import command as import_text
from scoring.jobs.replay import Replay, code, render, replay
from scoring.jobs.requeue import requeue
from scoring.jobs.run import run
from scoring.settings import Job, build
from scoring.types import RunRecord

WIDE = {**AMOUNT, "max": 10_000.0}


def score(given: dict[str, Any]) -> RunRecord:
    record = run(build(Job, given), yaml.safe_dump(given), Quiet())
    assert record.status.startswith("published")
    return record


def again(workspace: Path | str, run_id: str = RUN, **words: Any) -> Replay:
    return replay(str(workspace), run_id, kept, **words)


def assert_reproduced(found: Replay, rows: int | None = None) -> None:
    assert (found.status, found.skipped, found.carried, found.missing) == ("reproduced", (), 0, 0)
    assert (found.causes, found.swaps, code(found)) == ((), (), 0)
    assert found.rows.bit_equal == found.sample.taken
    assert rows in (None, found.sample.taken)


def due(found: Replay) -> dict[str, str]:
    return {cause.part: cause.verdict for cause in found.causes if cause.verdict != "excluded"}


def states(found: Replay) -> dict[str, str]:
    return {fact.name: fact.state for fact in found.facts if fact.state != "same"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two partitions of two files of 240 rows; amount 9999.0 in row 3 and -51.0 in row 238 of each."""
    return plain_days(tmp_path_factory.mktemp("data"), days=2, files=2, groups=6, group_rows=40)


@pytest.fixture(scope="module")
def template(data: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    shutil.copytree(data, folder / "data", copy_function=shutil.copy2)
    shutil.copytree(bundle, folder / "bundle")
    score(plain_job(folder / "w", folder / "data", folder / "bundle", source__slice_rows=240))
    return folder


@pytest.fixture
def place(template: Path, data: Path, bundle: Path) -> Path:
    """Data, bundle and workspace as they were published: what a test changes is put back."""
    for name, origin in (("data", data), ("bundle", bundle)):
        shutil.rmtree(template / name, ignore_errors=True)
        shutil.copytree(origin, template / name, copy_function=shutil.copy2)
    return template


def test_everything_comes_out_again_and_nothing_is_written(place):
    before = {path: path.stat().st_mtime_ns for path in (place / "w").rglob("*")}
    found = again(place / "w")
    assert_reproduced(found, 952)
    assert {path: path.stat().st_mtime_ns for path in (place / "w").rglob("*")} == before
    assert json.loads(json.dumps(asdict(found)))["sample"] == {"asked": 10_000, "published": 952, "taken": 952, "files": 4}


@settings(max_examples=4)
@given(sample=st.integers(1, 960), partition=st.sampled_from([None, "day=2026-01-02"]))
def test_any_sample_is_the_same_rows_whenever_it_is_asked(template, sample, partition):
    found = again(template / "w", sample=sample, partition=partition)
    assert_reproduced(found, min(sample, 476 if partition else 952))
    assert found == again(template / "w", sample=sample, partition=partition)


def test_every_sort_of_dirt_is_stepped_over(dirty, fussy, tmp_path, monkeypatch):
    """Row groups and files that were lost, lines that are no rows, columns that files lack, rows that the model refuses."""
    monkeypatch.syspath_prepend(str(workload.HERE))
    given = plain_job(tmp_path / "w", dirty, fussy, source__slice_rows=300, model__module="fussy:Fussy")
    record = score(given)
    assert_reproduced(again(tmp_path / "w"), record.rows["scored"])
    for sample in (1, 97, 800):
        assert_reproduced(again(tmp_path / "w", sample=sample), sample)


def write_csv(table: pa.Table, place: Path) -> None:
    arrow_csv.write_csv(table, place.with_suffix(".csv"))
    with place.with_suffix(".csv").open("ab") as file:
        file.write(b"too,few\n")
        file.write(arrow_csv_lines(table.slice(0, 5)))


def arrow_csv_lines(table: pa.Table) -> bytes:
    out = pa.BufferOutputStream()
    arrow_csv.write_csv(table, out, arrow_csv.WriteOptions(include_header=False))
    return out.getvalue().to_pybytes()


def write_jsonl(table: pa.Table, place: Path) -> None:
    lines = [json.dumps(row) for row in table.to_pylist()]
    place.with_suffix(".jsonl").write_text("\n".join([*lines[:10], "no object", *lines[10:]]))


def write_ipc(table: pa.Table, place: Path) -> None:
    with pa.ipc.new_file(place.with_suffix(".arrow"), table.schema) as file:
        file.write_table(table, max_chunksize=70)


@pytest.mark.parametrize(("kind", "write"), [("csv", write_csv), ("jsonl", write_jsonl), ("ipc", write_ipc)])
def test_every_kind_of_source_is_read_again(kind, write, bundle, tmp_path):
    (tmp_path / "data").mkdir()
    for n in range(2):
        write(changed(rows(300, n, 300 * n), "amount", {3: 9999.0, 200: -51.0}), tmp_path / "data" / f"f{n}")
    record = score(plain_job(tmp_path / "w", tmp_path / "data", bundle, source__kind=kind, engine__window_rows=64))
    assert record.rows["quarantined"] >= 4
    assert_reproduced(again(tmp_path / "w"), record.rows["scored"])
    assert_reproduced(again(tmp_path / "w", sample=50), 50)


def test_vectors_of_texts_come_out_again(tmp_path):
    pooling = ("Pooling", {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}, None)
    foreign.sentence(foreign.bert(tmp_path / "theirs"), pooling, ("Normalize", {}, None))
    texts = [" ".join(foreign.WORDS[(3 * n + k) % len(foreign.WORDS)] for k in range(n % 17)) for n in range(300)]
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"id": range(300), "text": texts}), tmp_path / "data" / "f.parquet", row_group_size=90)
    for store in ("float32", "int8"):
        words = {"path": str(tmp_path / "theirs"), "out": str(tmp_path / store), "store": store}
        import_text(Given("models import-text", words, frozenset()))
        given = plain_job(tmp_path / f"w-{store}", tmp_path / "data", tmp_path / store) | {"contract": {}}
        given["source"]["carry"] = ["id"]
        score(given)
        assert_reproduced(again(tmp_path / f"w-{store}"), 300)
        assert_reproduced(again(tmp_path / f"w-{store}", sample=40), 40)


@pytest.mark.slow
def test_scores_of_ray_come_out_without_it(cluster, data, bundle, tmp_path):
    score(plain_job(tmp_path / "w", data, bundle, engine__kind="ray", engine__address=cluster.address, engine__lanes=2))
    assert_reproduced(again(tmp_path / "w"), 952)


def test_another_model_is_shown_to_be_the_cause(place, tmp_path):
    other = workload.tabular(tmp_path / "other", seed=1)
    found = again(place / "w", other=str(other), sample=200)
    assert (found.status, code(found), due(found)) == ("different", 65, {"model": "shown"})
    assert found.rows.different == 200
    assert [(swap.part, swap.outcome.bit_equal) for swap in found.swaps] == [("model", 200)]
    assert all(one.max_abs > 0 and one.max_ulp > 0 for one in found.outputs)
    assert all(example.file.startswith(str(place / "data")) for example in found.examples)
    shown = render(found)
    assert "It is due to the model." in shown
    assert "with the bundle that the run used: every row is bit-equal" in shown


def test_a_model_that_was_replaced_in_its_place_is_likely(place, tmp_path):
    shutil.rmtree(place / "bundle")
    workload.tabular(place / "bundle", seed=1)
    found = again(place / "w", sample=50)
    assert (due(found), states(found)) == ({"model": "likely"}, {"bundle": "changed"})


def test_another_contract_of_a_bundle_changes_who_is_admitted(place, bundle, tmp_path):
    """The weights are the same: admitted rows score as before, the others are told by rule and place."""
    shutil.copytree(bundle, tmp_path / "strict")
    (tmp_path / "strict" / "contract.yaml").write_text("rules: {few: {sql: n < 40}}\n")
    found = again(place / "w", other=str(tmp_path / "strict"))
    lost = sum(one["n"] >= 40 and one["amount"] not in (9999.0, -51.0) for one in all_rows(place))
    assert found.now_quarantined == {"admit:rule:few": lost}
    assert (found.rows.bit_equal, found.rows.different) == (952 - lost, 0)
    assert (code(found), due(found)) == (65, {"model": "shown"})
    assert found.examples[0].what == "scored then, quarantined now: admit:rule:few"


def all_rows(place: Path) -> list[dict[str, Any]]:
    paths = sorted((place / "data").rglob("*.parquet"))
    return [row for path in paths for row in pq.read_table(path, partitioning=None).to_pylist()]


def test_rows_that_a_wider_contract_lets_in_are_told(place):
    """The configuration that was kept says something else than the manifests: it was changed."""
    path = place / "w" / "runs" / RUN / "config.yaml"
    kept_as = path.read_bytes()
    try:
        text = yaml.safe_load(kept_as)
        text["contract"]["columns"]["amount"]["max"] = 1e6
        path.write_text(yaml.safe_dump(text))
        found = again(place / "w")
    finally:
        path.write_bytes(kept_as)
    assert (found.now_scored, found.rows.bit_equal) == (4, 952)
    assert due(found) == {"contract": "likely"}
    assert {example.row for example in found.examples} == {3}


def test_a_file_that_was_rewritten_is_named(place):
    path = place / "data" / "day=2026-01-02" / "f1.parquet"
    pq.write_table(changed(pq.read_table(path, partitioning=None), "x0", {100: 77.0}), path, row_group_size=40)
    found = again(place / "w")
    assert (found.rows.different, found.rows.bit_equal) == (1, 951)
    assert [(example.file, example.row) for example in found.examples] == [(str(path), 100)]
    assert (found.inputs, due(found)) == ({str(path): "changed"}, {"data": "likely"})
    pq.write_table(changed(pq.read_table(path, partitioning=None), "id", {7: -1, 100: -2}), path, row_group_size=40)
    found = again(place / "w")
    assert (found.carried, due(found), code(found)) == (2, {"data": "shown"}, 65)


def test_a_file_with_another_time_and_the_same_rows_is_no_difference(place):
    for path in (place / "data").rglob("*.parquet"):
        os.utime(path, (1, 1))
    found = again(place / "w")
    assert (found.status, code(found), states(found)) == ("reproduced", 0, {"input files": "changed"})


@pytest.mark.parametrize("how", ["gone", "cut", "other row groups"])
def test_a_file_that_cannot_be_compared_is_named_and_the_rest_is_compared(place, how):
    path = place / "data" / "day=2026-01-02" / "f1.parquet"
    table = pq.read_table(path, partitioning=None)
    path.unlink()
    if how == "cut":
        pq.write_table(table.slice(0, 100), path, row_group_size=40)
    elif how == "other row groups":
        pq.write_table(table, path, row_group_size=50)
    found = again(place / "w")
    assert (found.status, code(found), found.rows.different) == ("reproduced", 69, 0)
    assert 714 <= found.rows.bit_equal == 952 - sum(one.rows for one in found.skipped)
    assert found.inputs == {str(path): "gone" if how == "gone" else "changed"}
    assert all(str(path) in one.why for one in found.skipped)


def test_no_bundle_is_69_and_says_what_to_do(place):
    shutil.rmtree(place / "bundle")
    with pytest.raises(SourceError, match=r"is not a bundle.*Name where the bundle lies now: bundle="):
        again(place / "w")


def test_a_bundle_that_refuses_on_this_machine_is_an_answer(place, monkeypatch):
    """The same bytes, other golden scores: as if torch computed otherwise here."""
    from scoring.models.tabular import Tabular

    real = Tabular.forward
    monkeypatch.setattr(Tabular, "forward", lambda self, encoded: real(self, encoded) + 0.1)
    found = again(place / "w")
    assert (found.status, code(found), due(found)) == ("different", 65, {"environment": "shown"})
    assert "does not give its golden scores" in found.message


def test_other_kernels_and_threads_stay_within_tolerance(data, bundle, tmp_path, monkeypatch):
    cores = os.sched_getaffinity(0)
    monkeypatch.setenv("SCORING_KERNELS", "torch")
    try:
        os.sched_setaffinity(0, {min(cores)})
        score(plain_job(tmp_path / "w", data, bundle, engine__in_flight=1))
    finally:
        os.sched_setaffinity(0, cores)
    monkeypatch.delenv("SCORING_KERNELS")
    found = again(tmp_path / "w")
    assert (found.rows.apart, code(found)) == (0, 0)
    assert states(found) == {"kernels": "changed"} | ({"threads": "changed"} if len(cores) > 1 else {})


def test_a_device_that_computes_otherwise_is_shown_by_the_cpu(data, bundle, tmp_path, monkeypatch):
    from scoring.engine.device import SimulatedDevice

    score(plain_job(tmp_path / "w", data, bundle, hardware__device="simulated"))
    assert_reproduced(again(tmp_path / "w"), 952)
    real = SimulatedDevice.forward
    monkeypatch.setattr(SimulatedDevice, "forward", lambda self, encoded: real(self, encoded) + 0.01)
    found = again(tmp_path / "w", sample=100)
    assert (found.rows.different, due(found)) == (100, {"device": "shown"})
    assert [swap.said for swap in found.swaps] == ["on the CPU of this machine"]


def test_a_published_file_that_was_altered_is_shown(place, data, bundle, tmp_path):
    score(plain_job(tmp_path / "w", data, bundle))
    file = manifests(tmp_path / "w")["day=2026-01-01"].files[0]
    path = tmp_path / "w" / file.staged
    table, footer = pq.read_table(path), pq.read_metadata(path).metadata
    table = changed(table, "score", {5: 0.25})
    path.unlink()
    with pq.ParquetWriter(path, table.schema) as writer:
        writer.add_key_value_metadata({k: v for k, v in footer.items() if k != b"ARROW:schema"})
        writer.write_table(table)
    found = again(tmp_path / "w")
    assert (found.rows.different, due(found)) == (1, {"published file": "shown"})
    assert "scoring verify" in render(found)


def test_requeued_rows_are_compared_by_the_run_that_let_them_in(place, data, bundle, tmp_path):
    score(plain_job(tmp_path / "w", data, bundle, source__slice_rows=240))
    wider = plain_job(tmp_path / "w", data, bundle, contract__columns={"amount": WIDE}, run_id="second")
    record = requeue(build(Job, wider), yaml.safe_dump(wider), Quiet(), lambda: None)
    assert record.rows["scored"] == 4
    found = again(tmp_path / "w", "second")
    assert_reproduced(found, 4)
    assert any(RUN in note for note in found.notes)
    found = again(tmp_path / "w")
    assert_reproduced(found, 952)
    assert any("second" in note for note in found.notes)


def test_a_version_that_was_replaced_is_compared_and_said_to_be(place, data, bundle, tmp_path):
    score(plain_job(tmp_path / "w", data, bundle))
    other = workload.tabular(tmp_path / "other", version="2", seed=1)
    score(plain_job(tmp_path / "w", data, other, run_id="newer", release__on_change="rescore"))
    found = again(tmp_path / "w")
    assert_reproduced(found, 952)
    assert all("was replaced; version 2 of run newer is what readers see" in note for note in found.notes)
    found = again(tmp_path / "w", "newer")
    assert_reproduced(found, 952)
    assert found.notes == ()


def test_a_run_that_is_not_there_or_published_nothing_is_named(place, data, bundle, tmp_path):
    with pytest.raises(ConfigError, match=f"There is no run 'the-rum'.*Nearest: {RUN}"):
        again(place / "w", "the-rum")
    given = plain_job(tmp_path / "w", data, bundle, release__max_bad_rows=0)
    assert run(build(Job, given), yaml.safe_dump(given), Quiet()).status == "held"
    with pytest.raises(ConfigError, match=r"Run the-run \(held\) published no scores"):
        again(tmp_path / "w")
    with pytest.raises(ConfigError, match="published no scores of day=1999"):
        again(place / "w", partition="day=1999-01-01")


def test_code_that_only_the_kept_configuration_names_is_not_run(place):
    path = place / "w" / "runs" / RUN / "config.yaml"
    kept_as = path.read_bytes()
    try:
        path.write_text(yaml.safe_dump(yaml.safe_load(kept_as) | {"model": {"bundle": "b", "module": "evil:Evil"}}))
        with pytest.raises(ConfigError, match="names the code evil:Evil, and the manifests do not"):
            again(place / "w")
    finally:
        path.write_bytes(kept_as)
