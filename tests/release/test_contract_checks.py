"""Verdicts of the contract on partitions, held against arithmetic done another way; and whom a rule costs."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.release.contract import Found, contract_checks, day_of, together
from scoring.release.costs import Costs
from scoring.release.gate import decide
from scoring.settings import Column, Contract, Limit
from scoring.types import BadFile, Counts, Findings, Receipt

ROWS = st.integers(0, 1000)
LEVELS = st.sampled_from(["warn", "error"])
NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)


def verdicts(contract, found, duplicates=None, key="date=2026-01-31"):
    return {c.name.removeprefix("contract:"): c for c in contract_checks(key, contract, found, duplicates, NOW)}


@given(
    ROWS,
    ROWS,
    st.none() | ROWS,
    st.none() | st.floats(0, 1),
    st.sampled_from(["warn", "error"]),
    st.sampled_from(["x:range", "rule:r", "total", "unique"]),
)
def test_limits_bind_exactly(count, others, rows, share, level, name):
    judged = count + others
    found = Found(judged, judged, count, {"x:range": count, "rule:r": count})
    check = verdicts(Contract(limits={name: Limit(rows, share, level)}), found, count if name == "unique" else None)[name]
    over = (rows is not None and count > rows) or (share is not None and judged > 0 and count / judged > share)
    assert (check.status, check.severity) == (("fail" if level == "error" else "warn") if over else "pass", level)
    assert decide([check]) == ({"error": "held", "warn": "published-with-warnings"}[level] if over else "published")


@given(ROWS.filter(bool), st.none() | ROWS)
def test_a_warning_warns_with_its_first_row_and_holds_beyond_a_limit(count, rows):
    contract = Contract(limits={} if rows is None else {"x:range": Limit(rows)})
    check = verdicts(contract, Found(2000, 2000, 0, warned={"x:range": count}))["x:range"]
    assert check.status == ("fail" if rows is not None and count > rows else "warn")


def test_duplicates_hold_unless_said_otherwise():
    assert verdicts(Contract(unique=("k",)), Found(5, 5), 1)["unique"].status == "fail"
    assert verdicts(Contract(unique=("k",), limits={"unique": Limit(0, level="warn")}), Found(5, 5), 1)["unique"].status == "warn"
    assert verdicts(Contract(unique=("k",)), Found(5, 5), 0)["unique"].status == "pass"
    assert "unique" not in verdicts(Contract(), Found(5, 5))


@given(ROWS, ROWS, ROWS, st.sampled_from(["warn", "error"]))
def test_partitions_have_a_size(rows, least, most, level):
    contract = Contract(min_rows=least, max_rows=most, limits={"min_rows": Limit(level=level)})
    found = verdicts(contract, Found(rows, rows))
    assert found["min_rows"].status == (("fail" if level == "error" else "warn") if rows < least else "pass")
    assert found["max_rows"].status == ("fail" if rows > most else "pass")


@pytest.mark.parametrize(
    ("key", "newest", "status"),
    [
        ("date=2026-01-31", datetime(2026, 1, 31, 1, tzinfo=UTC), "pass"),  # 23 hours before the day ends
        ("country=DE/date=2026-01-31", datetime(2026, 1, 30, 23, tzinfo=UTC), "fail"),
        ("date=2026-01-31", datetime(2027, 1, 1, tzinfo=UTC), "pass"),
        ("all", NOW - timedelta(hours=24), "pass"),
        ("all", NOW - timedelta(hours=25), "fail"),
        ("all", None, "skip"),
    ],
)
def test_freshness_is_measured_from_the_end_of_the_day_or_from_now(key, newest, status):
    contract = Contract(columns={"t": Column("timestamp[us]", role="time")}, freshness_hours=24)
    since = None if newest is None else int(newest.timestamp() * 1e6)
    assert verdicts(contract, Found(1, 1, newest=since), key=key)["freshness"].status == status


def test_the_day_of_a_key():
    assert day_of("date=2026-01-31") == datetime(2026, 2, 1, tzinfo=UTC)
    assert day_of("all") is None
    assert day_of("n=20260131x") is None


def test_missing_columns_hold_and_others_are_told():
    lost = (BadFile("/in/a.parquet", "admit", "missing columns: x, y", 10), BadFile("/in/b.parquet", "read", "torn", 0))
    found = Found(10, 0, 0, columns={"extra": ("e", "f"), "widened": ("x: int64, not int32",)}, files=lost)
    told = verdicts(Contract(), found)
    assert {n: c.status for n, c in told.items()} == {"schema:missing": "fail", "schema:extra": "pass", "schema:widened": "pass"}
    assert told["schema:missing"].actual == "a.parquet: missing columns: x, y"
    assert told["schema:extra"].actual == "e, f"
    strict = Contract(
        limits={"schema:missing": Limit(level="warn"), "schema:extra": Limit(), "schema:widened": Limit(level="warn")}
    )
    assert {n: c.status for n, c in verdicts(strict, found).items()} == {
        "schema:missing": "warn",
        "schema:extra": "fail",
        "schema:widened": "warn",
    }


findings = st.builds(
    Findings,
    st.dictionaries(st.sampled_from(["a:range", "b:null"]), ROWS),
    st.dictionaries(st.sampled_from(["extra", "widened"]), st.lists(st.sampled_from("xyz"), max_size=2).map(tuple)),
    st.none() | ROWS,
)


@given(st.lists(st.tuples(findings, ROWS, ROWS), max_size=5), st.randoms(use_true_random=False))
def test_receipts_add_up_in_any_order(parts, random):
    receipts = [Receipt(str(n), "k", "a", s + q, Counts(s, q), {"admit:a:range": q}, found=f) for n, (f, s, q) in enumerate(parts)]
    whole = together(receipts)
    random.shuffle(receipts)
    assert together(receipts) == whole
    assert whole.rows == sum(s + q for _, s, q in parts)
    assert whole.lost.get("a:range", 0) == sum(q for _, _, q in parts)
    assert whole.warned.get("b:null", 0) == sum(f.warned.get("b:null", 0) for f, _, _ in parts)


def test_a_rule_that_drops_one_group_stands_out_and_a_fair_one_does_not():
    costs = Costs()
    for _ in range(4):
        mix = {"": {"group": {"a": 900, "b": 100}, "channel": {"web": 500, "shop": 500}}}
        mix["x:range"] = {"group": {"a": 9, "b": 21}, "channel": {"web": 15, "shop": 15}}
        mix["y:null"] = {"group": {"a": 90, "b": 10}, "channel": {"web": 52, "shop": 48}}
        costs.add(mix)
    found = costs.strongest()
    assert [(c.rule, c.column, c.value, c.rows, c.share_lost, c.share_all) for c in found] == [
        ("x:range", "group", "a", 120, 0.3, 0.9),
        ("x:range", "group", "b", 120, 0.7, 0.1),
    ]


def test_a_column_too_varied_for_one_slice_is_compared_for_none():
    costs = Costs()
    costs.add({"": {"group": {"a": 500, "b": 500}}, "x:range": {"group": {"a": 100}}})
    costs.add({"": {}, "x:range": {}})
    assert costs.strongest() == ()
