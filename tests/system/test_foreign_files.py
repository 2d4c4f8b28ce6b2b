"""Files that nobody here wrote, through the whole command: each is scored or named with its reason, and no traceback is seen."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from workload import DATA, ROOT, RUN, assert_sound, manifests

from scoring.models.train import Recipe, Target, fit
from scoring.parts import part
from scoring.settings import Source
from scoring.sinks.reader import read_scores
from scoring.sinks.staged import find
from scoring.sources.discover import partitions
from scoring.sources.slices import plan
from scoring.stores import open_store

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the data are not on this machine")

TOO_LARGE = {"large_string_map.brotli.parquet"}  # valid, and more than 8 GiB in memory
ADULT = (
    "age workclass fnlwgt education education_num marital_status occupation relationship race sex"
    " capital_gain capital_loss hours country label"
)
COMMON = {"parquet": ("id", "int64"), "ipc": ("utf8_nullable", "string"), "csv": ("a", "string"), "jsonl": ("a", "float64")}


def scoring(*given: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    found = subprocess.run(
        [sys.executable, "-m", "scoring", *given],
        capture_output=True,
        text=True,
        env=kept | {"PYTHONPATH": str(ROOT)},
        timeout=400,
        check=False,
    )
    assert "Traceback" not in found.stdout + found.stderr
    return found


def one_column(folder: Path, name: str, dtype: str) -> Path:
    """A bundle whose only input is this column."""
    values = np.arange(200) % 7
    column = pa.array(values.astype(str) if dtype == "string" else values).cast(dtype)
    table = pa.table({name: column, "label": values > 3})
    kinds: dict[str, Any] = {"numeric": [], "categorical": [name]} if dtype == "string" else {"numeric": [name], "categorical": []}
    fit(table, folder, **kinds, targets={"score": Target("label")}, recipe=Recipe(epochs=1))
    return folder


@pytest.fixture(scope="module")
def pile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All files of all corpora in one folder, under names of their own."""
    folder = tmp_path_factory.mktemp("pile")
    corpus = DATA / "malformed"
    for path in sorted(corpus.rglob("*")):
        if path.is_file() and path.name not in TOO_LARGE:
            (folder / str(path.relative_to(corpus)).replace("/", "__")).symlink_to(path)
    assert len(os.listdir(folder)) > 900
    return folder


@pytest.mark.parametrize("column", ["common", pytest.param("rare", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["csv", *(pytest.param(k, marks=pytest.mark.slow) for k in ("ipc", "jsonl", "parquet"))])
def test_every_malformed_file_is_scored_or_named(kind: str, column: str, pile: Path, tmp_path: Path) -> None:
    name, dtype = COMMON[kind] if column == "common" else ("there is no such column", "float64")
    bundle = one_column(tmp_path / "bundle", name, dtype)
    workspace = tmp_path / "ws"
    given = [
        f"source={kind}",
        f"source.path={pile}/*",
        f"source.carry=[{'dict0,bool_nullable' if kind == 'ipc' else 'id,b'}]",
        "source.slice_rows=1",
        f"model.bundle={bundle}",
        f"workspace={workspace}",
        f"run_id={RUN}",
        "engine=inline",
        "hardware=cpu",
        "release.max_bad_share=null",
        r"contract.limits={schema\:missing: {level: warn}}",
    ]
    done = scoring("run", *given, "--json")
    assert done.returncode == (0 if column == "common" else 65), done.stderr[-2000:]
    record = json.loads(done.stdout)
    assert record["status"] == ("published-with-warnings" if column == "common" else "held")
    assert record["rows"]["in"] == record["rows"]["scored"] + record["rows"]["quarantined"]
    if column == "rare":
        failed = {check["name"] for check in record["partitions"][0]["checks"] if check["status"] == "fail"}
        assert (failed, len(record["bad_files"]) > 100) == ({"readable"}, True)
        return
    assert_sound(workspace)
    scored, named = by_file(kind, pile, workspace)
    fate = Counter(fate_of(path, scored, named) for path in map(str, pile.iterdir()))
    assert fate["unaccounted"] == 0
    reached = fate["scored"] + fate["scored and named"]
    assert reached >= {"parquet": 20, "ipc": 2, "csv": 30, "jsonl": 1}[kind]
    assert all(reason and reason.isprintable() for reasons in named.values() for reason in reasons)
    assert {path for path in named} >= {bad["path"] for bad in record["bad_files"]}
    shown = scoring("quarantine", f"workspace={workspace}")
    assert shown.returncode == 0, shown.stderr


def by_file(kind: str, pile: Path, workspace: Path) -> tuple[dict[str, tuple[int, int]], dict[str, list[str]]]:
    """(rows in, rows scored) of every file by the receipts of its slices, and the reasons that the quarantine gives for it."""
    store, source = open_store(str(workspace)), Source(kind, f"{pile}/*", slice_rows=1)
    scored: dict[str, tuple[int, int]] = {}
    for partition in partitions(source, part("sources", kind).SUFFIXES):
        for work in plan(partition, source):
            receipt = find(store, RUN, work.id)
            assert receipt is not None, work
            files = {fragment.path for fragment in work.fragments}
            for path in files:
                before = scored.get(path, (0, 0))
                share = (receipt.rows_in, receipt.counts.scored)
                scored[path] = (before[0] + share[0], before[1] + share[1])
    named: dict[str, list[str]] = {}
    for manifest in manifests(workspace).values():
        for file in manifest.quarantine:
            table = pq.ParquetFile(store.open_path(file.path)).read(["_source_file", "_reasons"])
            for path, reasons in zip(table["_source_file"].to_pylist(), table["_reasons"].to_pylist(), strict=True):
                named.setdefault(path, []).extend(reasons)
    return scored, named


def fate_of(path: str, scored: dict[str, tuple[int, int]], named: dict[str, list[str]]) -> str:
    rows_in, rows_scored = scored.get(path, (-1, 0))
    if rows_scored:
        return "scored and named" if path in named else "scored"
    if path in named:
        return "named"
    return "without rows" if rows_in == 0 else "unaccounted"


def test_adult(tmp_path: Path) -> None:
    """CSV without a header line, blanks after commas, "?" for null: trained on one file, scoring the other."""
    names = ADULT.split()
    text = gzip.decompress((DATA / "tabular/adult/adult-test.csv.gz").read_bytes())
    frame = pl.read_csv(text, has_header=False, new_columns=names).with_columns(
        pl.col(pl.String).str.strip_chars().replace("?", None)
    )
    frame = frame.with_columns(label=pl.col("label").str.contains(">50K"))
    numeric = ["age", "education_num", "capital_gain", "capital_loss", "hours"]
    categorical = ["workclass", "marital_status", "occupation", "sex", "country"]
    frame = frame.with_columns(pl.col(numeric).cast(pl.Int64)).drop_nulls("label")
    fit(plain(frame), tmp_path / "bundle", numeric=numeric, categorical=categorical, targets={"score": Target("label")})
    given = [
        "source=csv",
        f"source.path={DATA}/tabular/adult/adult-train.csv.gz",
        "source.csv.header=false",
        f"source.csv.names=[{','.join(names)}]",
        "source.csv.strip=true",
        "source.csv.null_values=['?']",
        "source.carry=[age,label]",
        f"model.bundle={tmp_path}/bundle",
        f"workspace={tmp_path}/ws",
        "contract.columns.age={dtype: int64, nullable: false, min: 17, max: 80}",
        "engine=inline",
    ]
    done = scoring("run", *given, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["rows"] == {"in": 32_561, "scored": 32_462, "quarantined": 99, "suppressed": 0}
    assert record["reasons"] == {"admit:age:range": 99}
    found = read_scores(str(tmp_path / "ws")).collect()
    label = found["label"].str.contains(">50K").to_numpy()
    assert auc(found["score"].to_numpy(), label) > 0.88
    assert_sound(tmp_path / "ws")


@pytest.mark.slow
def test_flights_by_day_on_ray(tmp_path: Path) -> None:
    """Two months of departures, a Hive partition a day: nested keys, nulls, the hour 2400."""
    flights = pl.read_parquet(DATA / "time/nycflights13/flights.parquet").filter(pl.col("month") <= 2).with_row_index("row")
    for (month, day), part_of in flights.group_by(["month", "day"]):
        place = tmp_path / f"data/month={month:02d}/day={day:02d}/flights.parquet"
        place.parent.mkdir(parents=True)
        part_of.drop("month", "day").write_parquet(place, row_group_size=400)
    january = flights.filter(pl.col("month") == 1, pl.col("arr_delay").is_not_null()).with_columns(late=pl.col("arr_delay") > 15)
    table = plain(january.select("dep_time", "flight", "distance", "carrier", "origin", "dest", "late"))
    numeric, categorical = ["dep_time", "flight", "distance"], ["carrier", "origin", "dest"]
    fit(
        table,
        tmp_path / "bundle",
        numeric=numeric,
        categorical=categorical,
        targets={"late": Target("late")},
        recipe=Recipe(epochs=1),
    )
    given = [
        "source=parquet",
        f"source.path={tmp_path}/data",
        "source.carry=[row,tailnum]",
        "source.slice_rows=500",
        f"model.bundle={tmp_path}/bundle",
        f"workspace={tmp_path}/ws",
        "contract.columns.dep_time={dtype: int64, min: 0, max: 2359}",
        "engine.lanes=2",
        "hardware=cpu",
        "hardware.memory_per_lane_gb=0.3",
    ]
    done = scoring("run", *given, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    midnight = flights.filter(pl.col("dep_time") == 2400).height
    assert record["rows"] == {"in": flights.height, "scored": flights.height - midnight, "quarantined": midnight, "suppressed": 0}
    assert record["reasons"] == {"admit:dep_time:range": midnight}
    found = read_scores(str(tmp_path / "ws")).collect()
    assert sorted(found["row"]) == sorted(flights.filter(pl.col("dep_time").ne_missing(2400))["row"])
    kept = found.join(flights.select("row", month_was="month", day_was="day", tail_was="tailnum"), on="row")
    assert (kept["month"].cast(pl.Int64) == kept["month_was"]).all()
    assert (kept["day"].cast(pl.Int64) == kept["day_was"]).all()
    assert kept["tailnum"].eq_missing(kept["tail_was"]).all()
    assert_sound(tmp_path / "ws")


def plain(frame: pl.DataFrame) -> pa.Table:
    """With Arrow's ordinary strings."""
    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    return table.cast(pa.schema([f.with_type(pa.string()) if pa.types.is_large_string(f.type) else f for f in table.schema]))


def auc(scores: Any, truth: Any) -> float:
    """The chance that a positive row scores above a negative one (rank sum)."""
    order = np.argsort(scores)
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(1, len(scores) + 1)
    positive = int(truth.sum())
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * (len(truth) - positive)))
