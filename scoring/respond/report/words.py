"""How numbers, times and names are written in a report."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scoring.respond.manual import clean

LONGEST_NAME = 160
NONE = "\N{EN DASH}"  # where there is no value
_FAMILIES = {"drift": "values", "score_drift": "scores", "null_rate": "missing values"}
_STATUS = {
    "published": "published",
    "published-with-warnings": "published with warnings",
    "held": "held",
    "paused": "paused",
    "failed": "failed",
    "refused": "refused",
    "skipped": "published before",
}


def name(text: str, most: int = LONGEST_NAME) -> str:
    """A name from foreign data, as long as a line can bear."""
    return clean(text, most - 1) + "…" if len(text) > most else clean(text, most)


def count(number: float) -> str:
    return f"{number:,.0f}"


def share(part: float, whole: float = 1.0) -> str:
    """Never 0% of something, never 100% of less than all."""
    if not whole:
        return NONE
    found = part / whole
    if found in (0, 1):
        return f"{found:.0%}"
    if 0 < found < 0.0001:
        return "<0.01%"
    if 0.9999 < found < 1:
        return ">99.99%"
    return f"{found:.2%}" if found < 0.1 or found > 0.9 else f"{found:.1%}"


def duration(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 90:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def amount(money: float) -> str:
    """Two decimals, or as many as small change needs to show two digits."""
    digits = 2 if money >= 1 or money <= 0 else max(2, 1 - math.floor(math.log10(money)))
    return f"{money:,.{min(digits, 12)}f}"


def plural(number: int, one: str, many: str = "") -> str:
    return f"{count(number)} {one if number == 1 else many or one + 's'}"


def status(word: str) -> str:
    return _STATUS.get(word, word)


def family(word: str) -> str:
    return _FAMILIES.get(word, word.replace("_", " "))


def span(keys: Sequence[str]) -> str:
    """From the first to the last of keys in order."""
    if not keys:
        return ""
    return name(keys[0]) if keys[0] == keys[-1] else f"{name(keys[0])} to {name(keys[-1])}"


def moment(stamp: str) -> str:
    """ISO 8601 in UTC to the minute, without the T: "2026-01-01 06:30"."""
    return name(stamp, 40).replace("T", " ")[:16]
