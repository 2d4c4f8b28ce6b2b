"""Which published rows are looked at: a few stretches spread evenly over all of them, the same ones whenever the same is asked.

Systematic sampling of blocks: the rows of a run stand one behind the other as they were published, and stretches of equal length
are put there, one into each of as many equal parts. Where in its part a stretch begins is drawn by digest from the run's name:
nobody chooses it, and nobody has to keep a seed. Source: Cochran, Sampling Techniques, 1977, chapter 8 (systematic sampling).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import accumulate

PLACES = 16  # each costs reading up to a row group of input and of output
Span = tuple[int, int]


def spans(rows: Sequence[int], wanted: int, run_id: str, places: int = PLACES) -> list[list[Span]]:
    """For each file, of `rows` rows, the half-open spans of rows to look at, ascending and apart: `wanted` rows in all, or all rows
    where there are no more.
    """
    ends = list(accumulate(rows))
    total = ends[-1] if ends else 0
    if wanted >= total:
        return [[(0, count)] if count else [] for count in rows]
    found: list[list[Span]] = [[] for _ in rows]
    for start, stop in _places(total, wanted, run_id, min(places, wanted)):
        for n, end in enumerate(ends):
            first = end - rows[n]
            if max(start, first) < min(stop, end):
                found[n].append((max(start, first) - first, min(stop, end) - first))
    return [_joined(mine) for mine in found]


def _places(total: int, wanted: int, run_id: str, places: int) -> list[Span]:
    """The rows that are left out are shared among the parts, too, and drawn where in its part a stretch stands among them."""
    out, found = total - wanted, []
    for n in range(places):
        own, next_own = wanted * n // places, wanted * (n + 1) // places
        gap, next_gap = out * n // places, out * (n + 1) // places
        start = own + gap + _drawn(run_id, n, next_gap - gap + 1)
        found.append((start, start + next_own - own))
    return found


def _drawn(run_id: str, n: int, below: int) -> int:
    return int.from_bytes(hashlib.sha256(f"replay\0{run_id}\0{n}".encode()).digest()) % below


def _joined(mine: list[Span]) -> list[Span]:
    """Stretches that touch are one."""
    found: list[Span] = []
    for start, stop in mine:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], stop)
        else:
            found.append((start, stop))
    return found
