"""A first contract from data, and a contract tried on data: what is shown, what is kept back, and the exit code."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
import yaml

from scoring.admit.infer import look, written
from scoring.jobs import contract_check, contract_infer
from scoring.jobs.arguments import words
from scoring.settings import Contract, build

ROWS = 2_000
RNG = np.random.default_rng(0)
PEOPLE = [f"{first} {last}" for first in ("Ada", "Grace", "Alan") for last in ("Lovelace", "Hopper", "Turing", "Church")]
TABLE = pa.table(
    {
        "id": RNG.permutation(ROWS) + 10_000_000,
        "card": [f"c{n:06d}" for n in range(ROWS)],
        "amount": np.round(RNG.lognormal(3, 1, ROWS), 2),
        "debt": pa.array(RNG.normal(-500, 50, ROWS), mask=RNG.random(ROWS) < 0.1),
        "hour": RNG.integers(0, 24, ROWS).astype(np.int8),
        "country": RNG.choice(["DE", "FR", "AT"], ROWS),
        "name": RNG.choice([f"{person} {n}" for person in PEOPLE for n in range(9)], ROWS),
        "when": pa.array(np.arange(ROWS) * 1_000_000, pa.timestamp("us")),
        "odd: name #": RNG.random(ROWS) < 0.5,
        "list": [[1]] * ROWS,
    }
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verbs")
    for n in range(2):
        (folder / "data" / f"date=2026-01-0{n + 1}").mkdir(parents=True)
        pq.write_table(TABLE.slice(n * ROWS // 2, ROWS // 2), folder / "data" / f"date=2026-01-0{n + 1}" / "a.parquet")
    (folder / "csv").mkdir()
    arrow_csv.write_csv(TABLE.drop_columns(["list", "when"]), folder / "csv" / "a.csv")
    return folder


def inferred(*said):
    found, code = contract_infer.command(words("contract infer", list(said)))
    assert code == 0
    return found


def test_what_is_inferred_holds_for_the_data_and_is_a_contract(place):
    found = inferred(str(place / "data"))
    contract = build(Contract, yaml.safe_load(found.contract))
    columns = contract.columns
    assert set(columns) == set(TABLE.column_names) - {"list"}
    assert (columns["hour"].min, columns["hour"].max, columns["hour"].dtype) == (0, 23, "int8")
    assert columns["amount"].min == 0
    assert columns["debt"].min < -700
    assert (columns["debt"].nullable, columns["amount"].nullable) == (True, False)
    assert columns["country"].allowed == ("AT", "DE", "FR")
    assert (columns["id"].role, columns["id"].min) == ("id", None)
    assert columns["card"].pattern == r"[a-z]\d{6}"
    assert "came twice: 'id', 'card', 'when'" in found.contract
    assert "a sample" in found.contract


def test_no_personal_value_is_shown(place):
    text = inferred(str(place / "data")).contract
    assert "lengths 12 to 16" in text
    assert not [value for name in ("name", "card", "id") for value in map(str, TABLE[name].to_pylist()) if value in text]


def test_a_sample_is_bounded_and_says_so(place):
    found = inferred(str(place / "data"), "rows=100")
    assert (found.rows, found.files, found.files_in_all) == (100, 2, 2)
    assert "first rows of 2 of 2 file(s), 100 rows" in found.contract


def test_text_files_are_read_as_what_they_mean(place):
    found = inferred(str(place / "csv"), "source=csv", f"out={place}/csv.yaml")
    columns = build(Contract, yaml.safe_load(Path(found.out).read_text())).columns
    kinds = {name: column.dtype for name, column in columns.items()}
    assert kinds == {
        "id": "int64",
        "card": "string",
        "amount": "float64",
        "debt": "float64",
        "hour": "int64",
        "country": "string",
    } | {
        "name": "string",
        "odd: name #": "bool",
    }
    checked, code = contract_check.command(
        words("contract check", [str(place / "csv"), "source=csv", f"contract={place}/csv.yaml"])
    )
    assert (checked.rows, checked.good, code) == (ROWS, ROWS, 0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (pa.array([None, None], pa.string()), {"dtype": "string", "nullable": True}),
        (pa.array([], pa.int64()), {}),
        (pa.array([float("nan"), float("inf")]), {"dtype": "float64", "nullable": False}),
        (pa.array(["1"] * 99 + ["N/A"]), {"dtype": "int64", "nullable": False}),
        (pa.array(["a", "b"]), {"dtype": "string", "nullable": False}),
        (pa.array([1, 2], pa.timestamp("us", "UTC")), {}),
    ],
)
def test_columns_of_every_kind(values, said):
    assert look(values).said == said
    assert yaml.safe_load(written({"x\ny": look(values)}, ["h"]))["columns"] == ({"x\ny": said} if said else {})


def test_a_contract_is_tried_without_scoring(place, tmp_path):
    own = {"columns": {"hour": {"dtype": "int8", "max": 20}, "debt": {"dtype": "float64", "level": "warn", "nullable": False}}}
    own |= {"rules": {"r": {"sql": "hour < 23"}}, "min_rows": 1_001}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(own))
    done = subprocess.run(
        [sys.executable, "-m", "scoring", "contract", "check", str(place / "data"), f"contract={tmp_path}/c.yaml"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 65, done.stderr
    late = int((TABLE["hour"].to_numpy() > 20).sum())
    assert f"{ROWS:,} rows: {ROWS - late:,} good, {late:,} at fault" in done.stdout
    assert f"{late:>12,}  hour:range" in done.stdout
    first = int(np.flatnonzero(TABLE["hour"].to_numpy() > 20)[0])
    assert f"row {first} of {place}/data/date=2026-01-01/a.parquet" in done.stdout
    assert "debt:null" in done.stdout
    assert "contract:min_rows: 1,000 rows, expected >= 1,001 rows" in done.stdout
    assert "2 partition(s) would be held" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["c.yaml"]


def test_the_whole_way_of_an_inferred_contract_is_clean(place, tmp_path):
    inferred(str(place / "data"), f"out={tmp_path}/c.yaml")
    checked, code = contract_check.command(words("contract check", [str(place / "data"), f"contract={tmp_path}/c.yaml"]))
    assert (checked.good, checked.held, code) == (ROWS, [], 0)
    assert {c.actual for c in checked.checks} == {"list"}
