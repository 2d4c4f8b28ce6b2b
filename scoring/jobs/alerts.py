"""What fires in a workspace, since when, who takes care of it; which rules nobody acts on; what came of asking for a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from scoring.errors import StoreError
from scoring.jobs.arguments import Given
from scoring.jobs.workspace import existing
from scoring.ledger.chain import verify
from scoring.respond.alerts.acks import acknowledged
from scoring.respond.alerts.course import Alert, State
from scoring.respond.alerts.quality import Deed, Quality, qualities
from scoring.respond.alerts.tell import FOLDER
from scoring.respond.alerts.wording import acknowledge, partitions
from scoring.respond.manual import clean
from scoring.respond.outbox import Outbox
from scoring.respond.passes import Passes
from scoring.respond.retraining import tell as retraining
from scoring.stores import Store

_DECISIONS = ("released", "discarded", "requeued")


@dataclass(frozen=True)
class Shown:
    """An alert that fires; `acknowledged` says by whom and why, "" where nobody did. `commands` are (why, command)."""

    fingerprint: str
    rule: str
    severity: str
    labels: dict[str, str]
    said: str
    since: str
    run_id: str
    partitions: str
    hidden: bool
    escalated: bool
    acknowledged: str
    acknowledge: str
    commands: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Alerts:
    """`waiting` are messages in the outbox by receiver; `retraining` is the last decision in words, "" where nothing was judged."""

    firing: tuple[Shown, ...]
    quality: tuple[Quality, ...]
    waiting: dict[str, int]
    retraining: str


def alerts(workspace: str) -> Alerts:
    """Raises: ConfigError: nothing ran there. StoreError: the workspace cannot be read."""
    store = existing(workspace)
    state = newest(store)
    every = (*state.gone, *state.firing)
    acks = acknowledged(store, every)
    firing = []
    for alert in state.firing:
        ack = acks.get((alert.fingerprint, alert.since))
        firing.append(_shown(alert, f"by {ack.by} on {ack.when}: {ack.reason}" if ack else "", store.root))
    asked = Passes(store, retraining.FOLDER, "", retraining.Known.of, lambda known, own, story: known).newest()
    found = qualities(every, set(acks), _deeds(store))
    return Alerts(tuple(firing), found, Outbox(store).counts(), asked.decision if asked else "")


def newest(store: Store) -> State:
    """After the last pass that was judged; empty where none was. Raises: StoreError."""
    return Passes(store, FOLDER, "", State.of, lambda state, own, story: state).newest() or State()


def _shown(alert: Alert, ack: str, workspace: str) -> Shown:
    about = (alert.fingerprint, alert.rule, alert.severity, alert.labels, alert.said, alert.since, alert.run_id)
    return Shown(*about, partitions(alert), alert.hidden, alert.escalated, ack, acknowledge(alert, workspace), alert.commands)


def _deeds(store: Store) -> list[Deed]:
    """What people decided, from the ledger; a partition that was published before was published anew by somebody's wish."""
    found: list[Deed] = []

    def see(entry: dict[str, Any]) -> None:
        anew = entry["kind"] == "published" and entry["payload"].get("version", 0) > 1
        if anew or entry["kind"] in _DECISIONS:
            found.append(Deed(str(entry["subject"]), str(entry["ts"])))

    with suppress(StoreError):
        verify(store, see)
    return found


def command(given: Given) -> tuple[Alerts, int]:
    return alerts(given.needed("workspace")), 0


def render(found: Alerts) -> str:
    lines = [f"{len(found.firing)} alert(s) fire" if found.firing else "nothing fires"]
    for one in found.firing:
        lines += ["", *_one(one)]
    if found.quality:
        lines += ["", "alerts that somebody acted on, by rule:"]
        lines += [
            f"  {q.rule:20} {q.acted_on} of {q.alerts}{'  noisy: raise its limit, or at_least' if q.noisy else ''}"
            for q in found.quality
        ]
    lines += [f"waiting in the outbox: {name} {count}" for name, count in found.waiting.items()]
    lines += [f"retraining: {clean(found.retraining, 1000)}"] if found.retraining else []
    return "\n".join(lines)


def _one(one: Shown) -> Iterator[str]:
    hidden = ", hidden by another that fires" if one.hidden else ""
    yield f"[{one.severity}] {clean(one.rule)}: {clean(one.said)}"
    yield f"  {one.fingerprint} since {clean(one.since)}, last in run {clean(one.run_id)}{hidden}"
    yield f"  acknowledged {clean(one.acknowledged, 600)}" if one.acknowledged else f"  acknowledge: {clean(one.acknowledge, 2000)}"
    yield from (f"  {clean(why)}: {clean(command, 4000)}" for why, command in one.commands)
