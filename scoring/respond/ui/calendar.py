"""Partitions by day: months with a cell a day, and the days on which one should have come and did not.

A day is missing in a series of partitions when it lies between the first and the last, and is due: a weekday that has had one, and
of a series that comes daily every working day. Of one that comes more seldom than weekly nothing is claimed, nor of a pause of a
year.
"""

from __future__ import annotations

from calendar import monthrange
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from statistics import median

from scoring.respond.report.words import count, name, plural, status
from scoring.respond.ui.partitions import STATES, Standing, day, series

MOST_MONTHS, _MOST_KEYS = 12, 600  # of a page
_LONGEST_GAP = 366  # days: dates are foreign data, and may lie a thousand years apart
MARKS = {"published": "", "published-with-warnings": "!", "held": "H", "failed": "\N{MULTIPLICATION SIGN}"}
MARKS |= {"missing": "\N{EN DASH}", "stale": "~", "damaged": "?", "refused": "R", "paused": "P"}
_WORDS = {"published-with-warnings": "with warnings"}
_WEEK_DAYS, _WORKING = 7, set(range(5))
Span = tuple[date, date]  # first and last month, by their first days


@dataclass(frozen=True)
class Cell:
    """A day. `state` is "" where nothing is expected; `key` is "" unless there is one partition, or one that matters most."""

    day: int
    state: str
    mark: str
    key: str
    said: str


@dataclass(frozen=True)
class Month:
    """`blanks` are the days of the first week that belong to the month before; weeks begin on Monday."""

    name: str
    blanks: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Calendar:
    """`months` the newest first; `older` and `newer` are the last months of the pages beside ("2026-01"), "" at the ends.

    `counts` are partitions by state, those missing among them, of these months.
    """

    months: tuple[Month, ...]
    counts: Mapping[str, int]
    first: date | None
    last: date | None
    older: str = ""
    newer: str = ""
    undated: int = 0
    stale: int = 0  # all of another make, with warnings too


def make(keys: Collection[str], until: str, look: Callable[[Iterable[str]], list[Standing]]) -> Calendar:
    """The months up to `until` ("2026-01"; "": the newest), as many as a page bears. `look` is asked about their partitions."""
    days: defaultdict[date, list[str]] = defaultdict(list)
    undated = 0
    for key in keys:
        if (found := day(key)) is not None:
            days[found].append(key)
        else:
            undated += 1
    if not days:
        return Calendar((), {}, None, None, undated=undated)
    first, last = min(days), max(days)
    months = _page(days, _month(until, first, last))
    lacking = missing(keys)
    shown = [key for found, some in days.items() if months[-1] <= found.replace(day=1) <= months[0] for key in sorted(some)]
    standing: defaultdict[date, list[Standing]] = defaultdict(list)
    for one in look(shown):
        standing[day(one.key) or first].append(one)
    made = tuple(_made(month, standing, lacking) for month in months)
    inside = {found: some for found, some in lacking.items() if months[-1] <= found.replace(day=1) <= months[0]}
    stale = sum(bool(one.differs) for some in standing.values() for one in some)
    before = max((found for found in {*days, *lacking} if found < months[-1]), default=None)
    older = _named(before) if before else ""
    newer = _named(_later(months[0], last)) if months[0] < last.replace(day=1) else ""
    return Calendar(made, _counts(standing, inside), first, last, older, newer, undated, stale)


def missing(keys: Iterable[str]) -> dict[date, list[str]]:
    """Days without a partition that was due, and the series that lack it."""
    by_series: defaultdict[str, set[date]] = defaultdict(set)
    for key in keys:
        if (found := day(key)) is not None:
            by_series[series(key)].add(found)
    lacking: defaultdict[date, list[str]] = defaultdict(list)
    for one, known in sorted(by_series.items()):
        for found in _gaps(sorted(known)):
            lacking[found].append(one)
    return lacking


def _gaps(known: Sequence[date]) -> Iterable[date]:
    steps = [(b - a).days for a, b in pairwise(known)]
    if not steps or median(steps) > _WEEK_DAYS:
        return
    due = {found.weekday() for found in known} | (_WORKING if median(steps) == 1 else set())
    for before, after in pairwise(known):
        for n in range(1, (after - before).days if (after - before).days <= _LONGEST_GAP else 0):
            if (found := before + timedelta(days=n)).weekday() in due:
                yield found


def _page(days: Mapping[date, Sequence[str]], last: date) -> list[date]:
    """First days of months, the newest first."""
    sizes: defaultdict[date, int] = defaultdict(int)
    for found, some in days.items():
        sizes[found.replace(day=1)] += len(some)
    first, months, total = min(sizes), [last], sizes[last]
    while len(months) < MOST_MONTHS and months[-1] > first:
        before = _before(months[-1])
        total += sizes[before]
        if total > _MOST_KEYS:
            break
        months.append(before)
    return months


def _month(until: str, first: date, last: date) -> date:
    """The month that was asked for, between the first and the last that there are."""
    try:
        asked = date.fromisoformat(f"{until}-01") if until else last
    except ValueError:
        asked = last
    return min(max(asked, first), last).replace(day=1)


def _made(month: date, standing: Mapping[date, Sequence[Standing]], lacking: Mapping[date, Sequence[str]]) -> Month:
    days = [month + timedelta(days=n) for n in range(monthrange(month.year, month.month)[1])]
    cells = tuple(_cell(one, standing.get(one, ()), lacking.get(one, ())) for one in days)
    return Month(f"{month:%B %Y}", month.weekday(), cells)


def _cell(found: date, some: Sequence[Standing], lacking: Sequence[str]) -> Cell:
    worst = min(some, key=lambda one: (STATES.index(one.state), one.key), default=None)
    state = worst.state if worst else ""
    if lacking and (not state or STATES.index("missing") < STATES.index(state)):
        state = "missing"
    if not state:
        return Cell(found.day, "", "", "", "")
    key = worst.key if worst else ""
    also = "~" if worst and worst.differs and state == "published-with-warnings" else ""
    return Cell(found.day, state, MARKS[state] + also, key, f"{found}: {_said(some, lacking)}")


def _said(some: Sequence[Standing], lacking: Sequence[str]) -> str:
    if len(some) == 1 and not lacking:
        one = some[0]
        differs = f", made with another {' and '.join(word.removeprefix('the ') for word in one.differs)}" if one.differs else ""
        rows = f", {count(one.rows['in'])} rows" if one.rows else ""
        return f"{name(one.key)} {label(one.state)}{rows}{differs}"
    states = [one.state for one in some] + ["missing"] * len(lacking)
    return ", ".join(f"{count(states.count(s))} {label(s)}" for s in STATES if s in states)


def label(state: str) -> str:
    return _WORDS.get(state, status(state))


def tallied(counts: Mapping[str, int]) -> str:
    """ "20 published, 1 held"."""
    return ", ".join(f"{count(counts[s])} {label(s)}" for s in reversed(STATES) if counts.get(s)) or plural(0, "partition")


def _counts(standing: Mapping[date, Sequence[Standing]], lacking: Mapping[date, Sequence[str]]) -> dict[str, int]:
    found = dict.fromkeys(STATES, 0)
    for some in standing.values():
        for one in some:
            found[one.state] += 1
    found["missing"] += sum(map(len, lacking.values()))
    return found


def _before(month: date) -> date:
    return (month - timedelta(days=1)).replace(day=1)


def _after(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def _later(month: date, last: date) -> date:
    """The last month of the next page, if that is full."""
    found = month
    for _ in range(MOST_MONTHS):
        found = _after(found) if found < last.replace(day=1) else found
    return found


def _named(month: date) -> str:
    return f"{month.year:04d}-{month.month:02d}"
