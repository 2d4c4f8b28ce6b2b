"""Drift on dated data that nobody made up: a model and a baseline from the first periods, then every later period through a run.

    python benchmarks/drift_real.py --data ../shared/data

Writes the second table of docs/drift.md. Everything goes the way of a user: Parquet by periods, a bundle fitted on the first ones,
`scoring baseline`, `scoring run engine=inline`; what is counted comes from record.json.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from scoring.jobs import baseline
from scoring.jobs.arguments import words
from scoring.jobs.run import run
from scoring.models.train import Recipe, Target, fit
from scoring.respond.progress import ProgressWatcher
from scoring.settings import WATCHED, Job, build
from scoring.types import RunRecord

ROOT = Path(__file__).parents[1]
DOC, BEGIN, END = ROOT / "docs/drift.md", "<!-- made by benchmarks/drift_real.py -->", "<!-- end of real data -->"


@dataclass(frozen=True)
class Series:
    """`frame` has a column `period`; periods up to `last_training` make the model and the baseline, the others are scored."""

    name: str
    frame: pl.DataFrame
    last_training: str
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    target: str


def bike_sharing(data: Path) -> Series:
    """Hours of rides in Washington; months of 2012 beside the year 2011."""
    frame = pl.read_csv(data / "time/bike_sharing/hour.csv.gz").with_columns(day=pl.col("dteday").str.to_date("%d-%m-%Y"))
    frame = frame.with_columns(period=pl.col("day").dt.strftime("%Y-%m"), weathersit=pl.col("weathersit").cast(pl.String))
    numeric = ("hr", "temp", "atemp", "hum", "windspeed", "casual", "registered")
    return Series("bike_sharing, by month of 2012", frame, "2011-12", numeric, ("weathersit",), "cnt")


def fremont(data: Path) -> Series:
    """Hourly bicycles on a bridge in Seattle; months from 2013-11 beside the first year."""
    frame = pl.read_csv(data / "time/fremont_bridge/Fremont_Bridge.csv.gz").rename(
        {"Fremont Bridge West Sidewalk": "west", "Fremont Bridge East Sidewalk": "east"}
    )
    frame = frame.with_columns(at=pl.col("Date").str.to_datetime("%m/%d/%Y %I:%M:%S %p")).drop_nulls(["east"])
    frame = frame.with_columns(
        period=pl.col("at").dt.strftime("%Y-%m"), hour=pl.col("at").dt.hour().cast(pl.Int32), weekday=pl.col("at").dt.strftime("%a")
    )
    return Series("fremont_bridge, by month", frame, "2013-10", ("west", "hour"), ("weekday",), "east")


def flights(data: Path) -> Series:
    """Departures from New York in 2013; days from April beside the first quarter."""
    frame = pl.read_parquet(data / "time/nycflights13/flights.parquet").with_columns(
        period=pl.date("year", "month", "day").dt.strftime("%Y-%m-%d"), late=(pl.col("arr_delay").fill_null(0) > 15).cast(pl.Int64)
    )
    numeric = ("dep_delay", "air_time", "distance", "hour")
    return Series("nycflights13, by day from April", frame, "2013-03-31", numeric, ("carrier", "origin", "dest"), "late")


def covid(data: Path) -> Series:
    """The same table as published on four dates; the last 60 days of each, beside those of the first vintage."""
    parts = []
    for path in sorted((data / "time/covid_vintages").glob("*.csv.gz")):
        vintage = pl.read_csv(path, infer_schema_length=None, try_parse_dates=True).with_columns(
            period=pl.lit(path.name.removeprefix("combined_asof_").removesuffix(".csv.gz"))
        )
        parts.append(vintage.filter(pl.col("Date") > pl.col("Date").max() - pl.duration(days=60)))
    frame = pl.concat(parts, how="vertical_relaxed").rename({"Country/Region": "country", "Province/State": "province"})
    frame = frame.with_columns(pl.col("Confirmed", "Recovered").cast(pl.Float64), many=(pl.col("Deaths") > 500).cast(pl.Int64))
    return Series("covid_vintages, by vintage", frame, "2020-11-07", ("Confirmed", "Recovered"), ("country", "province"), "many")


def bank(data: Path) -> Series:
    """Calls of a bank in order of date, May 2008 to November 2010, in blocks of 1,000; beside the first 10,000."""
    frame = pl.read_csv(
        data / "tabular/bank_marketing/bank-additional-full.csv.gz", separator=";", infer_schema_length=None
    ).with_row_index("row")
    frame = frame.with_columns(
        period=(pl.col("row") // 1_000).cast(pl.String).str.zfill(2), yes=(pl.col("y") == "yes").cast(pl.Int64)
    )
    frame = frame.rename({"cons.price.idx": "prices", "nr.employed": "employed"})
    numeric = ("age", "campaign", "previous", "euribor3m", "prices", "employed")
    return Series("bank_marketing, by block of 1,000 calls", frame, "09", numeric, ("job", "contact", "month", "poutcome"), "yes")


SERIES: tuple[Callable[[Path], Series], ...] = (bike_sharing, fremont, flights, covid, bank)


def score(series: Series, folder: Path) -> RunRecord:
    """Fit, make the baseline, run over all later periods."""
    columns = [*series.numeric, *series.categorical]
    early = pl.col("period") <= series.last_training
    training, later = series.frame.filter(early), series.frame.filter(~early)
    for name, frame in (("training", training), ("later", later)):
        for (period,), part in frame.group_by("period", maintain_order=True):
            place = folder / name / f"period={period}"
            place.mkdir(parents=True)
            part.select([*columns, series.target]).write_parquet(place / "part.parquet", use_pyarrow=True)
    kind = "binary" if training[series.target].n_unique() == 2 else "regression"
    table = training.select([*columns, series.target]).to_arrow(compat_level=pl.CompatLevel.oldest())
    given: dict[str, Any] = {"numeric": series.numeric, "categorical": series.categorical, "recipe": Recipe(epochs=2)}
    fit(table, folder / "bundle", targets={"score": Target(series.target, kind)}, **given)
    baseline.command(words("baseline", [str(folder / "training"), f"bundle={folder / 'bundle'}"]))
    job = {
        "workspace": str(folder / "workspace"),
        "source": {"kind": "parquet", "path": str(folder / "later")},
        "model": {"bundle": str(folder / "bundle")},
        "engine": {"kind": "inline"},
        "release": {"max_bad_share": None},
    }
    with ProgressWatcher(None) as watcher:
        return run(build(Job, job), "", watcher)


def rows(record: RunRecord) -> list[str]:
    """One line for each column: in how many periods it was found, and what the last of them says."""
    found: Counter[tuple[str, str]] = Counter()
    said: dict[tuple[str, str], str] = {}
    for partition in record.partitions:
        for check in partition.checks:
            if check.name in WATCHED and check.status in ("warn", "fail"):
                found[check.name, check.subject] += 1
                said[check.name, check.subject] = check.actual
    return [f"| `{subject}` | {name} | {n} | {said[name, subject]} |" for (name, subject), n in found.most_common()]


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    given = ask.parse_args()
    lines: list[str] = []
    for make in SERIES:
        series = make(given.data)
        with tempfile.TemporaryDirectory() as folder:
            record = score(series, Path(folder))
        flagged = sum(any(c.name in WATCHED and c.status in ("warn", "fail") for c in p.checks) for p in record.partitions)
        table = ["| column | check | periods | the last of them |", "|---|---|---:|---|", *rows(record)]
        lines += [f"**{series.name}**: something found in {flagged} of {len(record.partitions)}.", "", *table, ""]
        print(series.name, flagged, len(record.partitions), *table, sep="\n")
    head, _, rest = DOC.read_text().partition(BEGIN)
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines))
    DOC.write_text(f"{head}{BEGIN}\n\n{text}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
