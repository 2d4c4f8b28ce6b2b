"""Drift: the rows of a partition beside the baseline's. Pure; what is found is a Finding, and a Check where it matters.

A column has drifted if the effect is over a floor and significant. The floor: PSI beyond chance of `psi_warn` (0.1, the usual rule
of thumb), or `moved` beyond chance (0.02): two rows in a hundred crossed an edge. PSI alone is deaf to what matters: a shift of 0.1
standard deviations has a PSI of 0.01, and moves 4 rows in 100. Significance: see `scoring/watch/evidence.py`. Effects under their
floor are not tested (their p value is null), which can only make Benjamini-Hochberg stricter. Fewer than `min_rows` rows: skip,
never pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from scoring.settings import Watch
from scoring.types import Check
from scoring.watch import causes
from scoring.watch.baseline import Baseline
from scoring.watch.evidence import Pair, rejected
from scoring.watch.plan import Output, Watched
from scoring.watch.summary import MIXED, WHOLE, Summary

Family = Literal["drift", "score_drift", "null_rate", "quarantine_mix", "history"]
_ODD = ("nan", "inf", "ninf")


@dataclass(frozen=True)
class Finding:
    """One comparison. `value` is the effect, held against `threshold`: the floor, and what chance gives on average. `rows` is what
    it was computed from; `words` say direction and size.
    """

    family: Family
    column: str
    slice: str
    statistic: str
    value: float
    threshold: float
    psi: float
    p_value: float | None
    status: Literal["pass", "warn", "fail", "skip"]
    rows: int
    cause: str = ""
    words: str = ""


@dataclass(frozen=True)
class _Test:
    """`told` says (cause, words) when asked."""

    family: Family
    column: str
    slice: str
    statistic: str
    pair: Pair
    floor: float
    told: Any


@dataclass(frozen=True)
class Seen:
    """A partition: its merged summary, rows that were not admitted by "stage:reason", and all rows that were read."""

    summary: Summary
    reasons: Mapping[str, int]
    rows_in: int


def judge(seen: Seen, baseline: Baseline | None, model: str, watch: Watch) -> tuple[Finding, ...]:
    """All comparisons of a partition with the baseline, drifted or not; one that says why, if none can be made.

    `model` is the digest of the model that scored: scores of another one are not compared.
    """
    if baseline is None:
        return (_skipped("drift", "no baseline: make one with scoring baseline PATH bundle=…", seen.summary.rows),)
    if seen.summary.plan == MIXED:
        return (_skipped("drift", "counted under two baselines or versions: cannot be compared", seen.summary.rows),)
    if seen.rows_in < watch.min_rows:
        return (_skipped("drift", f"{seen.rows_in:,} rows, fewer than watch.min_rows ({watch.min_rows:,})", seen.rows_in),)
    tests = list(_tests(seen, baseline, model, watch))
    judged = [t for t in tests if _enough(t, watch)]
    large = [t for t in judged if t.pair.moved - t.pair.chance >= t.floor or t.pair.excess >= watch.psi_warn]
    p_values = [t.pair.p_value for t in large]
    drifted = dict(zip(map(id, large), rejected(p_values, len(judged), watch.alpha), strict=True))
    proofs = dict(zip(map(id, large), p_values, strict=True))
    return tuple(_finding(t, t in judged, proofs.get(id(t)), drifted.get(id(t), False), watch) for t in tests)


def checks(key: str, findings: tuple[Finding, ...], watch: Watch) -> tuple[Check, ...]:
    """A Check for each thing found; one for all comparisons of a family in which nothing was."""
    said: list[Check] = []
    for family in dict.fromkeys(f.family for f in findings):
        group = [f for f in findings if f.family == family]
        bad = [f for f in group if f.status in ("warn", "fail")]
        if bad:
            said += [_check(f, watch) for f in sorted(bad, key=lambda f: (f.slice != WHOLE, f.slice, -f.value))]
            continue
        judged = [f for f in group if f.status == "pass"]
        actual = f"{len(judged)} compared, none over its floor and significant" if judged else group[0].words
        said.append(Check(family, key, "pass" if judged else "skip", "warn", _expected(family, watch), actual))
    return tuple(said)


def _skipped(family: Family, why: str, rows: int) -> Finding:
    return Finding(family, "", WHOLE, "", 0.0, 0.0, 0.0, None, "skip", rows, "", why)


def _tests(seen: Seen, baseline: Baseline, model: str, watch: Watch) -> Iterator[_Test]:
    slices = [(WHOLE, seen.summary, baseline.summary)]
    slices += [(name, seen.summary.segment(name), baseline.summary.segment(name)) for name in sorted(seen.summary.of("segments"))]
    for where, now, before in slices:
        for name, watched in baseline.plan.columns.items():
            if name in before.of("columns") and name in now.of("columns"):
                yield from _column(where, name, watched, (before, now), watch)
        for name, output in baseline.plan.outputs.items():
            if name in before.of("scores") and name in now.of("scores") and baseline.model == model:
                yield from _score(where, name, output, (before, now), watch)
    yield from _quarantine(seen, baseline, watch)


def _column(where: str, name: str, watched: Watched, both: tuple[Summary, Summary], watch: Watch) -> Iterator[_Test]:
    counts = [_with_n(s.of("columns")[name], s.rows) for s in both]
    missing = [np.array([c["rows"] - c["n"], c["n"]], np.int64) for c in counts]
    yield _Test("null_rate", name, where, "difference", Pair(missing[0], missing[1], False), watch.nulls, lambda p: _nulls(missing))
    if watched.kind == "number" and watched.edges and "le" in counts[1]:  # of some personal columns only nulls are counted
        binned = (causes.bins(counts[0]), causes.bins(counts[1]))
        told = lambda p: causes.number(counts[0], counts[1], watched.edges, binned)  # noqa: E731
        yield _Test("drift", name, where, "ks", Pair(*binned, True), watch.moved, told)
    elif watched.kind == "category" and "in" in counts[1]:
        cells = [np.array([*c["in"], sum(c["other"].values())], np.int64) for c in counts]
        told = lambda p: causes.category(counts[0], counts[1], watched.values)  # noqa: E731
        yield _Test("drift", name, where, "total_variation", Pair(cells[0], cells[1], False), watch.moved, told)


def _score(where: str, name: str, output: Output, both: tuple[Summary, Summary], watch: Watch) -> Iterator[_Test]:
    counts = [dict(s.of("scores")[name]) for s in both]
    counts = [c | {"n": c["rows"]} for c in counts]
    if output.edges:
        binned = (causes.bins(counts[0]), causes.bins(counts[1]))
        told = lambda p: causes.number(counts[0], counts[1], output.edges, binned)  # noqa: E731
        yield _Test("score_drift", name, where, "ks", Pair(*binned, True), watch.moved, told)


def _quarantine(seen: Seen, baseline: Baseline, watch: Watch) -> Iterator[_Test]:
    """Each reason by its share of all rows; files lost as a whole have a check of their own."""
    for reason in sorted({r for r in {**seen.reasons, **baseline.reasons} if r.startswith(("admit:", "score:"))}):
        cells = [
            np.array([hits, rows - hits], np.int64)
            for hits, rows in ((baseline.reasons.get(reason, 0), baseline.rows_in), (seen.reasons.get(reason, 0), seen.rows_in))
        ]
        told = lambda p: ("quarantine", _rates(p))  # noqa: E731
        yield _Test("quarantine_mix", reason, WHOLE, "difference", Pair(cells[0], cells[1], False), watch.nulls, told)


def _with_n(counts: Mapping[str, Any], rows: int) -> dict[str, Any]:
    return {**counts, "rows": rows, "n": rows - counts["null"] - sum(counts.get(odd, 0) for odd in _ODD)}


def _nulls(missing: list[Any]) -> tuple[str, str]:
    before, now = missing
    if now[1] == 0:
        return "empty", "every value is null or NaN"
    burst = now[0] / now.sum() > before[0] / before.sum()
    return ("null burst" if burst else "fewer nulls"), f"{_rates(Pair(before, now, False))} null or NaN"


def _rates(pair: Pair) -> str:
    p, q = (c[0] / c.sum() for c in (pair.before, pair.now))
    return f"{p:.2%} -> {q:.2%} of rows"


def _enough(test: _Test, watch: Watch) -> bool:
    """Both sides have rows to compare."""
    return min(int(test.pair.before.sum()), int(test.pair.now.sum())) >= watch.min_rows


def _finding(test: _Test, judged: bool, p_value: float | None, drifted: bool, watch: Watch) -> Finding:
    pair, rows = test.pair, int(test.pair.now.sum())
    given = (test.family, test.column, test.slice, test.statistic)
    if not judged:
        return replace(
            _skipped(test.family, f"{test.column}: {rows:,} values are too few", rows), column=test.column, slice=test.slice
        )
    if not drifted:
        return Finding(*given, pair.moved, test.floor + pair.chance, pair.psi, p_value, "pass", rows)
    cause, words = test.told(pair)
    status: Literal["warn", "fail"] = "fail" if pair.excess >= watch.psi_error else "warn"
    return Finding(*given, pair.moved, test.floor + pair.chance, pair.psi, p_value, status, rows, cause, words)


def _check(finding: Finding, watch: Watch) -> Check:
    subject = finding.column + ("" if finding.slice == WHOLE else f" where {finding.slice}")
    size = f"; {finding.value:.1%} of rows moved, PSI {finding.psi:.3f}" if finding.family in ("drift", "score_drift") else ""
    words = f"{finding.cause}: {finding.words}{size}"
    return Check(finding.family, subject, finding.status, "warn", _expected(finding.family, watch), words)


def _expected(family: Family, watch: Watch) -> str:
    if family == "history":
        return f"within {watch.history_z:g} robust z of the partitions before"
    floor = watch.moved if family in ("drift", "score_drift") else watch.nulls
    return f"moved < {floor:.0%} of rows, or within chance at {watch.alpha:g}"
