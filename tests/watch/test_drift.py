"""The decision: false alarms stay at the stated rate, what Done-when asks for is found, causes are told apart, small is skipped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.drift_table import CASES, WATCH, Seen, counted, drawn, false_alarms, plan, power, shares_of_bins, table, training
from scoring.watch.baseline import Baseline
from scoring.watch.drift import checks, judge
from scoring.watch.evidence import Pair, rejected
from scoring.watch.history import compare
from scoring.watch.summary import Summary


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    return training(np.random.default_rng(7), 20_000)


def test_false_alarms_stay_at_the_stated_rate():
    """The table of docs/drift.md, smaller: 600 partitions; at a rate of 1 % more than 14 alarms come once in 2,000 times."""
    rng = np.random.default_rng(3)
    alarms = sum(false_alarms(rng, 60_000, rows, 150) * 150 for rows in (100, 1_000, 30_000, 1_000_000))
    assert alarms <= 14


@pytest.mark.parametrize("case", [c for c in CASES if c[1] <= 10_000], ids=lambda c: f"{c[0]}-{c[1]}")
def test_what_must_be_found_is_found_and_its_cause_is_named(case, baseline):
    found, named, _ = power(np.random.default_rng(11), baseline, case, 20)
    assert found >= 0.95
    assert named >= 0.9


def test_a_tenth_of_a_standard_deviation_in_100_000_rows(baseline):
    assert power(np.random.default_rng(5), baseline, CASES[0], 3)[:2] == (1.0, 1.0)


def changed(baseline: Baseline, rows: int, **columns) -> dict[str, tuple[str, str, str]]:
    """Column -> (family, status, words) of what was found after columns of drift-free rows were replaced."""
    rng = np.random.default_rng(23)
    given = table(rng, rows)
    for name, change in columns.items():
        given[name] = change(given[name], rng)
    said = judge(Seen(counted(baseline.plan, given), {}, rows), baseline, "m", WATCH)
    return {f.column: (f.family, f.cause, f.words) for f in said if f.status in ("warn", "fail")}


def test_causes_are_told_apart(baseline):
    nowhere = np.float32(np.nan)
    found = changed(
        baseline,
        4_000,
        n0=lambda x, rng: x * np.float32(2),
        n1=lambda x, rng: x - np.float32(0.4),
        n2=lambda x, rng: np.where(rng.random(len(x)) < 0.3, nowhere, x),
        n3=lambda x, rng: np.full_like(x, nowhere),
        l0=lambda x, rng: x / np.float32(1000),
        l1=lambda x, rng: x * np.float32(1.3),
        c0=lambda x, rng: np.where(x == 1, 17, x),
        c1=lambda x, rng: np.where((x == 0) & (rng.random(len(x)) < 0.5), 4, x),
        c2=lambda x, rng: np.where(rng.random(len(x)) < 0.1, rng.integers(13, 20, len(x)), x),
        c3=lambda x, rng: np.zeros_like(x),
    )
    assert {column: (family, cause) for column, (family, cause, _) in found.items()} == {
        "n0": ("drift", "unit"),  # all quantiles doubled: a spread of 2 and a unit of 2 are the same thing
        "n1": ("drift", "shift"),
        "n2": ("null_rate", "null burst"),
        "n3": ("null_rate", "empty"),
        "l0": ("drift", "unit"),
        "l1": ("drift", "shift"),
        "c0": ("drift", "renamed"),
        "c1": ("drift", "mix"),
        "c2": ("drift", "unseen"),
        "c3": ("drift", "constant"),
    }
    assert found["n1"][2].startswith(("down by 0.3", "down by 0.4"))
    assert "x0.001" in found["l0"][2]
    assert "'value 1' (16." in found["c0"][2] or "'value 1' (15." in found["c0"][2]
    assert "more 'value 4'" in found["c1"][2]
    assert "less 'value 0'" in found["c1"][2]


def test_a_reason_that_quarantines_more_rows_is_told():
    rng = np.random.default_rng(1)
    shares = shares_of_bins(rng, 60_000)
    before, now = drawn(rng, shares, 60_000, True), drawn(rng, shares, 5_000, False)
    base = Baseline(plan(), before.summary, "m", "", 60_000, dict(before.reasons))
    worse = replace(now, reasons={**now.reasons, "admit:b:type": 400, "plan:duplicate": 5_000})
    (found,) = [f for f in judge(worse, base, "m", WATCH) if f.status in ("warn", "fail")]
    assert (found.family, found.column) == ("quarantine_mix", "admit:b:type")
    assert "8.00% of rows" in found.words


def test_too_few_or_nothing_to_compare_with_is_skipped_never_passed(baseline):
    rng = np.random.default_rng(0)
    few = Seen(counted(baseline.plan, table(rng, 99)), {}, 99)
    enough = Seen(counted(baseline.plan, table(rng, 200)), {}, 200)
    for seen, against in (
        (few, baseline),
        (enough, None),
        (Seen(enough.summary + Summary({"plan": "other", "rows": 1}), {}, 201), baseline),
    ):
        (only,) = judge(seen, against, "m", WATCH)
        assert only.status == "skip"
        (check,) = checks("k", (only,), WATCH)
        assert (check.status, check.name) == ("skip", "drift")
        assert check.actual
    mostly_null = table(rng, 200)
    mostly_null["n0"][50:] = np.nan
    found = {
        (f.family, f.column): f.status for f in judge(Seen(counted(baseline.plan, mostly_null), {}, 200), baseline, "m", WATCH)
    }
    assert found["drift", "n0"] == "skip"
    assert found["null_rate", "n0"] in ("warn", "fail")


def test_scores_of_another_model_are_not_compared():
    rng = np.random.default_rng(1)
    shares = shares_of_bins(rng, 60_000)
    before = drawn(rng, shares, 60_000, True)
    base = Baseline(plan(), before.summary, "m", "", 60_000)
    families = [{f.family for f in judge(before, base, model, WATCH)} for model in ("m", "other")]
    assert families[0] - families[1] == {"score_drift"}


@given(st.lists(st.integers(0, 400), min_size=2, max_size=9), st.data())
def test_p_values_are_those_of_scipy_where_no_cell_is_small(before, data):
    now = data.draw(st.lists(st.integers(0, 400), min_size=len(before), max_size=len(before)))
    pair = Pair(np.array(before), np.array(now), False)
    table = np.array([before, now])
    table = table[:, table.sum(0) > 0]
    if table.shape[1] < 2 or not table.sum(1).all() or stats.contingency.expected_freq(table).min() < 10:
        assert 0 <= pair.p_value <= 1
        return
    assert pair.p_value == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue, abs=1e-12)


@given(st.integers(0, 30), st.integers(1, 2_000), st.integers(0, 30), st.integers(1, 2_000))
def test_few_hits_are_tested_exactly(hits, rows, before_hits, before_rows):
    pair = Pair(np.array([before_hits, before_rows]), np.array([hits, rows]), False)
    m, n, both = before_hits + before_rows, hits + rows, hits + before_hits
    if both * min(m, n) / (m + n) >= 10 or both == 0 or both > (before_rows + rows):
        return
    law = stats.binom(both, n / (m + n))
    assert pair.p_value == pytest.approx(min(1.0, 2 * min(law.cdf(hits), law.sf(hits - 1))))


@given(st.lists(st.floats(0, 1), max_size=12), st.integers(0, 5), st.floats(0.001, 0.2))
def test_benjamini_hochberg_is_scipys(p_values, untested, alpha):
    adjusted = stats.false_discovery_control([*p_values, *[1.0] * untested]) if p_values or untested else []
    assert rejected(p_values, len(p_values) + untested, alpha) == [
        bool(p <= alpha) for p in np.round(adjusted[: len(p_values)], 12)
    ] or any(abs(p - alpha) < 1e-9 for p in adjusted)


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=9), st.data())
def test_effects_have_their_bounds_and_are_zero_without_a_difference(before, data):
    now = data.draw(st.lists(st.integers(0, 10_000), min_size=len(before), max_size=len(before)))
    for ordered in (False, True):
        pair = Pair(np.array(before), np.array(now), ordered)
        assert 0 <= pair.moved <= 1 + 1e-9
        assert pair.psi >= 0
        same = Pair(np.array(before), np.array(before) * 3, ordered)
        assert same.moved == pytest.approx(0, abs=1e-12) or sum(before) == 0


def test_chance_is_what_moves_on_average_without_drift():
    rng = np.random.default_rng(2)
    for ordered, p in ((False, np.full(20, 0.05)), (True, np.full(8, 1 / 8))):
        pairs = [Pair(rng.multinomial(5_000, p), rng.multinomial(800, p), ordered) for _ in range(400)]
        mean = np.mean([pair.moved for pair in pairs])
        assert 0.7 * pairs[0].chance < mean < 1.1 * pairs[0].chance


def test_history_is_robust_to_one_odd_day_and_tells_a_new_level():
    before = [{"volume": 1_000.0 + n, "mean of score": 0.1} for n in range(9)] + [{"volume": 90_000.0, "mean of score": 0.9}]
    verdicts = {f.column: f.status for f in compare({"volume": 1_010.0, "mean of score": 0.1}, before, WATCH)}
    assert verdicts == {"volume": "pass", "mean of score": "pass"}
    verdicts = {f.column: f.status for f in compare({"volume": 400.0, "mean of score": 0.12}, before, WATCH)}
    assert verdicts == {"volume": "warn", "mean of score": "warn"}
    assert compare({"volume": 1.0}, before[:3], WATCH)[0].status == "skip"
    assert compare({"volume": 1.0}, before, replace(WATCH, history=0)) == ()
