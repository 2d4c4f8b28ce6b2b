"""Small pictures as paths of SVG: bars of two histograms, and how far from its limit a column was in each partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scoring.respond.report.facts import Histogram
from scoring.respond.report.words import name, share

WIDTH, HEIGHT = 240.0, 64.0
_TRAIL_HEIGHT = 28.0
_MOST_CELLS = 12
_MOVED = 5.0  # what a change of share weighs beside the share itself, when categories are chosen
_MOST_STEPS = 60
_MOST_TIMES = 3.0  # limits that the trail reaches up to; what is above is cut off


@dataclass(frozen=True)
class Bars:
    """Paths of the bars of `before` and `now`; `said` is the picture in words; `first` and `last` label the ends of its axis."""

    before: str
    now: str
    said: str
    first: str
    last: str
    width: float = WIDTH
    height: float = HEIGHT


@dataclass(frozen=True)
class Trail:
    """Paths of the partitions that were found and those that were not; `limit` is the height of the line at the limit."""

    found: str
    calm: str
    limit: float
    said: str
    first: str
    last: str
    width: float = WIDTH
    height: float = _TRAIL_HEIGHT


def bars(picture: Histogram, of: str) -> Bars:
    """Shares of rows by cell, grey and wide for the baseline, narrow in front of it for now."""
    labels, before, now = _fewer(picture)
    p, q = _shares(before), _shares(now)
    top = max([*p, *q], default=0.0) or 1.0
    step = WIDTH / max(1, len(labels))
    back = "".join(_bar(n * step + step * 0.06, step * 0.88, HEIGHT * value / top) for n, value in enumerate(p))
    front = "".join(_bar(n * step + step * 0.27, step * 0.46, HEIGHT * value / top) for n, value in enumerate(q))
    cells = "; ".join(f"{name(label, 24)}: {share(b)}, was {share(a)}" for label, a, b in zip(labels, p, q, strict=True))
    ends = (name(labels[0], 24), name(labels[-1], 24)) if labels else ("", "")
    return Bars(back, front, f"Share of rows of {name(of)} by cell, now and in the baseline. {cells}.", *ends)


def trail(steps: Sequence[tuple[str, float, bool]], of: str) -> Trail:
    """One bar for each partition, or for some next to each other where there are more than fit: the worst of them."""
    size = -(-len(steps) // _MOST_STEPS) or 1
    worst = [max(steps[at : at + size], key=lambda s: (s[2], s[1])) for at in range(0, len(steps), size)]
    step = WIDTH / max(1, len(worst))
    drawn = [(n, min(times, _MOST_TIMES) / _MOST_TIMES * _TRAIL_HEIGHT, hit) for n, (_, times, hit) in enumerate(worst)]
    found = "".join(_bar(n * step + step * 0.15, step * 0.7, max(h, 1.0), _TRAIL_HEIGHT) for n, h, hit in drawn if hit)
    calm = "".join(_bar(n * step + step * 0.15, step * 0.7, max(h, 1.0), _TRAIL_HEIGHT) for n, h, hit in drawn if not hit)
    hits = sum(hit for _, _, hit in steps)
    said = f"Effect on {name(of)} beside its limit, partition by partition: {hits:,} of {len(steps):,} found."
    ends = (name(steps[0][0], 40), name(steps[-1][0], 40)) if steps else ("", "")
    return Trail(found, calm, round(_TRAIL_HEIGHT * (1 - 1 / _MOST_TIMES), 1), said, *ends)


def parts(values: Sequence[float], width: float = 1000.0) -> list[tuple[float, float]]:
    """(start, width) of values side by side; a value that is not 0 is at least a hair wide."""
    total = sum(values)
    if not total:
        return [(0.0, 0.0) for _ in values]
    wide = [max(width * v / total, 3.0) if v else 0.0 for v in values]
    scale, found, at = width / sum(wide), [], 0.0
    for one in wide:
        found.append((round(at, 1), round(one * scale, 1)))
        at += one * scale
    return found


def _fewer(picture: Histogram) -> tuple[list[str], list[int], list[int]]:
    """Cells as they are on a scale; of categories the most frequent and those that changed most, and the others as one."""
    cells = list(zip(picture.labels, picture.before, picture.now, strict=True))
    if not picture.ordered:
        p, q = _shares(picture.before), _shares(picture.now)
        weight = [max(a, b) + _MOVED * abs(a - b) for a, b in zip(p, q, strict=True)]
        order = sorted(range(len(cells)), key=lambda n: (-weight[n], cells[n][0]))
        kept, rest = order[:_MOST_CELLS], order[_MOST_CELLS:]
        kept.sort(key=lambda n: (-p[n], cells[n][0]))
        cells = [cells[n] for n in kept] + (
            [(f"{len(rest)} others", sum(cells[n][1] for n in rest), sum(cells[n][2] for n in rest))] if rest else []
        )
    return [c[0] for c in cells], [c[1] for c in cells], [c[2] for c in cells]


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [n / total if total else 0.0 for n in counts]


def _bar(x: float, width: float, height: float, floor: float = HEIGHT) -> str:
    return f"M{x:.1f} {floor:.1f}v-{height:.1f}h{width:.1f}v{height:.1f}z" if height > 0 else ""
