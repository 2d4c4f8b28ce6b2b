"""Jobs over texts: killed and resumed, cut and shared out in any way, they publish the same bytes; real texts go through."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from random import Random
from typing import Any

import foreign
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from chaos import Drivers, Published, staged, until
from workload import DATA, Quiet, plain_job, score_bytes

from scoring.__main__ import kept
from scoring.errors import ChangedError
from scoring.jobs.arguments import Given
from scoring.jobs.import_text import command
from scoring.jobs.replay import replay
from scoring.jobs.run import run
from scoring.settings import Job, build
from scoring.sinks.reader import read_scores


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    pooling = ("Pooling", {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}, None)
    foreign.sentence(foreign.bert(folder / "theirs"), pooling, ("Normalize", {}, None))
    command(Given("models import-text", {"path": str(folder / "theirs"), "out": str(folder / "ours")}, frozenset()))
    return folder / "ours"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty row groups in two days: lengths of all sizes, duplicates, nulls, bytes that are no text."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(4)
    for day in (1, 2):
        texts = [" ".join(rng.choice(foreign.WORDS, n)) for n in rng.integers(0, 40, 1000)]
        raw: list[bytes | None] = [text.encode() for text in texts]
        raw[3::50], raw[7] = [None] * len(raw[3::50]), b"not \xff utf-8"
        for start in range(0, 1000, 50):
            raw[start + 30 : start + 50] = raw[start + 10 : start + 30]
        lies: Any = pa.array(raw, pa.binary()).view(pa.string())
        table = pa.table({"id": pa.array(range(1000)), "text": lies})
        (folder / f"day=2026-01-0{day}").mkdir()
        pq.write_table(table, folder / f"day=2026-01-0{day}/f.parquet", row_group_size=50)
    return folder


def job(workspace: Path, source: Path, bundle: Path, **changes: Any) -> dict[str, Any]:
    given = plain_job(workspace, source, bundle, **changes)
    given["source"]["carry"] = ["id"]
    return given | {"contract": {}}


@pytest.fixture(scope="module")
def undisturbed(data: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Published:
    workspace = tmp_path_factory.mktemp("undisturbed")
    record = run(build(Job, job(workspace, data, bundle)), "", Quiet())
    assert record.rows == {"in": 2000, "scored": 1998, "quarantined": 2, "suppressed": 0}
    assert record.work["texts"] == 1998
    assert record.work["unique_texts"] < 1300
    assert record.work["tokens"] > 0
    return Published.of(workspace)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_in_the_middle(seed: int, data: Path, bundle: Path, undisturbed: Published, tmp_path: Path) -> None:
    rng = Random(seed)
    with Drivers(tmp_path / "log") as drivers:

        def strike(pid: int, ended: Any) -> None:
            wanted = rng.randrange(2, 30)
            until(lambda: staged(tmp_path / "ws") >= wanted or ended(), "the moment to kill the driver")
            if not ended():
                os.kill(pid, 9)

        given = job(tmp_path / "ws", data, bundle)
        assert drivers.run(given, strike) in (0, -9), drivers.said()
        assert drivers.run(given) == 0, drivers.said()
    Published.of(tmp_path / "ws").same_as(undisturbed)


@pytest.mark.parametrize(
    "changes", [{"engine__window_rows": 7}, {"source__slice_rows": 100_000}, {"engine__batch": {"budget": 64}}]
)
def test_any_cut_gives_the_same_bytes(
    changes: dict[str, Any], data: Path, bundle: Path, undisturbed: Published, tmp_path: Path
) -> None:
    run(build(Job, job(tmp_path, data, bundle, **changes)), "", Quiet())
    assert score_bytes(tmp_path) == undisturbed.scores


def test_lanes_of_ray_give_the_same_bytes(cluster: Any, data: Path, bundle: Path, undisturbed: Published, tmp_path: Path) -> None:
    given = job(tmp_path, data, bundle, engine__kind="ray", engine__address=cluster.address, engine__lanes=2)
    run(build(Job, given), "", Quiet())
    assert score_bytes(tmp_path) == undisturbed.scores


def test_another_precision_is_another_score(data: Path, bundle: Path, tmp_path: Path) -> None:
    """It is refused beside what was published, replaces it where that is asked for, and can be shown again to the bit."""
    day = data / "day=2026-01-01"
    full, half = (job(tmp_path, day, bundle, model__precision=one) for one in ("auto", "bf16"))
    run(build(Job, full), yaml.safe_dump(full), Quiet())
    before = score_bytes(tmp_path)
    for given in (half, half | {"run_id": "second"}):
        with pytest.raises(ChangedError, match=r"published already and model\.precision changed"):
            run(build(Job, given), "", Quiet())
    again = half | {"run_id": "second", "release": {"on_change": "rescore"}}
    run(build(Job, again), yaml.safe_dump(again), Quiet())
    assert score_bytes(tmp_path) != before
    found = replay(str(tmp_path), "second", kept)
    assert (found.status, found.causes) == ("reproduced", ())
    with pytest.raises(ChangedError, match="run_id second belongs to a run with another model, precision"):
        run(build(Job, full | {"run_id": "second", "release": {"on_change": "rescore"}}), "", Quiet())


@pytest.mark.parametrize("budget", [64, 5000])
def test_any_cut_gives_the_same_bytes_in_bfloat16(budget: int, data: Path, bundle: Path, tmp_path: Path) -> None:
    day = data / "day=2026-01-01"
    for name, changes in {"whole": {}, "cut": {"engine__batch": {"budget": budget}, "engine__window_rows": 130}}.items():
        given = job(tmp_path / name, day, bundle, model__precision="bf16", source__slice_rows=100_000, **changes)
        run(build(Job, given), "", Quiet())
    assert score_bytes(tmp_path / "cut") == score_bytes(tmp_path / "whole")


@pytest.mark.skipif(not DATA.exists(), reason="the real data are not here")
def test_real_tweets_from_csv(bundle: Path, tmp_path: Path) -> None:
    """Emoji, newlines within quotes, ids beyond 2^53."""
    (tmp_path / "tweets.csv").write_bytes(gzip.decompress((DATA / "text/fight_tweets/tweets.csv.gz").read_bytes()))
    given = job(tmp_path / "ws", tmp_path / "tweets.csv", bundle)
    given["source"] = {"kind": "csv", "path": str(tmp_path / "tweets.csv"), "carry": ["id"]}
    record = run(build(Job, given), "", Quiet())
    assert record.rows["in"] == record.rows["scored"] == 12_118
    vectors = np.stack(read_scores(str(tmp_path / "ws")).collect()["embedding"].to_numpy())
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
