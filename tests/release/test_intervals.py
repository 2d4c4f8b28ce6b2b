"""Days and hours tile time, whatever clocks do; keys name them; what is not whole is refused."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import UsageError
from scoring.release.intervals import asked, day, hour, instant, of_key, zone
from scoring.types import Interval

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "America/Sao_Paulo", "America/St_Johns"]
HOUR = timedelta(hours=1)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def hours(interval):
    return (interval.end - interval.start) / HOUR


@given(st.sampled_from(ZONES), st.dates(date(1980, 1, 1), date(2037, 1, 1)), st.integers(1, 400))
def test_days_of_any_zone_tile_a_range(name, first, count):
    """No gap, no overlap, none empty, each the day that its key names."""
    where = zone(name)
    start, end = day(first, where).start, day(first + timedelta(days=count - 1), where).end
    if start == end:
        return
    found = asked(start, end, "day", where)
    assert (found[0].start, found[-1].end) == (start, end)
    assert all(one.end == other.start for one, other in pairwise(found))
    assert all(one.start < one.end for one in found)
    named = [of_key(f"date={first + timedelta(days=n)}", where) for n in range(count)]
    assert [interval for _, interval in named if interval.start < interval.end] == found


@given(st.datetimes(datetime(1980, 1, 1), datetime(2037, 1, 1)), st.integers(1, 60))
def test_hours_tile_a_range(moment, count):
    start = moment.replace(minute=0, second=0, microsecond=0, tzinfo=UTC)
    found = asked(start, start + count * HOUR, "hour", UTC)
    assert len({one.start for one in found}) == len(found) == count
    assert all(hours(one) == 1 for one in found)
    assert [of_key(f"date={one.start:%Y-%m-%d}/hour={one.start:%H}", UTC) for one in found] == [("hour", one) for one in found]


@pytest.mark.parametrize(
    ("name", "of", "long"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Europe/Berlin", date(2026, 10, 26), 24),
        ("America/New_York", date(2026, 3, 8), 23),
        ("America/New_York", date(2026, 11, 1), 25),
        ("America/Sao_Paulo", date(2018, 11, 4), 23),  # its midnight did not exist
        ("Pacific/Apia", date(2011, 12, 30), 0),  # the whole day did not
        ("UTC", date(2026, 3, 29), 24),
    ],
)
def test_days_are_as_long_as_they_were(name, of, long):
    assert hours(day(of, zone(name))) == long


def test_a_day_of_berlin_has_23_or_25_hours_of_utc():
    where = ZoneInfo("Europe/Berlin")
    for first, after, count in (("2026-03-29", "2026-03-30", 23), ("2026-10-25", "2026-10-26", 25)):
        found = asked(instant("start", first, where), instant("end", after, where), "hour", where)
        assert len(found) == count
        assert len({one.start for one in found}) == count


def test_month_ends_and_leap_days():
    found = asked(at("2028-02-28"), at("2028-03-02"), "day", UTC)
    assert [f"{one.start:%m-%d}" for one in found] == ["02-28", "02-29", "03-01"]
    assert len(asked(at("2027-02-28"), at("2027-03-02"), "day", UTC)) == 2
    assert of_key("date=2027-02-29", UTC) is None


@pytest.mark.parametrize(
    ("key", "grain", "start"),
    [
        ("date=2026-01-31", "day", "2026-01-31"),
        ("dt=2026-01-31", "day", "2026-01-31"),
        ("region=eu/date=2026-01-31", "day", "2026-01-31"),
        ("date=2026-01-31/region=eu", "day", "2026-01-31"),
        ("year=2026/month=1/day=31", "day", "2026-01-31"),
        ("date=2026-01-31/hour=05", "hour", "2026-01-31T05:00"),
        ("year=2026/month=01/day=31/hour=5", "hour", "2026-01-31T05:00"),
    ],
)
def test_keys_that_name_an_interval(key, grain, start):
    assert of_key(key, UTC) == (grain, Interval(at(start), at(start) + (HOUR if grain == "hour" else 24 * HOUR)))


@pytest.mark.parametrize("key", ["all", "region=eu", "year=2026/month=01", "date=2026-13-01", "date=2026-01-31/hour=24", "hour=05"])
def test_keys_that_name_none(key):
    assert of_key(key, UTC) is None


def test_offsets_are_taken_as_airflow_gives_them():
    assert instant("start", "2026-01-31T00:00:00+00:00", ZoneInfo("Europe/Berlin")) == at("2026-01-31")
    assert instant("start", "2026-01-31", ZoneInfo("Europe/Berlin")) == at("2026-01-30T23:00")


@pytest.mark.parametrize(
    ("start", "end", "grain", "said"),
    [
        ("2026-01-02", "2026-01-02", "day", "end=2026-01-02T00:00Z is not after start=2026-01-02T00:00Z"),
        ("2026-01-02", "2026-01-01", "day", "is not after"),
        ("2026-01-01T05:00", "2026-01-02", "day", "start=2026-01-01T05:00Z is not where a day of UTC begins"),
        ("2026-01-01", "2026-01-02T05:00", "day", "end=2026-01-02T05:00Z is not where a day"),
        ("2026-01-01T00:30", "2026-01-02", "hour", "is not where a hour"),
        ("0001-01-02", "9999-01-01", "day", "more than 200,000 intervals"),
    ],
)
def test_what_is_not_whole_is_refused(start, end, grain, said):
    with pytest.raises(UsageError) as refused:
        asked(at(start), at(end), grain, UTC)
    assert said in str(refused.value)


def test_days_of_one_zone_are_no_days_of_another():
    with pytest.raises(UsageError, match="is not where a day of Europe/Berlin begins"):
        asked(at("2026-01-01"), at("2026-01-02"), "day", ZoneInfo("Europe/Berlin"))


@pytest.mark.parametrize("name", ["Europe/Berln", "../etc/passwd", "/etc/passwd", ""])
def test_unknown_zones_are_named(name):
    with pytest.raises(UsageError, match="timezone="):
        zone(name)


def test_an_hour_is_one():
    assert hours(hour(at("2026-10-25T00:00"))) == 1
