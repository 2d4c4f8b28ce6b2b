"""Is a partition older than its personal columns may be kept? Says so; nothing is deleted by it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date

from scoring.settings import Column
from scoring.types import Check

_DATE = re.compile(r"(\d{4})-(\d{2})(?:-(\d{2}))?")


def retention(key: str, columns: Mapping[str, Column], today: date) -> tuple[Check, ...]:
    """A warning where the partition's key holds a date longer ago than the shortest `retention_days`, `skip` where it holds none;
    no verdict at all where no column has a limit.
    """
    limits = {name: column.retention_days for name, column in columns.items() if column.retention_days is not None}
    if not limits:
        return ()
    name, days = min(limits.items(), key=lambda limit: (limit[1], limit[0]))
    expected = f"at most {days:,} days ({name})"
    dated = _dated(key)
    if dated is None:
        return (Check("retention", key, "skip", "warn", expected, "no date in the partition's key"),)
    age = (today - dated).days
    return (Check("retention", key, "warn" if age > days else "pass", "warn", expected, f"{age:,} days"),)


def _dated(key: str) -> date | None:
    """The last date in the key; a month counts from its first day."""
    for part in reversed(key.split("/")):
        if found := _DATE.fullmatch(part.partition("=")[2]):
            try:
                return date(int(found[1]), int(found[2]), int(found[3] or 1))
            except ValueError:
                continue
    return None
