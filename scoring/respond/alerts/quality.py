"""How good the rules are: of the alerts of each, how many did somebody act on. Pure.

Acted on is what was acknowledged, and what somebody decided on while it fired: a partition of it was released, discarded, requeued
or published anew. A rule that fires and moves nobody teaches people to look away.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from scoring.respond.alerts.course import Alert

_ENOUGH, _LEAST_RATIO = 5, 0.2  # alerts of a rule, and acted on of them, below which it is noisy


@dataclass(frozen=True)
class Deed:
    """Somebody decided on a partition, at `when` (ISO 8601)."""

    partition: str
    when: str


@dataclass(frozen=True)
class Quality:
    """`alerts` that were told, those that fire still among them; `ratio` of them were acted on."""

    rule: str
    alerts: int
    acted_on: int
    ratio: float
    noisy: bool


def qualities(alerts: Sequence[Alert], acknowledged: Collection[tuple[str, str]], deeds: Iterable[Deed]) -> tuple[Quality, ...]:
    """By rule, the noisiest first."""
    done: dict[str, list[datetime]] = {}
    for deed in deeds:
        done.setdefault(deed.partition, []).append(datetime.fromisoformat(deed.when))
    told = [alert for alert in alerts if alert.told]
    found = []
    for rule in sorted({alert.rule for alert in told}):
        mine = [alert for alert in told if alert.rule == rule]
        acted = sum((a.fingerprint, a.since) in acknowledged or _decided(a, done) for a in mine)
        ratio = acted / len(mine)
        found.append(Quality(rule, len(mine), acted, round(ratio, 3), len(mine) >= _ENOUGH and ratio < _LEAST_RATIO))
    return tuple(sorted(found, key=lambda q: (q.ratio, -q.alerts, q.rule)))


def _decided(alert: Alert, done: dict[str, list[datetime]]) -> bool:
    since = datetime.fromisoformat(alert.since)
    until = datetime.fromisoformat(alert.until) if alert.until else None
    return any(since <= when and (until is None or when <= until) for key in alert.partitions for when in done.get(key, ()))
