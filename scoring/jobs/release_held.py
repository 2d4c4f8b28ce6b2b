"""A person's decision about a partition that a gate held: publish it as it was staged, or drop what is staged."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from scoring.errors import ChangedError, ConfigError, HeldError, RefusedError
from scoring.jobs.arguments import Given
from scoring.jobs.recovery import Sites, carry_out, failed, let_out, overtaken, recover
from scoring.jobs.turns import alone
from scoring.jobs.workspace import existing
from scoring.ledger.actor import actor
from scoring.ledger.chain import Ledger
from scoring.respond.manual import clean
from scoring.sinks import held as holding
from scoring.sinks.held import Decision, Held
from scoring.sinks.manifest import history
from scoring.stores import Store

_LONGEST_REASON = 500  # characters


@dataclass(frozen=True)
class Decided:
    """`version` is the published one, 0 for a discarded partition; `failed` are the checks that had held it.

    `already`: it was decided before, and nothing was left to do.
    """

    kind: Literal["released", "discarded"]
    run_id: str
    partition: str
    version: int
    rows: dict[str, int]
    failed: tuple[str, ...]
    actor: str
    reason: str
    decided: str
    already: bool


def release_held(
    workspace: str, run_id: str, key: str, reason: str, discard: bool = False, sites: Sites = lambda site: None
) -> Decided:
    """Decide and carry it out; said again, it completes what was begun and changes nothing more.

    Raises:
        ConfigError: no such run or partition, or it is not held. RefusedError: it was decided otherwise.
        ChangedError: another version was published since. HeldError: its rows are not accounted for, which nobody may overrule.
        BusyError: a run works on the workspace. StoreError: what is staged is not what was held.
    """
    store = existing(workspace)
    with alone(store, {"run": f"release-held {run_id} {key}"}):
        held = _held(store, run_id, key)
        store.sweep()
        ledger = Ledger(store)
        recover(store, ledger)
        standing, entries = holding.decision(store, held), ledger.head["seq"]
        if standing is None:
            _may(store, held, discard)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            wanted = Decision("discarded" if discard else "released", actor(), reason[:_LONGEST_REASON], now)
            standing = holding.decide(store, held, wanted)
            sites("release.after_decision")
        if standing.kind != ("discarded" if discard else "released"):
            said = f"{standing.kind} by {standing.actor} on {standing.decided}: {standing.reason}"
            raise RefusedError(f"{key} of run {run_id} was {said}. A decision is not taken back; run again to score it afresh.")
        version = _done(store, held) or carry_out(store, ledger, held, standing, sites)
        already = ledger.head["seq"] == entries
        facts = (held.counts, failed(held.failed), standing.actor, standing.reason, standing.decided, already)
        return Decided(standing.kind, run_id, key, version, *facts)


def _done(store: Store, held: Held) -> int:
    """The version that a released partition became, though newer ones may have followed."""
    found = [m.version for m in history(store, held.key) if m.override and m.run_id == held.identity.run_id]
    return next((version for version in found if version == held.replaces + 1), 0)


def _may(store: Store, held: Held, discard: bool) -> None:
    """Raises: ConfigError, ChangedError, HeldError: what `release_held` says of them."""
    key, run_id = held.key, held.identity.run_id
    if published := let_out(store, held):
        raise ConfigError(f"{key} of run {run_id} is not held: that run published it as version {published.version}.")
    if discard:
        return
    if newer := overtaken(store, held):
        raise ChangedError(
            f"{key} was published as version {newer} after run {run_id} was held. Use --discard to drop what is staged."
        )
    if any(check.name == "conservation" for check in held.failed):
        raise HeldError(f"{key} cannot be released: {'; '.join(failed(held.failed))}. Use --discard, and run again.")
    holding.receipts(store, held)


def _held(store: Store, run_id: str, key: str) -> Held:
    """Raises: ConfigError: there is none of these names."""
    known = [name for name in store.folders("runs") if store.exists(f"runs/{name}/run.json")]
    if run_id not in known:
        raise ConfigError(f"There is no run {run_id!r} in {store.root}.{_near(run_id, known)}")
    held = holding.newest(store, run_id, key)
    if held is None:
        known = [one.key for one in holding.holds(store, run_id)]
        raise ConfigError(f"Run {run_id} did not hold {key!r}.{_near(key, known)}")
    return held


def _near(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name, known := list(known), 3, 0.3) or known[-3:]
    return f" Nearest: {', '.join(found)}." if found else " It held nothing."


def command(given: Given) -> tuple[Decided, int]:
    run_id, key = given.needed("run"), given.needed("partition")
    place, reason = given.needed("workspace"), given.needed("reason")
    return release_held(place, run_id, key, reason, "discard" in given.switches), 0


def render(found: Decided) -> str:
    rows = ", ".join(f"{n:,} {outcome}" for outcome, n in found.rows.items() if n)
    became = f"published as version {found.version}" if found.version else "what was staged is gone; the next run scores it afresh"
    lines = [f"{found.kind}{' already' if found.already else ''}: {clean(found.partition)} of run {found.run_id}: {became}", rows]
    lines += [f"although {clean(check)}" for check in found.failed] if found.kind == "released" else []
    return "\n".join([*lines, f"by {clean(found.actor)} on {found.decided}: {clean(found.reason, most=500)}"])
