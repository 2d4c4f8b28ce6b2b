"""A model of texts that gives vectors, through the verbs: what a column of lists and an order of items may not break."""

import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import scoring.models
from scoring.errors import ConfigError, ModelError
from scoring.jobs import baseline as verb
from scoring.jobs.arguments import words
from scoring.jobs.erase import erase
from scoring.jobs.requeue import requeue
from scoring.jobs.run import run
from scoring.jobs.verify import verify
from scoring.models.load import load
from scoring.respond.progress import ProgressWatcher
from scoring.respond.summary import render
from scoring.settings import Job, build
from scoring.sinks.reader import read_scores

FAMILIES = str(Path(__file__).parent / "families")
STORES = ("float32", "float16", "int8")
ROWS = 400


@pytest.fixture(scope="module")
def lengths():
    """The family, found as any part is: by its name in the room."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring.models, "__path__", [*scoring.models.__path__, FAMILIES])
        from scoring.models import lengths

        yield lengths
    sys.modules.pop("scoring.models.lengths")
    del scoring.models.lengths


def texts(day: int) -> list[str]:
    """Many twice, two that cannot be scored, each in several rows."""
    rng = np.random.default_rng(day)
    drawn = ["x" * int(n) + str(n % 7) for n in rng.integers(0, 80, ROWS)]
    for place in (3, 5, 200):
        drawn[place] = "boom"
    drawn[7] = drawn[300] = "gone"
    return drawn


@pytest.fixture(scope="module")
def place(lengths, tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for day in (1, 2):
        (folder / "data" / f"date=2026-01-0{day}").mkdir(parents=True)
        table = pa.table({"id": np.arange(ROWS) + day * ROWS, "who": [f"p{n:03d}" for n in range(ROWS)], "text": texts(day)})
        pq.write_table(table, folder / "data" / f"date=2026-01-0{day}" / "f.parquet", row_group_size=90)
    (folder / "training").mkdir()
    pq.write_table(pa.table({"text": [text for text in texts(1) if text != "boom"]}), folder / "training" / "f.parquet")
    for store in STORES:
        lengths.bundle(folder / store, store)
    return folder


def job(place, workspace, store="float32", **groups) -> Job:
    given = {
        "workspace": str(workspace),
        "source": {"kind": "parquet", "path": str(place / "data"), "carry": ["id"], "slice_rows": 150},
        "model": {"bundle": str(place / store)},
        "engine": {"kind": "inline", "batch": {"budget": 500}, "window_rows": 64},
        "hardware": {"memory_per_lane_gb": 0.3, "device": "simulated", "simulated_rows": 300},
    }
    return build(Job, given | groups)


def score(one: Job):
    with ProgressWatcher(None) as watcher:
        return run(one, "", watcher)


def value(frame: pl.DataFrame, store: str) -> np.ndarray:
    vectors = np.array(frame["vector"].to_list(), np.float64)
    return vectors * frame["vector_scale"].to_numpy()[:, None] if store == "int8" else vectors


@pytest.mark.parametrize("store", STORES)
def test_every_row_has_the_vector_of_its_text(lengths, place, tmp_path, store):
    made = verb.command(words("baseline", [str(place / "training"), f"bundle={place / store}", f"out={tmp_path / 'b.json'}"]))[0]
    assert made.reasons == {"score:non-finite": 2}
    record = score(job(place, tmp_path / "w", store, watch={"baseline": str(tmp_path / "b.json")}))
    assert record.rows == {"in": 2 * ROWS, "scored": 2 * ROWS - 10, "quarantined": 10, "suppressed": 0}
    assert record.reasons == {"score:ValueError": 6, "score:non-finite": 4}
    assert sum(record.routes.values()) == 2 * ROWS - 10
    assert record.work["texts"] == 2 * ROWS
    assert record.rates["tokens_per_second"] > 0
    assert f"texts: {record.work['tokens']:,} tokens (" in render(record, "w")
    frame = read_scores(str(tmp_path / "w")).collect()
    wanted = [(i, t) for day in (1, 2) for i, t in enumerate(texts(day), day * ROWS) if t not in ("boom", "gone")]
    assert frame["id"].to_list() == [i for i, _ in wanted]
    exact = np.array([lengths.numbers(t) for _, t in wanted])
    assert np.allclose(frame["score"].to_numpy(), exact[:, 0])
    off = np.abs(value(frame, store) - exact[:, 1:])
    steps = frame["vector_scale"].to_numpy()[:, None] * 0.5 if store == "int8" else 1e-3 if store == "float16" else 1e-6
    assert (off <= steps * 1.0001 + np.abs(exact[:, 1:]) * (5e-4 if store == "float16" else 1e-6)).all()
    assert verify(str(tmp_path / "w")).problems == ()
    for day, record in enumerate(sorted((tmp_path / "w" / "watch" / "records").rglob("*.json")), 1):
        watched = json.loads(record.read_text())["figures"]
        assert watched.keys() == {"volume", "null rate of text", "mean of score"}, "vectors are not watched"
        theirs = frame.filter(pl.col("id") // ROWS == day)["score"]
        assert watched["mean of score"] == pytest.approx(theirs.mean(), abs=1e-3)
    assert score(job(place, tmp_path / "w", store, watch={"baseline": str(tmp_path / "b.json")})).message.startswith("Nothing")


def test_how_windows_and_batches_are_cut_changes_nothing(place, tmp_path):
    cut = {"engine": {"kind": "inline", "batch": {"budget": 7}, "window_rows": 11}}
    whole = {"engine": {"kind": "inline"}, "hardware": {"memory_per_lane_gb": 0.3, "device": "cpu"}}
    score(job(place, tmp_path / "cut", **cut))
    score(job(place, tmp_path / "whole", **whole))
    one, other = (read_scores(str(tmp_path / name)).drop("run_id").collect() for name in ("cut", "whole"))
    assert one.equals(other)


def test_what_was_refused_is_judged_again_and_joins_the_vectors(place, tmp_path):
    short = {"columns": {"text": {"dtype": "string", "nullable": False, "pattern": "^.{0,40}$"}}}
    one = job(place, tmp_path / "w", "int8", contract=short, release={"max_bad_share": None})
    first = score(one)
    assert first.rows["quarantined"] > 100
    with ProgressWatcher(None) as watcher:
        record = requeue(job(place, tmp_path / "w", "int8"), "", watcher, lambda: None)
    assert record.rows["scored"] == first.rows["quarantined"] - 10
    frame = read_scores(str(tmp_path / "w")).collect()
    assert len(frame) == 2 * ROWS - 10
    assert frame["vector"].dtype == pl.Array(pl.Int8, 5)
    assert verify(str(tmp_path / "w")).problems == ()


def test_an_erased_persons_vector_is_gone(place, tmp_path, monkeypatch):
    monkeypatch.setenv("SCORING_PRIVACY_KEY", "5e" * 32)
    direct = {"dtype": "string", "pii": "direct", "treatment": "pseudonymise", "purpose": "test"}
    personal = {"columns": {"who": direct}, "privacy": {"subject": "who"}}
    source = {"kind": "parquet", "path": str(place / "data"), "carry": ["who", "id"]}
    score(job(place, tmp_path / "w", "float16", contract=personal, source=source))
    before = read_scores(str(tmp_path / "w")).collect()
    assert erase(str(tmp_path / "w"), "p009", "asked").proven
    after = read_scores(str(tmp_path / "w")).collect()
    assert len(after) == len(before) - 2
    assert after.equals(before.filter(~pl.col("id").is_in([ROWS + 9, 2 * ROWS + 9])))
    assert verify(str(tmp_path / "w")).problems == ()


def test_carried_columns_may_have_no_name_of_a_scale(place, tmp_path):
    source = {"kind": "parquet", "path": str(place / "data"), "carry": ["vector_scale"]}
    score(job(place, tmp_path / "a", source={**source, "carry": ["id"]}))
    with pytest.raises(ConfigError, match="carry names vector_scale, which is also a column"):
        score(job(place, tmp_path / "w", "int8", source=source))


def test_tables_get_the_columns_that_files_get(place):
    found = load(place / "int8").score(pa.table({"text": ["b", "aa", "b"]}))
    assert found.schema.names == ["score", "vector", "vector_scale"]
    assert found.schema.field("vector").type == pa.list_(pa.int8(), 5)
    assert found["score"].to_pylist() == pytest.approx([0.1, 0.2, 0.1])
    assert load(place / "float16").score(pa.table({"text": pa.array([], pa.string())})).num_rows == 0


def test_a_vector_that_is_not_the_golden_one_is_named_by_its_position(lengths, tmp_path):
    folder = lengths.bundle(tmp_path / "b")
    golden = pq.read_table(folder / "golden.parquet")
    vectors = golden["expected.vector"].to_pylist()
    vectors[2][3] += 0.5
    wrong = golden.set_column(2, "expected.vector", pa.array(vectors, pa.list_(pa.float32(), 5)))
    pq.write_table(wrong, folder / "golden.parquet")
    with pytest.raises(ModelError, match=r"row 2, column 'vector' at position 3 is .*difference 0.5"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: pa.array(v, pa.list_(pa.float32())), "'expected.vector' is list<.*expected fixed_size_list"),
        (lambda v: pa.array(v, pa.list_(pa.float64(), 5)), "expected fixed_size_list<.*float"),
        (lambda v: pa.array([row[:4] for row in v], pa.list_(pa.float32(), 4)), r"expected fixed_size_list<.*\[5\]"),
        (lambda v: pa.array([None, *v[1:]], pa.list_(pa.float32(), 5)), "holds null, expected a vector in every row"),
        (lambda v: pa.array([[None, *v[0][1:]], *v[1:]], pa.list_(pa.float32(), 5)), "'vector' at position 0 is .*expected nan"),
    ],
)
def test_golden_vectors_of_another_type_are_refused(lengths, tmp_path, change, said):
    folder = lengths.bundle(tmp_path / "b")
    golden = pq.read_table(folder / "golden.parquet")
    changed = change(golden["expected.vector"].to_pylist())
    pq.write_table(golden.set_column(2, "expected.vector", changed), folder / "golden.parquet")
    with pytest.raises(ModelError, match=said):
        load(folder)
