"""Acknowledge an alert: somebody takes care of it. It is not sent again, nor escalated, as long as it fires."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from scoring.errors import ConfigError
from scoring.jobs.alerts import newest
from scoring.jobs.arguments import Given
from scoring.jobs.workspace import existing
from scoring.ledger.actor import actor
from scoring.respond.alerts.acks import Ack, acknowledge
from scoring.respond.alerts.course import Alert
from scoring.respond.manual import clean

_LONGEST = 500  # characters


@dataclass(frozen=True)
class Acknowledged:
    """`already`: somebody had done so before, and that stands."""

    rule: str
    said: str
    ack: Ack
    already: bool


def acknowledged(workspace: str, fingerprint: str, by: str, reason: str) -> Acknowledged:
    """The first acknowledgement stands. `fingerprint` may be the beginning of one.

    Raises:
        ConfigError: no such alert fires. StoreError: it cannot be kept.
    """
    store = existing(workspace)
    alert = _alert(newest(store).firing, fingerprint, store.root)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    wanted = Ack(alert.fingerprint, alert.since, by[:_LONGEST], reason[:_LONGEST], now)
    standing = acknowledge(store, wanted)
    return Acknowledged(alert.rule, alert.said, standing, standing != wanted)


def _alert(firing: Sequence[Alert], fingerprint: str, place: str) -> Alert:
    found = [alert for alert in firing if alert.fingerprint.startswith(fingerprint)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(f"{alert.fingerprint} ({alert.rule})" for alert in (found or firing)[:10]) or "none"
    several = "is the beginning of several" if found else "is no alert that fires"
    raise ConfigError(f"{fingerprint!r} {several} in {place}. Say one of these: {known}.")


def command(given: Given) -> tuple[Acknowledged, int]:
    fingerprint, place, reason = given.needed("fingerprint"), given.needed("workspace"), given.needed("reason")
    return acknowledged(place, fingerprint, given.get("by") or actor(), reason), 0


def render(found: Acknowledged) -> str:
    said = f"acknowledged{' already' if found.already else ''}: {clean(found.rule)}: {clean(found.said)}"
    return f"{said}\nby {clean(found.ack.by)} on {found.ack.when}: {clean(found.ack.reason, most=_LONGEST)}"
