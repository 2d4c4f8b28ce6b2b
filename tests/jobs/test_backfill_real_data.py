"""Real restatements and a real year, counted by pyarrow alone beside what the project says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import daily
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from scoring.jobs.backfill import backfill
from scoring.jobs.backfills.account import BackfillRecord
from scoring.ledger.chain import verify
from scoring.models.train import Recipe, Target, fit
from scoring.stores import open_store

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared/data/time"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the data are not on this machine")

VINTAGES = ("2020-11-07", "2020-12-27", "2021-02-16", "2021-03-13")
YEAR = {"start": "2013-01-01", "end": "2014-01-01"}


def vintage(as_of: str, first: str, last: str) -> dict[str, pa.Table]:
    """Rows of a vintage by date."""
    table = pa_csv.read_csv(DATA / f"covid_vintages/combined_asof_{as_of}.csv.gz")
    names = {"Country/Region": "country", "Province/State": "province", "Confirmed": "confirmed", "Deaths": "deaths", "Date": "on"}
    table = table.select(list(names)).rename_columns(list(names.values()))
    wanted = pc.and_(pc.greater_equal(table["on"], date.fromisoformat(first)), pc.less(table["on"], date.fromisoformat(last)))
    table = table.filter(wanted)
    days = table["on"].cast(pa.string()).to_numpy(zero_copy_only=False)
    return {str(day): table.filter(pa.array(days == day)).drop_columns(["on"]) for day in np.unique(days)}


def fed(folder: Path, rows: dict[str, pa.Table]) -> None:
    """The whole table is written anew, as such publishers do: every file gets a new time, few get new content."""
    for day, table in rows.items():
        daily.write(folder, day, table)


@pytest.mark.parametrize(
    ("first", "last"),
    [("2020-10-01", "2020-11-01"), pytest.param("2020-01-22", "2021-03-13", marks=pytest.mark.slow)],
    ids=["a month", "all"],
)
def test_vintages_score_again_exactly_the_dates_that_changed(first: str, last: str, tmp_path: Path) -> None:
    data, before = tmp_path / "data", {}
    given = None
    for as_of in VINTAGES:
        rows = vintage(as_of, first, last)
        changed = {day for day, table in rows.items() if day not in before or not table.equals(before[day])}
        fed(data, rows)
        given = given or covid_job(rows[first], data, tmp_path)
        record, _ = backfill(given, "", {"start": first, "end": last, "which": "missing,stale"}, daily.quiet)
        published = {one.key.removeprefix("date=") for one in record.intervals if one.status == "published"}
        assert published == changed
        assert record.rows["in"] == sum(rows[day].num_rows for day in changed) == record.rows["scored"]
        news = {one.key.removeprefix("date="): one.why for one in record.intervals if one.status == "published"}
        assert news == {day: ("input",) if day in before else () for day in changed}
        assert record.exit_code == 0
        before = rows
    assert len(before) == (date.fromisoformat(last) - date.fromisoformat(first)).days
    assert verify(open_store(str(tmp_path / "w"))).ok


def covid_job(rows: pa.Table, data: Path, folder: Path) -> daily.Job:
    table = rows.append_column("label", pc.greater(rows["confirmed"], 1000))
    recipe = Recipe(epochs=1, batch_rows=64)
    fit(
        table,
        folder / "bundle1",
        numeric=["confirmed", "deaths"],
        categorical=[],
        targets={"score": Target("label")},
        recipe=recipe,
    )
    (folder / "bundle2").symlink_to(folder / "bundle1")
    return daily.job(folder, data, folder / "w", source__carry=["country", "province"], source__fingerprint="content")


def flights(folder: Path, days: int) -> tuple[Path, dict[str, int]]:
    """Days of flights from New York in 2013 and their rows, two bundles."""
    table = pq.read_table(DATA / "nycflights13/flights.parquet")
    place = pc.add(pc.multiply(table["month"], 100), table["day"]).to_numpy()
    counts = {}
    for n in range(days):
        day = date(2013, 1, 1) + timedelta(days=n)
        rows = table.filter(pa.array(place == day.month * 100 + day.day))
        daily.write(folder / "data", str(day), rows)
        counts[str(day)] = rows.num_rows
    train = table.slice(0, 4000)
    train = train.append_column("late", pc.fill_null(pc.greater(train["arr_delay"], 15), False))
    for seed in (1, 2):
        recipe = Recipe(epochs=1, batch_rows=512, seed=seed)
        numeric, targets = ["distance", "hour", "month"], {"score": Target("late")}
        fit(
            train,
            folder / f"bundle{seed}",
            numeric=numeric,
            categorical=["carrier", "origin"],
            targets=targets,
            version=str(seed),
            recipe=recipe,
        )
    return folder, counts


@pytest.mark.slow
def test_a_year_of_flights_killed_in_the_middle_resumed_and_made_stale(tmp_path: Path) -> None:
    place, counts = flights(tmp_path, 365)
    given = daily.job(place, place / "data", tmp_path / "w", source__carry=["flight"])
    words = ["source=parquet", f"source.path={place}/data", f"model.bundle={place}/bundle1", "engine=inline", "watch=off"]
    words += [f"workspace={tmp_path}/w", "source.carry=[flight]", "hardware=cpu", *(f"{k}={v}" for k, v in YEAR.items())]
    line = [sys.executable, "-m", "scoring", "backfill", *words, "--json"]
    killed = subprocess.Popen(line, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    manifests = tmp_path / "w/scores/_manifests"
    while len(list(manifests.glob("*/v*.json"))) < 150:
        assert killed.poll() is None
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    done = len(list(manifests.glob("*/v*.json")))
    staged = {path.name for path in (tmp_path / "w/runs").glob("*/staged/*.parquet")}
    assert 150 <= done < 365
    resumed = subprocess.run(
        line, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=500, check=False
    )
    record = json.loads(resumed.stdout)
    assert (resumed.returncode, record["counts"], len(record["runs"])) == (
        0,
        {"as they are": done, "published": 365 - done},
        1,
    )
    assert staged <= {path.name for path in (tmp_path / "w/runs" / record["runs"][0] / "staged").glob("*.parquet")}
    assert {m.key[5:]: m.counts["scored"] for m in daily.manifests(tmp_path / "w")} == counts
    assert set(daily.versions(tmp_path / "w").values()) == {1}
    assert year(given, which="failed").counts == {"as they are": 365}
    other = daily.job(place, place / "data", tmp_path / "w", "2", source__carry=["flight"])
    assert [one.why for one in year(other, which="stale").intervals] == [("model",)] * 365
    strict = {"contract__columns": {"distance": {"dtype": "float64", "min": 0.0}}}
    ruled = daily.job(place, place / "data", tmp_path / "w", source__carry=["flight"], **strict)
    assert [one.why for one in year(ruled, which="stale").intervals] == [("contract",)] * 365


def year(given: daily.Job, **words: str) -> BackfillRecord:
    return daily.plan(given, YEAR | words)
