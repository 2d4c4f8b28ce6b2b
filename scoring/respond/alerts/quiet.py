"""Quiet hours: until when a warning waits. Wall-clock times of a zone, so that they keep their place when clocks change."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from scoring.settings import Notify

_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


def wrong(settings: Notify) -> str:
    """What cannot be meant; "" if it can."""
    found = _HOURS.fullmatch(settings.quiet) if settings.quiet else None
    if settings.quiet and (found is None or found[1] + found[2] == found[3] + found[4]):
        return f'quiet: {settings.quiet!r} are no hours. Say "22:00-07:00".'
    try:
        ZoneInfo(settings.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return f"timezone: {settings.timezone!r} is not known. Say Europe/Berlin, or UTC."
    return ""


def until(settings: Notify, when: datetime) -> datetime | None:
    """The end of the quiet hours that `when` lies in, in UTC; None outside of them. They may go over midnight."""
    found = _HOURS.fullmatch(settings.quiet or "")
    if found is None:
        return None
    begins, ends = time(int(found[1]), int(found[2])), time(int(found[3]), int(found[4]))
    here = when.astimezone(ZoneInfo(settings.timezone))
    day, now = here.date(), here.time()
    if begins < ends:
        inside, last = begins <= now < ends, day
    else:
        inside, last = now >= begins or now < ends, day + timedelta(days=now >= begins)
    return datetime.combine(last, ends, here.tzinfo).astimezone(UTC) if inside else None
