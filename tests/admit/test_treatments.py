"""Treatments: what must be said before data is read, and that a raw value never leaves through one."""

import math
from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.admit.privacy import Privacy
from scoring.admit.rules import admit, compile_rules
from scoring.admit.treatments import generalised, masked, refuse, refuse_keys, tagged
from scoring.errors import ConfigError
from scoring.settings import Column, Contract
from scoring.settings import Privacy as Setting

KEY = "ab" * 32


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("SCORING_PRIVACY_KEY", KEY)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (Column("string", pii="direct"), "is tagged pii: direct and has no treatment"),
        (Column("string", pii="quasi"), "has no treatment"),
        (Column("string", pii="direct", treatment="pseudonymise"), "needs a purpose"),
        (Column("int64", treatment="generalise"), "needs a width .* or a unit"),
        (Column("int64", treatment="generalise", width=5, unit="year"), "and not both"),
        (Column("string", treatment="generalise", width=5), "by width does not go with string"),
        (Column("int64", treatment="generalise", width=2.5), "by width does not go with int64"),
        (Column("int64", treatment="generalise", unit="year"), "by unit does not go with int64"),
        (Column("string", treatment="drop", keep_last=4), "keep_last is a setting of mask, not of drop"),
        (Column("string", keep_last=4), "keep_last is a setting of mask, not of no treatment"),
        (Column("int64", treatment="mask", width=4), "width is a setting of generalise"),
    ],
)
def test_what_a_tag_needs_is_asked_for_first(column, said):
    with pytest.raises(ConfigError, match=rf"^contract\.columns\.x.*{said}"):
        refuse(Contract({"x": column}), ())


@pytest.mark.parametrize(
    ("columns", "subject", "carry", "said"),
    [
        ({}, "who", ("who",), "must be declared"),
        ({"who": Column("string")}, "who", (), "must be in source.carry"),
        ({"who": Column("string", pii="direct", treatment="mask")}, "who", ("who",), "cannot be erased"),
        ({"who": Column("string")}, None, (), "does not say which column"),
    ],
)
def test_a_subject_must_stay_findable(columns, subject, carry, said):
    with pytest.raises(ConfigError, match=said):
        refuse(Contract(columns, privacy=Setting(subject=subject, suppress=None if subject else "list.txt")), carry)


def test_values_do_not_become_names_of_folders():
    contract = Contract({"city": Column("string", pii="quasi", treatment="drop"), "day": Column("date32")})
    refuse_keys(contract, ["day=2026-01-01"])
    with pytest.raises(ConfigError, match="city=… names folders"):
        refuse_keys(contract, ["day=2026-01-01", "day=2026-01-01/city=Bern"])


@given(st.lists(st.one_of(st.none(), st.text(max_size=6)), max_size=20), st.integers(0, 5))
def test_a_mask_tells_the_last_characters_at_most(values, keep):
    found = masked(pa.array(values, pa.string()), keep).to_pylist()
    assert found == [None if v is None else "***" + (v[len(v) - keep :] if keep and len(v) > keep else "") for v in values]


@given(st.lists(st.one_of(st.none(), st.integers(-(2**40), 2**40)), max_size=20), st.integers(1, 1000))
def test_a_generalised_integer_is_the_end_of_its_interval(values, width):
    assert generalised(pa.array(values, pa.int64()), width, None).to_pylist() == [
        None if v is None else v // width * width for v in values
    ]


@given(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=20), st.sampled_from([0.5, 1, 10, 250]))
def test_a_generalised_float_is_the_end_of_its_interval(values, width):
    found = generalised(pa.array(values, pa.float64()), width, None).to_pylist()
    assert found == [None if v is None else math.floor(v / width) * width for v in values]


@pytest.mark.parametrize(("unit", "said"), [("year", (1983, 1, 1)), ("month", (1983, 7, 1)), ("day", (1983, 7, 21))])
def test_a_generalised_date_is_the_first_of_its_year_month_or_day(unit, said):
    assert generalised(pa.array([date(1983, 7, 21), None]), None, unit).to_pylist() == [date(*said), None]
    moment = pa.array([datetime(1983, 7, 21, 13, 5)], pa.timestamp("us"))
    assert generalised(moment, None, unit).to_pylist() == [datetime(*said)]


def test_unsigned_and_large_values_generalise_too():
    assert generalised(pa.array([2**64 - 1], pa.uint64()), 10, None).to_pylist() == [(2**64 - 1) // 10 * 10]
    assert generalised(pa.array([-128], pa.int8()), 50, None).to_pylist() == [-150]


COLUMNS = {
    "email": Column("string", pii="direct", treatment="pseudonymise", purpose="fraud"),
    "phone": Column("string", pii="direct", treatment="mask", keep_last=2),
    "age": Column("int64", pii="quasi", treatment="generalise", width=10, min=0),
    "born": Column("date32", pii="quasi", treatment="generalise", unit="year"),
    "iban": Column("string", pii="direct", treatment="drop"),
    "city": Column("string", pii="quasi", treatment="pass"),
    "x": Column("float32"),
}
CARRY = ("born", "email", "phone", "iban", "age", "city", "row")


@given(st.lists(st.integers(-3, 90), min_size=1, max_size=40), st.sets(st.integers(0, 39)), st.booleans(), st.booleans())
def test_rows_leave_treated_in_order(ages, failing, text, encoded):
    """Whatever types rows come in, which of them the contract keeps, and which of those the model gives up."""
    n = len(ages)
    emails = pa.array([f"p{a % 7}@canary.example" for a in ages])
    raw = pa.record_batch(
        {
            "row": pa.array(range(n)),
            "email": emails.dictionary_encode() if encoded else emails,
            "phone": pa.array([None if a == 5 else f"0041791{a:04d}" for a in ages]),
            "age": pa.array([str(a) for a in ages]) if text else pa.array(ages),
            "born": pa.array(["1983-07-21"] * n),
            "iban": pa.array(["CH93-CANARY"] * n),
            "city": pa.array(["Bern"] * n),
            "x": pa.array([1.0] * n),
        }
    )
    privacy = Privacy(Contract(COLUMNS), CARRY)
    admitted = admit(raw, compile_rules(COLUMNS, True))
    kept = [i for i, a in enumerate(ages) if a >= 0]
    failed = np.array(sorted(f for f in failing if f < len(kept)), np.int64)
    found = privacy.carried(raw.select(CARRY), admitted, failed).to_pylist()
    left = [i for n, i in enumerate(kept) if n not in set(failed.tolist())]
    assert [r["row"] for r in found] == left
    assert [r["age"] for r in found] == [ages[i] // 10 * 10 for i in left]
    assert [r["phone"] for r in found] == [None if ages[i] == 5 else f"***{ages[i]:04d}"[:3] + f"{ages[i]:04d}"[-2:] for i in left]
    assert all(r["born"] == date(1983, 1, 1) and r["city"] == "Bern" and "iban" not in r for r in found)
    assert len({r["email"] for r in found}) == len({ages[i] % 7 for i in left})
    assert all(r["email"].startswith("k1:") for r in found)
    assert "canary" not in repr(found).lower()


def test_tagged_columns_are_known_by_name():
    contract = Contract(COLUMNS | {"who": Column("int64")}, privacy=Setting(subject="who"))
    assert set(tagged(contract)) == {*COLUMNS, "who"} - {"x"}


def test_without_tags_nothing_is_asked_or_touched(monkeypatch):
    monkeypatch.delenv("SCORING_PRIVACY_KEY")
    privacy = Privacy(Contract({"x": Column("float32")}), ("row",))
    raw = pa.record_batch({"row": [1, 2], "x": [1.0, 2.0]})
    admitted = admit(raw, compile_rules({"x": Column("float32")}, True))
    assert privacy.listed(raw) is None
    assert privacy.carried(raw.select(["row"]), admitted, np.empty(0, np.int64)).equals(raw.select(["row"]))


def test_pseudonyms_need_the_key_of_the_environment(monkeypatch):
    monkeypatch.delenv("SCORING_PRIVACY_KEY")
    with pytest.raises(ConfigError, match="SCORING_PRIVACY_KEY is not set"):
        Privacy(Contract(COLUMNS), CARRY)
