"""What a crash left half done in a workspace, finished by whoever holds its lock next: public folders, ledger entries, decisions.

The manifest is the commit of a publication, the decision file that of a decision; all that follows from them can be done again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from scoring.ledger import runs
from scoring.ledger.chain import Ledger
from scoring.sinks import held as holding
from scoring.sinks.decisions import Override
from scoring.sinks.held import Decision, Held
from scoring.sinks.manifest import Manifest
from scoring.sinks.publish import current, publish, published, repair
from scoring.stores import Store
from scoring.types import Check

Sites = Callable[[str], None]


def recover(store: Store, ledger: Ledger) -> None:
    """Raises: StoreError: something is damaged, or the store fails."""
    for manifest in published(store):
        repair(store, manifest)
        announce(store, ledger, manifest)
    for run_id in store.folders("runs"):
        for held in holding.holds(store, run_id):
            decision = holding.decision(store, held)
            if decision is not None and (decision.kind == "discarded" or not overtaken(store, held)):
                carry_out(store, ledger, held, decision)


def overtaken(store: Store, held: Held) -> int:
    """The version that was published after the gate held this one, and is not this one; 0 if there is none."""
    standing = current(store, held.key)
    if standing is None or standing.version == held.replaces or _is(standing, held):
        return 0
    return standing.version


def let_out(store: Store, held: Held) -> Manifest | None:
    """The version that this became, if it is the newest."""
    standing = current(store, held.key)
    return standing if standing is not None and _is(standing, held) else None


def carry_out(store: Store, ledger: Ledger, held: Held, decision: Decision, sites: Sites = lambda site: None) -> int:
    """Do what was decided; done again, it changes nothing. Returns the published version, 0 for a discarded partition.

    Raises:
        StoreError: what is staged is not what was held, or the store fails. OvertakenError: another run was quicker.
    """
    once = f"discarded {held.identity.run_id} {held.key} v{held.version}"
    if decision.kind == "discarded":
        if not ledger.said(once):
            holding.discard(store, held)
            sites("release.before_ledger")
            ledger.append("discarded", held.key, once, _facts(held) | {"by": decision.actor, "reason": decision.reason})
        return 0
    manifest = let_out(store, held) or _release(store, ledger, held, decision, sites)
    sites("release.before_ledger")
    announce(store, ledger, manifest)
    runs.settle(store, held.identity.run_id, held.key, manifest.version)
    return manifest.version


def announce(store: Store, ledger: Ledger, manifest: Manifest) -> None:
    """The ledger entries of a publication, and of the decision that led to it; said once, however often a run is resumed."""
    for kind, once in said_of(manifest):
        if not ledger.said(once):
            ledger.append(kind, manifest.key, once, _announced(store, kind, manifest))


def said_of(manifest: Manifest) -> list[tuple[str, str]]:
    """(kind, once) of the entries that a published version must have."""
    kinds = ["published"]
    kinds += ["released"] if manifest.override else []
    kinds += ["requeued"] if manifest.requeued and manifest.requeued[-1].version == manifest.version else []
    return [(kind, f"{kind} {manifest.key} v{manifest.version}") for kind in kinds]


def _announced(store: Store, kind: str, manifest: Manifest) -> dict[str, Any]:
    facts = {"run_id": manifest.run_id, "version": manifest.version}
    if kind == "released" and manifest.override:
        return facts | {"by": manifest.override.actor, "reason": manifest.override.reason, "failed": list(manifest.override.failed)}
    if kind == "requeued":
        one = manifest.requeued[-1]
        counts = {"rows": one.rows, "scored": one.scored, "suppressed": one.suppressed}
        return facts | counts | {"by": one.actor, "reason": one.reason, "contract": one.contract, "before": one.contract_before}
    files = [[f.path, f.rows, f.sha256] for f in manifest.files]
    if manifest.restated is not None and not manifest.requeued:
        facts |= {"replaces": manifest.restated.replaces, "why": list(manifest.restated.why)}
    facts |= {"fingerprint": manifest.fingerprint, "counts": manifest.counts, "model": manifest.model, "files": files}
    return facts | {"manifest": hashlib.sha256(store.get(manifest.name)).hexdigest()}


def failed(checks: tuple[Check, ...]) -> tuple[str, ...]:
    """Checks in words."""
    return tuple(f"{c.name} {c.actual}, expected {c.expected}" for c in checks)


def say_held(store: Store, ledger: Ledger, held: Held) -> None:
    """The ledger entry of a verdict that holds a partition."""
    once = f"held {held.identity.run_id} {held.key} v{held.version}"
    found = {"failed": [asdict(c) for c in held.failed], "record": hashlib.sha256(store.get(held.name)).hexdigest()}
    ledger.append("held", held.key, once, _facts(held) | found)


def _facts(held: Held) -> dict[str, Any]:
    facts = {"run_id": held.identity.run_id, "version": held.version, "input_digest": held.input_digest}
    return facts | {"counts": held.counts}


def _release(store: Store, ledger: Ledger, held: Held, decision: Decision, sites: Sites) -> Manifest:
    override = Override(decision.actor, decision.reason, decision.decided, failed(held.failed))
    given = (held.key, held.input_digest, holding.receipts(store, held), held.checks)
    return publish(store, held.identity, *given, held.planned_rows, sites, ledger.head, override)


def _is(standing: Manifest, held: Held) -> bool:
    return (
        standing.run_id == held.identity.run_id and standing.input_digest == held.input_digest and standing.version > held.replaces
    )
