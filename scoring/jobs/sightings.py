"""What was found of each column over the partitions of a run: the worst of it, how it went, and the counts to draw it from.

Partitions come one at a time and are let go: memory grows with columns and verdicts, not with the counts of every partition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scoring.respond.report.facts import Found, Histogram, ScoreColumn, WatchedColumn
from scoring.watch import causes
from scoring.watch.baseline import Baseline
from scoring.watch.drift import Finding
from scoring.watch.plan import Output, Watched
from scoring.watch.summary import MIXED, WHOLE, Summary

_FAMILIES = ("drift", "score_drift", "null_rate")
_GRAVITY = ("fail", "warn", "pass", "skip")
_WITHIN = 3  # segments that are named
_PRESENCE = ("with a value", "null or NaN")
_OTHERS = "unseen or rare"
Rank = tuple[int, float]


class Sightings:
    """Use: `add` partitions in the order of their keys, then `columns` and `scores`. `baseline` is that of the run's verdicts."""

    def __init__(self, baseline: Baseline | None) -> None:
        self._baseline = baseline
        self._columns: dict[tuple[bool, str], _Column] = {}
        self._total = Summary()

    def add(self, key: str, found: Mapping[str, Any]) -> None:
        """`found` is the record of a judgement, as `scoring.jobs.watching` keeps it."""
        summary = Summary(found["summary"])
        ours = self._baseline is not None and found["baseline"] == self._baseline.digest and summary.plan != MIXED
        self._total += Summary({k: summary.plain[k] for k in ("plan", "rows", "scores") if k in summary.plain})
        for plain in found["findings"]:
            if plain["family"] in _FAMILIES and plain["status"] != "skip":
                name = (plain["family"] == "score_drift", plain["column"])
                if (column := self._columns.get(name)) is None:
                    column = self._columns[name] = _Column()
                column.add(key, plain, summary if ours else None)

    def columns(self) -> tuple[WatchedColumn, ...]:
        return tuple(self._column(score, name, column) for (score, name), column in sorted(self._columns.items()))

    def _column(self, score: bool, name: str, column: _Column) -> WatchedColumn:
        worst = tuple(sorted(column.worst.values(), key=_rank, reverse=True))
        within = tuple(sorted(column.within.values(), key=_rank, reverse=True)[:_WITHIN])
        trail = tuple((key, times, hit) for key, (times, hit) in column.trail.items())
        return WatchedColumn(name, score, worst, within, trail, self._picture(score, name, column))

    def _picture(self, score: bool, name: str, column: _Column) -> Histogram | None:
        if self._baseline is None or column.counts is None:
            return None
        counted = self._baseline.summary.of("scores" if score else "columns").get(name)
        if counted is None:
            return None
        before, now = _with_n(counted, self._baseline.summary.rows), _with_n(*column.counts)
        if column.of_nulls:
            cells = [(c["n"], c["rows"] - c["n"]) for c in (before, now)]
            return Histogram(_PRESENCE, cells[0], cells[1], True)
        plan = self._baseline.plan
        return histogram(plan.outputs[name] if score else plan.columns[name], before, now)

    def scores(self) -> tuple[ScoreColumn, ...]:
        """Scores over all partitions; without a baseline their means alone."""
        plain = self._total.of("scores")
        return tuple(self._score(name, plain[name]) for name in sorted(plain))

    def _score(self, name: str, now: Mapping[str, Any]) -> ScoreColumn:
        mine = self._baseline
        output = mine.plan.outputs.get(name, Output()) if mine else Output()
        before = mine.summary.of("scores").get(name) if mine else None
        pair = (_with_n(before, before["rows"]), _with_n(now, now["rows"])) if before else None
        picture = histogram(output, *pair) if pair and output.edges else None
        return ScoreColumn(name, now["rows"], _mean(now, output), _mean(before, output) if before else None, picture)


class _Column:
    """The worst by family and by segment, effect beside limit by partition, and the counts of the worst partition.

    Of findings, which are many, only those that are worse than what is known become more than plain data.
    """

    def __init__(self) -> None:
        self.worst: dict[str, Found] = {}
        self.within: dict[str, Found] = {}
        self.trail: dict[str, tuple[float, bool]] = {}
        self.of_nulls = False
        self.counts: tuple[Mapping[str, Any], int] | None = None  # as counted, and the rows they were counted in
        self._ranks: dict[str, Rank] = {}
        self._drawn: Rank = (-len(_GRAVITY), -1.0)

    def add(self, key: str, plain: Mapping[str, Any], summary: Summary | None) -> None:
        times = plain["value"] / plain["threshold"] if plain["threshold"] else 0.0
        rank, hit = (-_GRAVITY.index(plain["status"]), times), plain["status"] in ("warn", "fail")
        if plain["slice"] != WHOLE:
            if hit and self._beats(f"where {plain['slice']}", rank):
                self.within[plain["slice"]] = Found(key, Finding(**plain))
            return
        if self._beats(plain["family"], rank):
            self.worst[plain["family"]] = Found(key, Finding(**plain))
        known, before = self.trail.get(key, (0.0, False))
        self.trail[key] = (max(known, round(times, 4)), before or hit)
        if summary is not None and rank >= self._drawn:
            self._draw(plain, summary, rank, hit)

    def _beats(self, what: str, rank: Rank) -> bool:
        """Whether this is the worst so far; of equal ones the later is."""
        if what in self._ranks and rank < self._ranks[what]:
            return False
        self._ranks[what] = rank
        return True

    def _draw(self, plain: Mapping[str, Any], summary: Summary, rank: Rank, hit: bool) -> None:
        part = summary.of("scores" if plain["family"] == "score_drift" else "columns")
        if plain["column"] in part:
            self.counts, self._drawn = (part[plain["column"]], summary.rows), rank
            self.of_nulls = plain["family"] == "null_rate" and hit


def histogram(cells: Watched | Output, before: Mapping[str, Any], now: Mapping[str, Any]) -> Histogram | None:
    """Both counts over the cells of the baseline; None where only nulls are counted."""
    if cells.edges and "le" in before and "le" in now:
        pair = (causes.bins(before).tolist(), causes.bins(now).tolist())
        labels = [f"up to {edge:.4g}" for edge in cells.edges] + [f"above {cells.edges[-1]:.4g}"]
        return Histogram(tuple(labels), tuple(pair[0]), tuple(pair[1]), True)
    if isinstance(cells, Watched) and cells.values and "in" in before and "in" in now:
        was, is_now = ([*c["in"], sum(c["other"].values())] for c in (before, now))
        return Histogram((*cells.values, _OTHERS), tuple(was), tuple(is_now), False)
    return None


def _with_n(counts: Mapping[str, Any], rows: int) -> dict[str, Any]:
    """`n`, the finite values, as bins are counted from."""
    return {**counts, "rows": rows, "n": rows - sum(counts.get(odd, 0) for odd in ("null", "nan", "inf", "ninf"))}


def _mean(counts: Mapping[str, Any], output: Output) -> float | None:
    return float(counts["sum"] * 2.0**output.step / counts["rows"]) if counts["rows"] else None


def _rank(found: Found) -> Rank:
    one = found.finding
    return -_GRAVITY.index(one.status), one.value / one.threshold if one.threshold else 0.0
