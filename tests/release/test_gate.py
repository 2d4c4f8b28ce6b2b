"""The gate, held against arithmetic done another way; and what a changed identity is told."""

from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from scoring.errors import ChangedError
from scoring.release import change
from scoring.release.gate import checks, decide, fallback_rows, under
from scoring.settings import Release
from scoring.types import BadFile, Check, Counts

ROWS = st.integers(0, 1000)
FREE = Release(max_bad_rows=None, max_bad_share=None, max_bad_files=None)


def verdict(found, name):
    return next(c for c in found if c.name == name).status


@given(ROWS, ROWS, st.lists(ROWS, max_size=3), st.none() | ROWS, st.none() | st.floats(0, 1), st.none() | st.integers(0, 3))
@example(0, 0, [0], None, None, None)
def test_limits_bind_exactly(scored, bad, lost, max_rows, max_share, max_files):
    files = [BadFile(f"/{n}", "read", "x", rows) for n, rows in enumerate(lost)]
    counts = Counts(scored, bad + sum(lost))
    found = checks("k", counts, files, 0, Release(max_rows, max_share, max_files), 1.0)
    assert (verdict(found, "bad_rows") == "fail") == (max_rows is not None and bad > max_rows)
    too_many = max_share is not None and scored + bad > 0 and bad / (scored + bad) > max_share
    assert (verdict(found, "bad_share") == "fail") == too_many
    over = max_files is not None and len(files) > max_files
    assert verdict(found, "bad_files") == ("fail" if over else "warn" if files else "pass")
    unread = bool(files) and scored + bad == 0
    assert (verdict(found, "readable") == "fail") == unread
    held = over or too_many or unread or (max_rows is not None and bad > max_rows)
    warned = bool(files) or counts.total == 0
    assert decide(found) == ("held" if held else "published-with-warnings" if warned else "published")


@given(ROWS, ROWS)
def test_a_share_just_above_its_limit_is_held(scored, bad):
    """Rounding for the eye must not round the verdict."""
    if scored + bad and bad:
        share = Fraction(bad, scored + bad)
        limit = float(share) * (1 - 1e-9)
        assert decide(checks("k", Counts(scored, bad), [], 0, Release(None, limit, None), 1.0)) == "held"


@given(ROWS, ROWS, ROWS, st.lists(ROWS, max_size=2))
def test_more_bad_rows_never_help(scored, bad, more, lost):
    files = [BadFile(f"/{n}", "read", "x", rows) for n, rows in enumerate(lost)]
    order = ("published", "published-with-warnings", "held")
    limits = Release(500, 0.3, 1)
    less = decide(checks("k", Counts(scored, bad + sum(lost)), files, 0, limits, 1.0))
    worse = decide(checks("k", Counts(scored, bad + more + sum(lost)), files, 0, limits, 1.0))
    assert order.index(worse) >= order.index(less) or (scored + bad + sum(lost) == 0 and more)


def test_rows_that_were_planned_must_be_accounted_for():
    assert verdict(checks("k", Counts(9, 1), [], 0, FREE, 1.0, planned_rows=10), "conservation") == "pass"
    assert verdict(checks("k", Counts(9, 1), [], 0, FREE, 1.0), "conservation") == "skip"
    assert decide(checks("k", Counts(9, 1), [], 0, FREE, 1.0, planned_rows=11)) == "held"


@given(ROWS, ROWS, st.floats(0, 1))
def test_fallback_routes_have_a_share(scored, fallen, limit):
    found = checks("k", Counts(scored + fallen), [], fallen, FREE, limit)
    assert (verdict(found, "fallback_share") == "fail") == (fallen > 0 and fallen / (scored + fallen) > limit)


def test_the_route_that_was_meant_is_no_fallback():
    routes = {"gpu": 1, "gpu-smaller-batch": 10, "cpu": 100, "backup-model": 1000}
    assert fallback_rows(routes, "gpu") == 1110
    assert fallback_rows(routes, "cpu") == 1010


PARTS = {"model": "m", "contract": "c", "source": "s", "format": "1"}


@given(st.sets(st.sampled_from(sorted(PARTS))), st.booleans(), st.sampled_from(["refuse", "rescore"]))
def test_a_change_is_refused_or_asked_for(changed, new_input, on_change):
    wanted = {name: value + ("!" if name in changed else "") for name, value in PARTS.items()}
    words = {"model": "the model", "contract": "the contract", "source": "how the source is read", "format": "the output format"}
    asked = (PARTS, "in-1", wanted, "in-2" if new_input else "in-1", on_change)
    if not changed and not new_input:
        assert change.decide("k", *asked) == "skip"
    elif on_change == "rescore":
        assert change.decide("k", *asked) == "score"
    else:
        with pytest.raises(ChangedError, match=r"release.on_change=rescore") as caught:
            change.decide("date=1", *asked)
        said = str(caught.value)
        assert all((words[name] in said) == (name in changed) for name in PARTS)
        assert ("the input files" in said) == new_input
        assert "date=1" in said


def test_a_new_partition_is_scored():
    assert change.decide("k", None, "", PARTS, "in", "refuse") == "score"


@pytest.mark.parametrize("status", ["pass", "skip", "warn", "fail"])
@pytest.mark.parametrize(
    ("policy", "meant"),
    [
        ({}, {"warn": "published-with-warnings", "fail": "published-with-warnings"}),
        ({"drift": "hold"}, {"warn": "held", "fail": "held"}),
        ({"drift": "warn"}, {"warn": "published-with-warnings", "fail": "published-with-warnings"}),
        ({"drift": "ignore"}, {}),
        ({"drift": "hold", "drift_of_x": "ignore"}, {}),  # the longest beginning decides
        ({"history": "hold"}, {"warn": "published-with-warnings", "fail": "published-with-warnings"}),
    ],
)
def test_a_policy_decides_what_a_finding_leads_to(status, policy, meant):
    checked = Check("drift_of_x", "x", status, "warn", "little", "much")
    assert decide(under(policy, [checked])) == meant.get(status, "published")
    assert under(policy, [checked])[0].actual == "much"


def test_a_policy_can_let_pass_what_would_hold():
    failed = Check("bad_rows", "k", "fail", "error", "0", "5")
    assert [decide(under(p, [failed])) for p in ({}, {"bad": "warn"}, {"bad_rows": "ignore"})] == [
        "held",
        "published-with-warnings",
        "published",
    ]
