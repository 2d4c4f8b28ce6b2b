"""What a drifted column went through, in words, where the counts show it: constant, unit changed, renamed, or moved; with
direction and size. Nothing here decides whether there is drift.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np

from scoring.watch.evidence import Counts

Given = Mapping[str, Any]
_UNITS = (10.0, 100.0, 1e3, 1e4, 1e6, 1e9, 60.0, 3600.0, 24.0, 86_400.0, 7.0, 12.0, 1024.0, 2.54, 1.609344, 3.28084, 2.204623)
_LEAST_FACTOR, _LEAST_SAMPLE = 2.0, 15
_SAME = math.log(1.5)  # cells are half a doubling wide
_GONE = 0.1  # a category with less than this part of its share has vanished
_SIGN, _CELL_BITS = 512, 22


def number(before: Given, now: Given, edges: tuple[float, ...], pair: tuple[Counts, Counts]) -> tuple[str, str]:
    """(cause, words) for a number; `pair` are counts by bin. Causes: constant, unit, shift, shape."""
    if "min" in now and now["min"] == now["max"] and np.count_nonzero(pair[0]) > 1:
        return "constant", f"every value is {now['min']:.6g}"
    medians = median(before, edges), median(now, edges)
    ends = f"median {medians[0]:.4g} -> {medians[1]:.4g}"
    factor = unit_change(before, now)
    if factor is not None:
        return "unit", f"{'up' if factor > 1 else 'down'}, all values x{factor:.4g}: another unit? {ends}"
    size = shift(*pair)
    if abs(size) < 0.05:
        return "shape", f"spread or shape changed, {ends}"
    return "shift", f"{'up' if size > 0 else 'down'} by {abs(size):.2f} standard deviations, {ends}"


def category(before: Given, now: Given, values: tuple[str, ...]) -> tuple[str, str]:
    """(cause, words) for a category. Causes: constant, renamed, unseen, mix. Values named are ones of the baseline."""
    p, q = _shares(before), _shares(now)
    n = sum(now["in"]) + sum(now["other"].values())
    if q.max(initial=0.0) == 1.0 and p.max() < 1.0:
        return "constant", f"every value is {values[int(q.argmax())]!r}"
    gained = _unseen_gains(before, now)
    for place in np.argsort(-p).tolist():
        gone, noise = p[place], 4 * math.sqrt(p[place] / max(1, n))
        if gone >= 0.01 and q[place] <= _GONE * gone and gained and abs(gained[0] - gone) <= max(0.25 * gone, noise):
            return "renamed", f"{values[place]!r} ({gone:.1%}) is gone and one unseen value has its share: renamed?"
    more, less = int((q - p).argmax()), int((q - p).argmin())
    unseen = sum(now["other"].values()) / max(1, n) - sum(before["other"].values()) / max(1, _total(before))
    if unseen > max(0.0, (q - p)[more]):
        return "unseen", f"unseen or rare values {unseen * 100:+.1f} points, {values[less]!r} {(q - p)[less] * 100:+.1f} points"
    return "mix", f"more {values[more]!r} ({p[more]:.1%} -> {q[more]:.1%}), less {values[less]!r} ({p[less]:.1%} -> {q[less]:.1%})"


def bins(counts: Given) -> Counts:
    """Counts by bin, from cumulative ones: (edges + 1,); the last are the values above all edges."""
    total = numbers(counts)
    cumulative: Counts = np.array([0, *counts["le"], total], np.int64)
    return np.subtract(cumulative[1:], cumulative[:-1])


def numbers(counts: Given) -> int:
    """Finite values. Needs "n", which `of_rows` adds."""
    return int(counts["n"])


def shift(before: Counts, now: Counts) -> float:
    """How far the values moved, in standard deviations of a normal distribution: sqrt(2) z(P(now > before)), ties in halves."""
    p, q = before / before.sum(), now / now.sum()
    above = float((q * (np.cumsum(p) - p / 2)).sum())
    return math.sqrt(2) * NormalDist().inv_cdf(min(max(above, 1e-6), 1 - 1e-6))


def median(counts: Given, edges: tuple[float, ...]) -> float:
    """Interpolated within the bin of the median; in the outer bins, which may be wide, from the logarithmic cells if there are.
    Extremes that were not kept, those of personal columns, count as the outer edges."""
    least, most = counts.get("min", edges[0]), counts.get("max", edges[-1])
    cumulative = np.array([0, *counts["le"], numbers(counts)], float) / max(1, numbers(counts))
    place = int(np.searchsorted(cumulative[1:], 0.5))
    if place in (0, len(edges)) and (found := _magnitude(counts.get("cells", {}), 0.5, signed=True)) is not None:
        return float(min(max(found, least), most)) if "min" in counts else float(found)
    ends = [least, *edges, most]
    low, high = max(ends[place], least), min(ends[place + 1], most)
    inside = (0.5 - cumulative[place]) / max(cumulative[place + 1] - cumulative[place], 1e-300)
    return float(low + inside * (high - low))


def unit_change(before: Given, now: Given) -> float | None:
    """The one factor between all quantiles of the magnitudes, if it is at least 2 or at most 1/2; a usual one if it is near."""
    cells, later = before.get("cells", {}), now.get("cells", {})
    few = min(sum(cells.values()), sum(later.values()))
    if few < _LEAST_SAMPLE or abs(_negative(cells) - _negative(later)) > 0.05 + 2 / math.sqrt(few):
        return None
    pairs = [(_magnitude(cells, q), _magnitude(later, q)) for q in (0.2, 0.35, 0.5, 0.65, 0.8)]
    if any(a is None or b is None for a, b in pairs):
        return None
    ratios = np.log([float(b or 1) / float(a or 1) for a, b in pairs])
    spread = math.log(float(pairs[-1][0] or 1) / float(pairs[0][0] or 1)) / 1.68  # of log magnitudes: 1.68 sd between 20 and 80 %
    if np.ptp(ratios) > _SAME + 4 * spread / math.sqrt(few) or abs(np.median(ratios)) < math.log(_LEAST_FACTOR):
        return None
    return _usual(float(np.exp(np.median(ratios))), 0.15 + 2 * spread / math.sqrt(few))


def _usual(factor: float, tolerance: float) -> float:
    near = min((f for u in _UNITS for f in (u, 1 / u)), key=lambda f: abs(math.log(factor / f)))
    return near if abs(math.log(factor / near)) <= tolerance else factor


def _negative(cells: Mapping[str, int]) -> float:
    return sum(n for cell, n in cells.items() if int(cell) >= _SIGN) / max(1, sum(cells.values()))


def _magnitude(cells: Mapping[str, int], q: float, signed: bool = False) -> float | None:
    """A quantile of the magnitudes (of the values, if `signed`) from logarithmic cells; None where it is 0 or unknown."""
    if signed and _negative(cells):
        return None
    sizes: dict[int, int] = {}
    for name, n in cells.items():
        sizes[int(name) % _SIGN] = sizes.get(int(name) % _SIGN, 0) + n
    wanted, passed = q * sum(sizes.values()), 0.0
    for cell, n in sorted(sizes.items()):
        if passed + n >= wanted and n:
            low, high = (float(np.uint32(c << _CELL_BITS).view(np.float32)) for c in (cell, cell + 1))
            return low * (high / low) ** ((wanted - passed) / n) if low > 0 and math.isfinite(high) else None
        passed += n
    return None


def _total(counts: Given) -> int:
    return int(sum(counts["in"]) + sum(counts["other"].values()))


def _shares(counts: Given) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(counts["in"], float) / max(1, _total(counts))


def _unseen_gains(before: Given, now: Given) -> list[float]:
    """By how much cells of unseen values grew, the largest first."""
    m, n = max(1, _total(before)), max(1, _total(now))
    return sorted((now["other"][c] / n - before["other"].get(c, 0) / m for c in now["other"]), reverse=True)
