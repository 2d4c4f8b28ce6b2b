"""A partition beside those published before it: volume, null rates, mean scores. Robust z: (x - median) / (1.4826 MAD).

Median and MAD (Hampel 1974) do not follow single odd days. MAD is taken no smaller than a hundredth of the median, and half a point
for rates, so that a history that happened to stand still does not make every change an alarm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from scoring.settings import Watch
from scoring.watch.drift import Finding, Seen
from scoring.watch.plan import Output
from scoring.watch.summary import WHOLE

_SCALE = 1.4826  # of the MAD, so that it estimates a standard deviation
_LEAST_SHARE, _LEAST_POINTS = 0.01, 0.005


Figures = dict[str, float]


def figures(seen: Seen, outputs: Mapping[str, Output]) -> Figures:
    """What is compared, by name; `outputs` say in which steps scores were added up."""
    found, rows = {"volume": float(seen.rows_in)}, seen.summary.rows
    for name, counts in sorted(seen.summary.of("columns").items()):
        found |= {f"null rate of {name}": counts["null"] / rows} if rows else {}
    for name, counts in sorted(seen.summary.of("scores").items()):
        step = outputs.get(name, Output()).step
        found |= {f"mean of {name}": counts["sum"] * 2.0**step / counts["rows"]} if counts["rows"] else {}
    return found


def compare(now: Figures, before: Sequence[Figures], watch: Watch) -> tuple[Finding, ...]:
    """One Finding for each figure; one that says why, if there is too little to look back at."""
    if not watch.history:
        return ()
    rows = int(now["volume"])
    if len(before) < watch.history_least:
        words = f"{len(before)} earlier partitions of other runs, fewer than watch.history_least ({watch.history_least})"
        return (Finding("history", "", WHOLE, "", 0.0, watch.history_z, 0.0, None, "skip", rows, "", words),)
    past = {name: [one[name] for one in before if name in one] for name in now}
    return tuple(_finding(name, now[name], past[name], rows, watch) for name in now if len(past[name]) >= watch.history_least)


def _finding(name: str, now: float, past: Sequence[float], rows: int, watch: Watch) -> Finding:
    middle = float(np.median(past))
    least = _LEAST_POINTS if name.startswith("null rate") else _LEAST_SHARE * abs(middle)
    spread = max(_SCALE * float(np.median(np.abs(np.asarray(past) - middle))), least, 1e-300)
    z = (now - middle) / spread
    status: Literal["pass", "warn"] = "warn" if abs(z) > watch.history_z else "pass"
    words = f"{now:,.6g}, median of {len(past)} before {middle:,.6g}, robust z {z:+.1f}"
    return Finding(
        "history", name, WHOLE, "robust_z", abs(z), watch.history_z, 0.0, None, status, rows, "up" if z > 0 else "down", words
    )
