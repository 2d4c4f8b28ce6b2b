"""Days and hours as half-open intervals in UTC: what was asked for, what a Hive key names, what lies in a range. No I/O.

A day begins at its first instant in its zone and ends where the next begins, so that days have no gap and no overlap: 23 or 25
hours where clocks are put, none where a zone left a day out. Hours are hours of UTC, of which there is each one once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from scoring.errors import UsageError
from scoring.types import Interval

Grain = Literal["day", "hour"]
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_HOUR = timedelta(hours=1)
_MOST = 200_000  # intervals of a range: 22 years of hours


def zone(name: str | None) -> tzinfo:
    """Raises: UsageError: there is no zone of that name."""
    if name is None or name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"timezone={name} is not known. Say a name of the IANA list: UTC, Europe/Berlin.") from None


def instant(word: str, text: str, where: tzinfo) -> datetime:
    """A date, or an instant; without an offset it is local time of `where`. Raises: UsageError."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{word}={text} is no date. Say {word}=2026-01-31 or {word}=2026-01-31T00:00:00+00:00.") from None
    return (found if found.tzinfo else found.replace(tzinfo=where)).astimezone(UTC)


def day(of: date, where: tzinfo) -> Interval:
    return Interval(_midnight(of, where), _midnight(of + timedelta(days=1), where))


def hour(start: datetime) -> Interval:
    return Interval(start, start + _HOUR)


def asked(start: datetime, end: datetime, grain: Grain, where: tzinfo) -> list[Interval]:
    """All intervals of a range, in order; days that do not exist in the zone are none.

    Raises:
        UsageError: the range is empty or endless, or does not begin and end where intervals do.
    """
    if end <= start:
        raise UsageError(f"end={_said(end)} is not after start={_said(start)}. The end is not part of the range.")
    if (end - start) / (_HOUR if grain == "hour" else timedelta(days=1)) > _MOST:
        raise UsageError(f"From {_said(start)} to {_said(end)} are more than {_MOST:,} intervals. Say a shorter range.")
    found = list(_days(start, end, where) if grain == "day" else _hours(start, end))
    for word, wanted, is_there in (("start", start, found[0].start), ("end", end, found[-1].end)):
        if wanted != is_there:
            hint = f" of {where}" if grain == "day" else " of UTC"
            raise UsageError(f"{word}={_said(wanted)} is not where a {grain}{hint} begins. Intervals are done whole: move {word}.")
    return found


def of_key(key: str, where: tzinfo) -> tuple[Grain, Interval] | None:
    """What a Hive key names: `date=2026-01-31` (under any name), or year=, month=, day=; with hour= an hour of UTC."""
    pairs = dict(part.split("=", 1) for part in reversed(key.split("/")) if "=" in part)
    try:
        named = next((value for value in reversed(pairs.values()) if _DAY.fullmatch(value)), None)
        of = date.fromisoformat(named) if named else date(*(int(pairs[name]) for name in ("year", "month", "day")))
        if "hour" not in pairs:
            return "day", day(of, where)
        return "hour", hour(datetime.combine(of, time(int(pairs["hour"])), UTC))
    except (ValueError, KeyError, OverflowError):
        return None


def _days(start: datetime, end: datetime, where: tzinfo) -> Iterator[Interval]:
    """Those that overlap the range."""
    of, found = start.astimezone(where).date(), None
    while found is None or found.end < end:
        found = day(of, where)
        of += timedelta(days=1)
        if found.start < found.end and start < found.end:
            yield found


def _hours(start: datetime, end: datetime) -> Iterator[Interval]:
    found = hour(start.replace(minute=0, second=0, microsecond=0))
    yield found
    while found.end < end:
        yield (found := hour(found.end))


def _midnight(of: date, where: tzinfo) -> datetime:
    """The first instant of a day. Where midnight is skipped this is the instant at which clocks are put (fold 0; PEP 495)."""
    return datetime.combine(of, time(), where).astimezone(UTC)


def _said(moment: datetime) -> str:
    return moment.isoformat(timespec="minutes").replace("+00:00", "Z")
