"""Acknowledgements: who takes care of an alert, and why. One file each, put if absent: the first stands.

An acknowledgement is of one course of an alert, from when it began to fire until it is gone: if it fires again, it has to be
acknowledged again.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass

from scoring.errors import StoreError
from scoring.respond.alerts.course import Alert
from scoring.stores import Store

FOLDER = "alerts/acks"


@dataclass(frozen=True)
class Ack:
    """`since` is when the alert began to fire, `when` when it was acknowledged; ISO 8601 in UTC."""

    fingerprint: str
    since: str
    by: str
    reason: str
    when: str


def acknowledge(store: Store, ack: Ack) -> Ack:
    """The one that stands: this, or the one that was first. Raises: StoreError, OSError."""
    key = _key(ack.fingerprint, ack.since)
    store.put(key, json.dumps(asdict(ack), sort_keys=True).encode())
    return _read(store, key) or ack


def acknowledged(store: Store, alerts: tuple[Alert, ...]) -> dict[tuple[str, str], Ack]:
    """By (fingerprint, since), of these alerts. A file that is damaged still says that somebody acknowledged. Raises: nothing."""
    with suppress(StoreError, OSError):
        there = set(store.list(FOLDER))
        wanted = {(a.fingerprint, a.since): key for a in alerts if (key := _key(a.fingerprint, a.since)) in there}
        return {mark: _read(store, key) or Ack(*mark, "unknown", "", "") for mark, key in wanted.items()}
    return {}


def _read(store: Store, key: str) -> Ack | None:
    with suppress(StoreError, OSError, ValueError, TypeError):
        return Ack(**{name: str(value) for name, value in json.loads(store.get(key)).items()})
    return None


def _key(fingerprint: str, since: str) -> str:
    return f"{FOLDER}/{fingerprint}-{re.sub(r'[^0-9]', '', since)[:14]}.json"
