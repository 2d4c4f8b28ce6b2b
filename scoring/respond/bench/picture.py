"""The Pareto set as a picture: speed against cost, or against accuracy where there are no prices. One SVG file, no script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from scoring.respond.bench.results import BenchRecord, Measurement, Result, Spread
from scoring.respond.manual import clean
from scoring.respond.report.words import amount, count

_WIDTH, _PLOT_HEIGHT, _LINE = 860.0, 400.0, 22.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 96.0, 32.0, 68.0, 56.0
_MARGIN = 0.08  # of the range of an axis, on each side
_STYLE = (
    "svg{background:#fff;color:#1b1e23;font:13px system-ui,sans-serif}.soft{fill:#5b636e}.line{stroke:#dcdfe4}.bar{stroke:#8a929d}"
    ".dot{fill:#c3c9d2;stroke:#5b636e}.best{fill:#a84108;stroke:#a84108}.front{stroke:#a84108;fill:none;stroke-dasharray:4 3}"
    "text{fill:currentColor}@media (prefers-color-scheme:dark){svg{background:#15171a;color:#e6e8eb}.soft{fill:#9aa3af}"
    ".line{stroke:#32373e}.dot{fill:#545d69;stroke:#9aa3af}.best{fill:#f19a5b;stroke:#f19a5b}.front{stroke:#f19a5b}}"
)


@dataclass(frozen=True)
class _Axis:
    """From values to places; logarithmic where the values span more than a factor of five."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> _Axis:
        low, high = min(values), max(values)
        log = low > 0 and high / low > 5
        first, last = (math.log10(low), math.log10(high)) if log else (low, high)
        room = (last - first) * _MARGIN or abs(first) * _MARGIN or 1.0
        return cls(first - room, last + room, start, end, log)

    def at(self, value: float) -> float:
        place = math.log10(value) if self.log else value
        return round(self.start + (place - self.low) / (self.high - self.low) * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        steps = [self.low + (self.high - self.low) * n / 4 for n in range(5)]
        return [10**step for step in steps] if self.log else [step for step in steps if step >= 0]


def picture(record: BenchRecord) -> str:
    """Points with their quartiles, the Pareto set joined, the chosen one ringed, and a list of what the numbers stand for."""
    found = record.measured
    height = _PLOT_HEIGHT + _LINE * (len(found) + 1)
    title = f"Configurations for {clean(record.model.get('name', 'no model'))}"
    body = _plot(record, found) if found else [f'<text x="24" y="{_TOP + 40}">Nothing was measured.</text>']
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {height:g}" role="img"><title>{escape(title)}</title>'
    head += f'<style>{_STYLE}</style><text x="24" y="28" font-size="17">{escape(title)}</text>'
    return "\n".join([head, *body, "</svg>\n"])


def _plot(record: BenchRecord, found: Sequence[Result]) -> list[str]:
    priced = all(_of(r).cost_per_million is not None for r in found)
    across = {r.name: _across(_of(r), priced) for r in found}
    rates = {r.name: _of(r).rows_per_second for r in found}
    x = _Axis.over([v for s in across.values() for v in (s.low, s.high)], _LEFT, _WIDTH - _RIGHT)
    y = _Axis.over([v for s in rates.values() for v in (s.low, s.high)], _PLOT_HEIGHT - _BOTTOM, _TOP)
    lines = _axes(x, y, priced)
    front = sorted((across[name].median, rates[name].median) for name in record.pareto)
    path = " ".join(f"{x.at(a)},{y.at(b)}" for a, b in front)
    lines.append(f'<polyline class="front" points="{path}"/>')
    for n, r in enumerate(found, start=1):
        lines += _point(record, n, r.name, across[r.name], rates[r.name], x, y)
        chosen = ", chosen" if r.name == record.choice.name else ", no different" if r.name in record.choice.alike else ""
        said = f"{n}  {clean(r.name)}: {count(rates[r.name].median)} rows/s{chosen}"
        lines.append(f'<text x="{_LEFT:g}" y="{_PLOT_HEIGHT + _LINE * n:g}">{escape(said)}</text>')
    return lines


def _across(found: Measurement, priced: bool) -> Spread:
    return found.cost_per_million if priced and found.cost_per_million is not None else Spread.of([found.deviation])


def _axes(x: _Axis, y: _Axis, priced: bool) -> list[str]:
    lines = []
    for tick in y.ticks():
        at = y.at(tick)
        lines.append(f'<line class="line" x1="{_LEFT:g}" x2="{_WIDTH - _RIGHT:g}" y1="{at}" y2="{at}"/>')
        lines.append(f'<text class="soft" x="{_LEFT - 8:g}" y="{at + 4:g}" text-anchor="end">{count(tick)}</text>')
    for tick in x.ticks():
        label = amount(tick) if priced else f"{tick:.1e}"
        lines.append(f'<text class="soft" x="{x.at(tick)}" y="{_PLOT_HEIGHT - _BOTTOM + 20:g}" text-anchor="middle">{label}</text>')
    below = "cost per million rows" if priced else "largest difference from the golden scores"
    lines.append(f'<text class="soft" x="24" y="{_TOP - 16:g}">rows/s, median and quartiles</text>')
    lines.append(f'<text class="soft" x="{_WIDTH - _RIGHT:g}" y="{_PLOT_HEIGHT - 14:g}" text-anchor="end">{below}</text>')
    return lines


def _point(record: BenchRecord, n: int, name: str, across: Spread, rate: Spread, x: _Axis, y: _Axis) -> list[str]:
    at, up = x.at(across.median), y.at(rate.median)
    kind = "best" if name in record.pareto else "dot"
    lines = [
        f'<line class="bar" x1="{at}" x2="{at}" y1="{y.at(rate.low)}" y2="{y.at(rate.high)}"/>',
        f'<line class="bar" x1="{x.at(across.low)}" x2="{x.at(across.high)}" y1="{up}" y2="{up}"/>',
        f'<circle class="{kind}" cx="{at}" cy="{up}" r="5"><title>{escape(clean(name))}</title></circle>',
        f'<text x="{at + 9:g}" y="{up - 7:g}">{n}</text>',
    ]
    ring = f'<circle class="front" style="stroke-dasharray:none" cx="{at}" cy="{up}" r="10"/>'
    return [*lines, ring] if name == record.choice.name else lines


def _of(result: Result) -> Measurement:
    assert result.measured is not None
    return result.measured
