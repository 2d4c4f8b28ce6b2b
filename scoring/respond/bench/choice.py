"""Which configuration to choose: the cheapest that keeps the tolerance. A difference within the spread is no difference.

A configuration is beaten only if another's cost is lower beyond the spread of both: its upper quartile lies below the lower
quartile of the one that is beaten. Of those that nobody beats, the one whose upper quartile is lowest is chosen: it is the cheapest
that can be relied on, so that a wide spread does not win by its luck. Without prices, cost is time.
"""

from __future__ import annotations

from collections.abc import Sequence

from scoring.respond.bench.results import Choice, Measurement, Result, Spread
from scoring.respond.report.words import amount


def choose(results: Sequence[Result]) -> Choice:
    """The choice, and why, in a sentence."""
    ran = [r for r in results if r.measured is not None]
    fit = [r for r in ran if _of(r).deviation <= _of(r).tolerance]
    if not fit:
        return Choice("", "No configuration could be measured." if not ran else "No configuration keeps the tolerance.")
    priced = all(_of(r).cost_per_million is not None for r in fit)
    costs = {r.name: _cost(r, priced) for r in fit}
    reach = min(cost.high for cost in costs.values())
    best = min(fit, key=lambda r: (costs[r.name].high, costs[r.name].median, _axes(_of(r))))  # two rates may round to one cost
    alike = tuple(r.name for r in fit if r is not best and costs[r.name].low <= reach)
    return Choice(best.name, _why(best, fit, costs, alike, priced), alike)


def pareto(results: Sequence[Result]) -> tuple[str, ...]:
    """Measured configurations that no other is at least as good as in everything and better in something, by their medians."""
    ran = [r for r in results if r.measured is not None]
    return tuple(r.name for r in ran if not any(dominates(_of(other), _of(r)) for other in ran))


def dominates(one: Measurement, other: Measurement) -> bool:
    """Faster, cheaper and closer to the golden scores, or equal, and not equal in all."""
    mine, theirs = _axes(one), _axes(other)
    return all(a <= b for a, b in zip(mine, theirs, strict=True)) and mine != theirs


def _axes(found: Measurement) -> tuple[float, float, float]:
    """Less is better."""
    cost = found.cost_per_million.median if found.cost_per_million else 0.0
    return -found.rows_per_second.median, cost, found.deviation


def _cost(result: Result, priced: bool) -> Spread:
    """Money per million rows, or seconds."""
    found = _of(result)
    if priced and found.cost_per_million is not None:
        return found.cost_per_million
    return found.rows_per_second.each(lambda rate: 1e6 / rate)


def _why(best: Result, fit: Sequence[Result], costs: dict[str, Spread], alike: Sequence[str], priced: bool) -> str:
    found, mine = _of(best), costs[best.name]
    cost = f"{amount(mine.median)} per million rows, " if priced else ""
    first = "cheaper" if priced else "faster"
    said = f"None within tolerance is {first} beyond the spread" if alike else f"The {first.removesuffix('r')}st within tolerance"
    unpriced = "" if priced else " (not all have a price: say hardware.price_per_hour=…)"
    lines = [f"{said}{unpriced}: {cost}{found.rows_per_second.median:,.0f} rows/s."]
    others = sorted((costs[r.name].median, r.name) for r in fit if r is not best and r.name not in alike)
    if others:
        lines.append(f"The next, {others[0][1]}, takes {others[0][0] / mine.median:.2f} times as much.")
    if alike:
        lines.append(f"There is no difference to {_listed(alike)}; of these, this one's upper quartile of cost is the lowest.")
    return " ".join(lines)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _of(result: Result) -> Measurement:
    if result.measured is None:
        raise AssertionError(f"{result.name} was not measured. This is a bug.")
    return result.measured
