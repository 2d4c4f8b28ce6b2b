"""Days as a calendar of letters: a line a month, or, for hours, a line a day. Capitals are what would be scored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

LEGEND = {
    "M": "missing, to be scored",
    "F": "failed or held, to be scored again",
    "S": "stale, to be scored again",
    "A": "fresh, to be scored again",
    "!": "no model is known for it",
    "w": "not ready",
    "m": "missing",
    "f": "failed or held",
    "s": "stale",
    "g": "published, and its input is gone",
    ".": "published and fresh",
    "-": "nothing there",
}  # the first wins where one day has several partitions
_COLOURS = {"M": "32", "F": "31", "S": "33", "A": "36", "!": "31", "w": "35", "f": "31", "s": "33"}
_LINES = 130


def letter(state: str, action: str) -> str:
    """Of a partition, by its state and what is to be done about it."""
    if action in ("wait", "refuse"):
        return "w" if action == "wait" else "!"
    plain = {"missing": "m", "failed": "f", "stale": "s", "gone": "g", "fresh": ".", "empty": "-"}[state]
    return ("A" if plain == "." else plain.upper()) if action == "score" else plain


def draw(cells: Iterable[tuple[datetime, str]], hours: bool, colour: bool = False) -> list[str]:
    """`cells` are (begin in the zone of the calendar, letter)."""
    rows: dict[str, dict[int, str]] = {}
    for begin, one in cells:
        row = rows.setdefault(begin.strftime("%Y-%m-%d" if hours else "%Y-%m"), {})
        place = begin.hour if hours else begin.day
        row[place] = min(one, row.get(place, one), key=list(LEGEND).index)
    wide = range(24) if hours else range(1, 32)
    head = "".join(str(n % 10) for n in wide)
    lines = [f"{'':10}  {head}"]
    for name in sorted(rows)[:_LINES]:
        lines.append(f"{name:10}  {''.join(_painted(rows[name].get(n, ' '), colour) for n in wide)}".rstrip())
    if len(rows) > _LINES:
        lines.append(f"and {len(rows) - _LINES:,} more lines; --json has all")
    return [*lines, *_legend(rows, colour)]


def _legend(rows: Mapping[str, Mapping[int, str]], colour: bool) -> Iterator[str]:
    seen = {one for row in rows.values() for one in row.values()}
    yield from (f"  {_painted(one, colour)}  {meaning}" for one, meaning in LEGEND.items() if one in seen)


def _painted(one: str, colour: bool) -> str:
    return f"\x1b[{_COLOURS[one]}m{one}\x1b[0m" if colour and one in _COLOURS else one
