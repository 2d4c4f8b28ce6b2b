"""Real files that nobody here wrote, from source to admitted rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scoring.admit.rules import admit, compile_rules
from scoring.parts import part
from scoring.settings import Column, Csv, Source
from scoring.sources.discover import partitions
from scoring.sources.slices import plan

DATA = Path(__file__).parents[2].parent / "shared/data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the data are not on this machine")

ADULT = (
    "age workclass fnlwgt education education_num marital_status occupation relationship race sex"
    " capital_gain capital_loss hours country label"
)


def admitted(source: Source, columns: dict[str, Column]) -> tuple[int, int, dict[str, int], int]:
    """Good rows, bad rows, reasons, lines that were no rows."""
    module, rules = part("sources", source.kind), compile_rules(columns, True)
    good = bad = lines = 0
    reasons: dict[str, int] = {}
    for partition in partitions(source, module.SUFFIXES):
        for work in plan(partition, source):
            assert work.fault is None
            for fragment in work.fragments:
                for window in module.read(fragment, list(columns), 65_536, source):
                    done = admit(window.batch, rules)
                    good, bad, lines = good + done.good.num_rows, bad + len(done.bad), lines + len(window.rejected)
                    for row in done.reasons:
                        for reason in row:
                            reasons[reason] = reasons.get(reason, 0) + 1
    return good, bad, reasons, lines


def adult(**more: Any) -> Source:
    form = Csv(header=False, names=tuple(ADULT.split()), null_values=("?",), **more)
    return Source("csv", str(DATA / "tabular/adult/adult-train.csv.gz"), csv=form)


def test_adult_reads_whole_once_blanks_are_stripped() -> None:
    columns = {
        "age": Column("float32", False, 17, 90),
        "fnlwgt": Column("int64"),
        "workclass": Column("string"),
        "country": Column("string"),
    }
    assert admitted(adult(strip=True), columns) == (32_561, 0, {}, 0)
    strict = {"workclass": Column("string", nullable=False), "occupation": Column("string", nullable=False)}
    _, bad, reasons, _ = admitted(adult(strip=True), strict)
    assert reasons == {"workclass:null": 1836, "occupation:null": 1843}
    assert bad == 1843


def test_adult_with_its_blanks_is_no_number() -> None:
    good, bad, reasons, _ = admitted(adult(), {"fnlwgt": Column("int64")})
    assert (good, bad) == (0, 32_561)
    assert reasons == {"fnlwgt:type": 32_561}


def test_telco_totals_that_are_a_blank_are_named() -> None:
    source = Source("csv", str(DATA / "tabular/telco_churn/Telco-Customer-Churn.csv"))
    columns = {
        "TotalCharges": Column("float32"),
        "tenure": Column("int32", min=0),
        "gender": Column("string", allowed=("Male", "Female")),
    }
    assert admitted(source, columns) == (7032, 11, {"TotalCharges:type": 11}, 0)


def test_nycflights_parquet() -> None:
    source = Source("parquet", str(DATA / "time/nycflights13/flights.parquet"), slice_rows=100_000)
    columns = {
        "dep_time": Column("int64", min=0, max=2359),
        "arr_delay": Column("float32"),
        "carrier": Column("string", nullable=False),
    }
    good, bad, reasons, _ = admitted(source, columns)
    assert (good + bad, reasons) == (336_776, {"dep_time:range": 29})
    _, bad, reasons, _ = admitted(source, {"arr_delay": Column("float32", nullable=False)})
    assert bad == reasons["arr_delay:null"] == 9430


def test_vega_flights_ipc() -> None:
    source = Source("ipc", str(DATA / "tabular/vega_flights_arrow/flights-200k.arrow"))
    columns = {"delay": Column("float32"), "distance": Column("float32", min=0), "time": Column("float64")}
    assert admitted(source, columns) == (200_000, 0, {}, 0)
