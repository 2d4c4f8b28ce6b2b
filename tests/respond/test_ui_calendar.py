"""The calendar of the live page: every partition is in it once, and a day is missing only where one was due."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.respond.ui import calendar
from scoring.respond.ui.partitions import Standing

DAYS = st.sets(st.dates(date(2019, 12, 25), date(2026, 2, 3)), min_size=1, max_size=60)


def keys(days, series=""):
    return [f"{series}date={found}" for found in days]


def look(asked):
    return [Standing(key, "published", "r", 1) for key in asked]


def shown(made):
    return [(month.name, cell) for month in made.months for cell in month.cells]


@given(DAYS)
def test_paging_shows_each_day_once(days):
    seen, until = [], ""
    for _ in range(200):
        made = calendar.make(keys(days), until, look)
        seen += [cell.key for _, cell in shown(made) if cell.key]
        if not made.older:
            break
        assert made.older < (until or "9999"), "it gets older"
        until = made.older
    assert sorted(seen) == sorted(keys(days))


@given(DAYS)
def test_what_is_missing_lies_between_and_is_no_partition(days):
    for found in calendar.missing(keys(days)):
        assert min(days) < found < max(days)
        assert found not in days


def test_a_gap_of_a_daily_feed_is_missing_and_its_weekends_are_not():
    first = date(2026, 1, 5)
    days = [first + timedelta(days=n) for n in range(28)]
    working = [found for found in days if found.weekday() < 5]
    assert calendar.missing(keys(working)) == {}
    gap = date(2026, 1, 14)
    assert list(calendar.missing(keys(set(working) - {gap}))) == [gap]
    weekend = {date(2026, 1, 17), date(2026, 1, 18)}
    assert set(calendar.missing(keys(set(days) - weekend))) == weekend, "a feed that comes on other weekends"


def test_feeds_that_come_seldom_have_gaps_only_by_their_own_rhythm():
    weekly = [date(2026, 1, 5) + timedelta(weeks=n) for n in range(8)]
    assert calendar.missing(keys(weekly)) == {}
    assert list(calendar.missing(keys(set(weekly) - {weekly[3]}))) == [weekly[3]]
    monthly = [date(2025, month, 1) for month in range(1, 13) if month != 5]
    assert calendar.missing(keys(monthly)) == {}
    assert calendar.missing(keys([date(1, 1, 1), date(1, 1, 2), date(9999, 12, 30), date(9999, 12, 31)])) == {}


def test_series_are_told_apart_and_the_worst_of_a_day_shows():
    days = [date(2026, 1, 5) + timedelta(days=n) for n in range(5)]
    known = keys(days, "region=de/") + keys(days[:2] + days[3:], "region=fr/")
    assert calendar.missing(known) == {days[2]: ["region=fr"]}

    def some(asked):
        return [Standing(key, "held" if key == "region=de/date=2026-01-05" else "published", "r", 1) for key in asked]

    made = calendar.make(known, "", some)
    states = {cell.day: (cell.state, cell.key) for _, cell in shown(made) if cell.state}
    assert states[5] == ("held", "region=de/date=2026-01-05")
    assert states[7][0] == "missing"
    assert states[8][0] == "published"
    assert made.counts["held"] == made.counts["missing"] == 1
    assert made.counts["published"] == 8


@settings(max_examples=30)
@given(st.text(max_size=8))
def test_any_month_may_be_asked_for(until):
    made = calendar.make(keys([date(2026, 1, 5), date(9999, 12, 31), date(1, 1, 1)]), until, look)
    assert made.months
