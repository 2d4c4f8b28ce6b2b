"""What was found of each column over the partitions of a run: the worst of it, how it went, and the counts to draw it from.

Partitions come one at a time and are let go: memory grows with columns and verdicts, not with the counts of every partition.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scoring.respond.report.facts import Found, Histogram, ScoreColumn, WatchedColumn
from scoring.watch import causes
from scoring.watch.baseline import Baseline
from scoring.watch.drift import WHOLE, Finding
from scoring.watch.plan import Output, Watched
from scoring.watch.summary import MIXED, Summary

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
        for one in (Finding(**plain) for plain in found["findings"]):
            if one.family in _FAMILIES and one.status != "skip":
                name = (one.family == "score_drift", one.column)
                self._columns.setdefault(name, _Column()).add(Found(key, one), summary if ours else None)

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
        part = "scores" if score else "columns"
        before = _with_n(self._baseline.summary.of(part)[name], self._baseline.summary.rows)
        if column.of_nulls:
            cells = [(c["n"], c["rows"] - c["n"]) for c in (before, column.counts)]
            return Histogram(_PRESENCE, cells[0], cells[1], True)
        plan = self._baseline.plan
        return histogram(plan.outputs[name] if score else plan.columns[name], before, column.counts)

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
    """The worst by family and by segment, effect beside limit by partition, and the counts of the worst partition."""

    def __init__(self) -> None:
        self.worst: dict[str, Found] = {}
        self.within: dict[str, Found] = {}
        self.trail: dict[str, tuple[float, bool]] = {}
        self.of_nulls = False
        self.counts: dict[str, Any] | None = None
        self._drawn: Rank = (-len(_GRAVITY), -1.0)

    def add(self, found: Found, summary: Summary | None) -> None:
        one = found.finding
        hit = one.status in ("warn", "fail")
        if one.slice != WHOLE:
            if hit and (one.slice not in self.within or _rank(found) > _rank(self.within[one.slice])):
                self.within[one.slice] = found
            return
        if one.family not in self.worst or _rank(found) >= _rank(self.worst[one.family]):
            self.worst[one.family] = found
        times, before = self.trail.get(found.partition, (0.0, False))
        self.trail[found.partition] = (max(times, round(_times(one), 4)), before or hit)
        self._draw(found, summary)

    def _draw(self, found: Found, summary: Summary | None) -> None:
        one = found.finding
        if summary is None or _rank(found) < self._drawn:
            return
        part = summary.of("scores" if one.family == "score_drift" else "columns")
        if one.column in part:
            self.counts, self._drawn = _with_n(part[one.column], summary.rows), _rank(found)
            self.of_nulls = one.family == "null_rate" and one.status in ("warn", "fail")


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


def _times(one: Finding) -> float:
    return one.value / one.threshold if one.threshold else 0.0


def _rank(found: Found) -> Rank:
    return -_GRAVITY.index(found.finding.status), _times(found.finding)
