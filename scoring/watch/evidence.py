"""Two histograms over the same cells: how far apart they are, and whether chance explains it.

Effect: `moved`, the share of rows that would have to change cell (total variation), or for ordered cells the largest difference of
the cumulative shares (Kolmogorov-Smirnov on the cells); and PSI, the population stability index. PSI of equal distributions is
about (1/n + 1/m) chi2_{B-1} (Yurdakul, "Statistical properties of the population stability index", 2018), so that its mean under no
drift, (B-1)(1/n + 1/m), is taken off before it is held against a floor: 100 rows have a PSI of 0.07 by chance. So is that of
`moved`: 0.87 sqrt(1/n + 1/m) for the largest difference (the mean of Kolmogorov's distribution), half the sum of mean absolute
deviations of a normal distribution for the other. Without that, a sliver of real change and the noise of many cells pass for drift.

Proof: Pearson's two-sample chi-square test, small cells merged until each expects 10 rows; where two cells remain and one expects
less, the exact conditional binomial test (Przyborowski and Wilenski, Biometrika 1940). Over all tests of a partition the
procedure of Benjamini and Hochberg (JRSS B 57, 1995), which without any drift errs in a share `alpha` of partitions at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Counts = np.ndarray[Any, np.dtype[np.int64]]
_EXPECTED = 10.0
_KOLMOGOROV_MEAN = float(np.sqrt(np.pi / 2) * np.log(2))


@dataclass(frozen=True)
class Pair:
    """`before` and `now`: int64 (cells,). `ordered`: cells follow each other."""

    before: Counts
    now: Counts
    ordered: bool

    @cached_property
    def moved(self) -> float:
        p, q = (c / max(1, c.sum()) for c in (self.before, self.now))
        if self.ordered:
            return float(np.abs(np.cumsum(q - p)).max(initial=0.0))
        return float(np.abs(q - p).sum() / 2)

    @cached_property
    def chance(self) -> float:
        """What `moved` is on average without drift."""
        m, n = int(self.before.sum()), int(self.now.sum())
        if not m or not n:
            return 0.0
        if self.ordered:
            return float(_KOLMOGOROV_MEAN * np.sqrt(1 / m + 1 / n))
        pooled = (self.before + self.now) / (m + n)
        return float(np.sqrt(2 / np.pi * pooled * (1 - pooled) * (1 / m + 1 / n)).sum() / 2)

    @cached_property
    def psi(self) -> float:
        """Empty cells count as half a row."""
        m, n = int(self.before.sum()), int(self.now.sum())
        if not m or not n:
            return 0.0
        p, q = np.maximum(self.before / m, 0.5 / m), np.maximum(self.now / n, 0.5 / n)
        both = (self.before + self.now) > 0
        return float(((q - p) * np.log(q / p))[both].sum())

    @property
    def excess(self) -> float:
        """PSI beyond what chance gives on average."""
        m, n = int(self.before.sum()), int(self.now.sum())
        cells = int(np.count_nonzero(self.before + self.now))
        return max(0.0, self.psi - (cells - 1) * (1 / m + 1 / n)) if m and n else 0.0

    @cached_property
    def p_value(self) -> float:
        """Of no drift; 1 where nothing can be told apart."""
        before, now = _merged(self.before, self.now)
        m, n = int(before.sum()), int(now.sum())
        if len(before) < 2 or not m or not n:
            return 1.0
        if len(before) == 2 and _least_expected(before, now) < _EXPECTED:
            return _exact(before, now)
        from scipy.special import chdtrc

        pooled = (before + now) / (m + n)
        statistic = ((before / m - now / n) ** 2 / pooled).sum() / (1 / m + 1 / n)
        return float(chdtrc(len(before) - 1, statistic))


def rejected(p_values: Sequence[float], tests: int, alpha: float) -> list[bool]:
    """Benjamini-Hochberg over `tests` tests; those that are not among `p_values` count as 1."""
    order = np.argsort(p_values, kind="stable")
    passed = [rank for rank, place in enumerate(order.tolist(), 1) if p_values[place] <= alpha * rank / tests]
    limit = max(passed, default=0)
    found = [False] * len(p_values)
    for place in order[:limit].tolist():
        found[place] = True
    return found


def _merged(before: Counts, now: Counts) -> tuple[Counts, Counts]:
    """Cells in which the smaller sample expects too few rows become one; two cells are left as they are."""
    share = min(before.sum(), now.sum()) / max(1, before.sum() + now.sum())
    expected = (before + now) * share
    kept, small = expected >= _EXPECTED, (expected < _EXPECTED) & (expected > 0)
    if not small.any() or np.count_nonzero(expected) <= 2:
        return before[expected > 0], now[expected > 0]
    if expected[small].sum() < _EXPECTED and np.count_nonzero(kept) > 1:
        least = int(np.flatnonzero(kept)[expected[kept].argmin()])
        kept[least], small[least] = False, True
    rest = [np.append(c[kept], c[small].sum()) for c in (before, now)]
    return rest[0], rest[1]


def _least_expected(before: Counts, now: Counts) -> float:
    m, n = int(before.sum()), int(now.sum())
    return float((before + now).min() * min(m, n) / (m + n))


def _exact(before: Counts, now: Counts) -> float:
    """Two cells: given all rows of the rarer one, how they fall to now and before."""
    from scipy.special import bdtr, bdtrc

    rare = int((before + now).argmin())
    hits, both = int(now[rare]), int(before[rare] + now[rare])
    share = int(now.sum()) / int(now.sum() + before.sum())
    low, high = float(bdtr(hits, both, share)), 1.0 if hits == 0 else float(bdtrc(hits - 1, both, share))
    return min(1.0, 2 * min(low, high))
