"""What does not look like the baseline, the worst first, and what was lost by which rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scoring.respond.report.account import rejections
from scoring.respond.report.facts import Example, Facts, Found, ScoreColumn, WatchedColumn
from scoring.respond.report.pictures import Bars, Trail, bars, trail
from scoring.respond.report.words import NONE, count, family, name, plural, share, span
from scoring.types import RunRecord

_GRAVITY = ("fail", "warn", "pass", "skip")
MOST_CARDS, MOST_CALM = 200, 400
_MOST_RULES, _MOST_FILES, _LONGEST_VALUE = 100, 100, 60


@dataclass(frozen=True)
class Card:
    """A column that was found drifted. `said` are its findings in words, `within` those of segments."""

    name: str
    score: bool
    grave: bool
    said: list[tuple[str, str]]
    within: list[str]
    when: str
    shown: str
    bars: Bars | None
    trail: Trail | None


@dataclass(frozen=True)
class Calm:
    """A column that looks like the baseline: its largest effect beside the limit."""

    name: str
    effect: str
    limit: str
    where: str
    bars: Bars | None


@dataclass(frozen=True)
class Spread:
    """A score over the whole run."""

    name: str
    rows: str
    mean: str
    before: str
    bars: Bars | None


@dataclass(frozen=True)
class Loss:
    """A rule, the rows that it lost and some of them."""

    rule: str
    stage: str
    rows: int
    share: str
    examples: list[Example]


def ordered(columns: Sequence[WatchedColumn]) -> list[WatchedColumn]:
    """The worst first: by verdict, then by how often the limit goes into the effect."""
    return sorted(columns, key=lambda c: (_GRAVITY.index(verdict(c)), -times(c), c.name))


def verdict(column: WatchedColumn) -> str:
    return min((f.finding.status for f in (*column.worst, *column.within)), key=_GRAVITY.index, default="skip")


def times(column: WatchedColumn) -> float:
    return max((effect(f) for f in column.worst), default=0.0)


def effect(found: Found) -> float:
    """How often the limit goes into what was found: 1.0 = at the limit."""
    return found.finding.value / found.finding.threshold if found.finding.threshold else 0.0


def cards(columns: Sequence[WatchedColumn]) -> list[Card]:
    return [_card(c) for c in ordered(columns) if verdict(c) in ("fail", "warn")]


def calm(columns: Sequence[WatchedColumn]) -> list[Calm]:
    return [_calm(c) for c in ordered(columns) if verdict(c) not in ("fail", "warn")]


def _card(column: WatchedColumn) -> Card:
    bad = [f for f in column.worst if f.finding.status in ("fail", "warn")]
    hits = [key for key, _, hit in column.trail if hit]
    when = f"{len(hits)} of {plural(len(column.trail), 'partition')}: {span(hits)}" if hits else ""
    return Card(
        name(column.name),
        column.score,
        any(f.finding.status == "fail" for f in (*column.worst, *column.within)),
        [(family(f.finding.family), _words(f)) for f in bad],
        [f"{name(f.finding.slice)}: {_words(f)}" for f in column.within],
        when,
        name(column.worst[0].partition) if column.worst else "",
        bars(column.picture, column.name) if column.picture else None,
        trail(column.trail, column.name) if len(column.trail) > 1 else None,
    )


def _words(found: Found) -> str:
    one = found.finding
    size = f"; {share(one.value)} of rows moved, PSI {one.psi:.3f}" if one.family in ("drift", "score_drift") else ""
    return name(f"{one.cause}: {one.words}", 300) + size


def _calm(column: WatchedColumn) -> Calm:
    if not column.worst:
        return Calm(name(column.name), NONE, NONE, "", None)
    top = column.worst[0]
    picture = bars(column.picture, column.name) if column.picture else None
    return Calm(name(column.name), share(top.finding.value), share(top.finding.threshold), name(top.partition), picture)


def spreads(scores: Sequence[ScoreColumn]) -> list[Spread]:
    return [
        Spread(name(s.name), count(s.rows), _mean(s.mean), _mean(s.mean_before), bars(s.picture, s.name) if s.picture else None)
        for s in scores
    ]


def _mean(mean: float | None) -> str:
    return NONE if mean is None else f"{mean:,.4g}"


def losses(facts: Facts) -> list[Loss]:
    """Rules by the rows that they lost; shares are of all rows."""
    record = facts.record
    found = sorted(rejections(record).items(), key=lambda r: (-r[1], r[0]))
    return [_loss(rule, rows, record, facts.examples) for rule, rows in found[:_MOST_RULES]]


def _loss(rule: str, rows: int, record: RunRecord, examples: Sequence[Example]) -> Loss:
    stage, _, rest = rule.partition(":")
    mine = [Example(e.rule, name(_tail(e.file)), e.row, name(e.value, _LONGEST_VALUE)) for e in examples if e.rule == rule]
    return Loss(name(rest or rule), name(stage) if rest else "", rows, share(rows, record.rows["in"]), mine)


def lost_files(record: RunRecord) -> list[tuple[str, str, int]]:
    """(path, reason, rows) of files that were lost as a whole; 0 rows where nobody can know."""
    return [(name(b.path, 240), name(b.reason, 240), b.rows) for b in record.bad_files[:_MOST_FILES]]


def _tail(path: str) -> str:
    """The end of a path, which tells files apart."""
    return "/".join(path.rsplit("/", 3)[-2:])
