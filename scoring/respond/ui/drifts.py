"""Drift over time: for each column and score, how far the newest partitions were from the baseline, the worst first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scoring.respond.report.pictures import Trail, trail
from scoring.respond.report.words import family, name, plural, share, span
from scoring.respond.ui.partitions import Standing
from scoring.respond.ui.shelf import Damaged, Shelf, real, table, text
from scoring.watch.summary import WHOLE

MOST_PARTITIONS = 60
MOST_COLUMNS = 200
_ROOT = "watch/records"
_FAMILIES = ("drift", "score_drift", "null_rate")
_GRAVITY = ("fail", "warn", "pass")


@dataclass(frozen=True)
class Seen:
    """A comparison of one column of a partition with the baseline: `times` says how often the limit goes into the effect."""

    column: str
    family: str
    status: str
    times: float
    words: str


@dataclass(frozen=True)
class Column:
    """`grave`: failed somewhere. `when` says where it was found, `said` what was found last, `key` is that partition."""

    name: str
    score: bool
    status: str
    said: str
    when: str
    key: str
    trail: Trail


@dataclass(frozen=True)
class Drifts:
    """`drifted` and `calm` together are all columns that were compared; `judged` of `asked` partitions were."""

    drifted: tuple[Column, ...]
    calm: tuple[Column, ...]
    judged: int
    asked: int
    damage: tuple[Damaged, ...] = ()


def make(shelf: Shelf, standing: Sequence[Standing]) -> Drifts:
    """`standing` in the order of time."""
    found = list(zip([one.key for one in standing], shelf.each(lambda one: _judged(shelf, one), standing), strict=True))
    damage = tuple(seen for _, seen in found if isinstance(seen, Damaged))
    columns: defaultdict[tuple[bool, str], list[tuple[str, Seen]]] = defaultdict(list)
    for key, some in found:
        for one in some if isinstance(some, tuple) else ():
            columns[one.family == "score_drift", one.column].append((key, one))
    ordered = sorted(columns.items(), key=lambda c: _weight(c[0], c[1]))[:MOST_COLUMNS]
    made = [_column(which, seen) for which, seen in ordered]
    judged = sum(isinstance(seen, tuple) and bool(seen) for _, seen in found)
    drifted = tuple(c for c in made if c.status != "pass")
    return Drifts(drifted, tuple(c for c in made if c.status == "pass"), judged, len(standing), damage)


def _judged(shelf: Shelf, one: Standing) -> tuple[Seen, ...] | Damaged | None:
    """The record of the run that speaks for the partition, or else the last in name (a requeue judges nothing)."""
    folder = f"{_ROOT}/{one.key}"
    names = [found for found in shelf.names(folder) if "/" not in found[len(folder) + 1 :]]
    mine = [found for found in names if found.startswith(f"{folder}/{one.run_id}.")]
    return shelf.lasting((mine or names)[-1], _seen) if names else None


def _seen(raw: Any) -> tuple[Seen, ...]:
    found = [f for f in raw["findings"] if f["family"] in _FAMILIES and f["slice"] == WHOLE and f["status"] != "skip"]
    return tuple(_one(table(f)) for f in found)


def _one(raw: dict[str, Any]) -> Seen:
    value, limit = real(raw["value"]), real(raw["threshold"])
    size = f"; {share(value)} of rows moved" if raw["family"] != "null_rate" else ""
    words = f"{text(raw['cause'])}: {text(raw['words'])}{size}" if raw["cause"] else ""
    if raw["status"] not in _GRAVITY:
        raise ValueError(f"{raw['status']!r} is no verdict")
    return Seen(text(raw["column"]), text(raw["family"]), text(raw["status"]), value / limit if limit else 0.0, words[:300])


def _weight(which: tuple[bool, str], seen: Sequence[tuple[str, Seen]]) -> tuple[Any, ...]:
    worst = min(_GRAVITY.index(one.status) for _, one in seen)
    hits = {key for key, one in seen if one.status != "pass"}
    return worst, -len(hits), -max(one.times for _, one in seen), which[1]


def _column(which: tuple[bool, str], seen: Sequence[tuple[str, Seen]]) -> Column:
    steps: dict[str, tuple[float, bool]] = {}
    for key, one in seen:  # values and nulls of one column: the further off of the two
        times, hit = steps.get(key, (0.0, False))
        steps[key] = (max(times, one.times), hit or one.status != "pass")
    hits = [key for key, (_, hit) in steps.items() if hit]
    bad = [(key, one) for key, one in seen if one.status != "pass"]
    last_key, last = bad[-1] if bad else ("", None)
    drawn = trail([(key, times, hit) for key, (times, hit) in steps.items()], which[1])
    return Column(
        name(which[1]),
        which[0],
        min((one.status for _, one in seen), key=_GRAVITY.index),
        f"{family(last.family)} {last.words}" if last else "",
        f"{len(hits)} of {plural(len(steps), 'partition')}: {span(hits)}" if hits else "",
        last_key,
        drawn,
    )
