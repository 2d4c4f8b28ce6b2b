"""Partitions that a gate held back: what is staged, why it is not published, and what a person decided about it.

    runs/<run>/held/<key>/v00001.json            why, and which staged slices; another version when there is something new to say
    runs/<run>/held/<key>/v00001.decision.json   released or discarded: put-if-absent, so that the first decision stands
All that publishing needs can be had from these files and the staged ones, also by another process on another day.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Literal

from scoring.errors import StoreError
from scoring.sinks.manifest import Identity, history, versions
from scoring.sinks.staged import find, forget, key_of
from scoring.stores import Store
from scoring.types import Check, Receipt, canonical


@dataclass(frozen=True)
class Held:
    """`slices` are (slice id, SHA-256 of its staged file) in input order. `replaces` is the version that was published when the
    gate held this one, 0 if none was. `planned_rows` is what the footers promised, None where only reading told.
    """

    key: str
    identity: Identity
    input_digest: str
    slices: tuple[tuple[str, str], ...]
    counts: dict[str, int]
    checks: tuple[Check, ...]
    planned_rows: int | None
    replaces: int
    version: int = 0

    @property
    def name(self) -> str:
        return f"{folder(self.identity.run_id)}/{self.key}/v{self.version:05d}.json"

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that held it."""
        return tuple(c for c in self.checks if c.status == "fail" and c.severity == "error")

    def to_json(self) -> bytes:
        return canonical(asdict(self))


@dataclass(frozen=True)
class Decision:
    """`decided` is UTC, ISO 8601."""

    kind: Literal["released", "discarded"]
    actor: str
    reason: str
    decided: str


def folder(run_id: str) -> str:
    return f"runs/{run_id}/held"


def hold(store: Store, held: Held) -> Held:
    """Keep it, unless the newest version says the same. Returns the version that stands."""
    before = newest(store, held.identity.run_id, held.key)
    if before is not None and replace(before, version=0) == replace(held, version=0):
        return before
    kept = replace(held, version=before.version + 1 if before else 1)
    if not store.put(kept.name, kept.to_json()) and store.get(kept.name) != kept.to_json():
        raise StoreError(f"{store.root}: {kept.name} was written by another run meanwhile. Run again.")
    return kept


def newest(store: Store, run_id: str, key: str) -> Held | None:
    """What was held last of this partition in this run. Raises: StoreError: it is damaged."""
    found = [name for name in versions(store, f"{folder(run_id)}/{key}") if not name.endswith(".decision.json")]
    return _read(store, found[-1]) if found else None


def holds(store: Store, run_id: str) -> Iterator[Held]:
    """What was held last of each partition in this run. Raises: StoreError: something is damaged."""
    found = [name for name in store.list(folder(run_id)) if not name.endswith(".decision.json")]
    for name in {name.rsplit("/", 1)[0]: name for name in found}.values():
        yield _read(store, name)


def decide(store: Store, held: Held, wanted: Decision) -> Decision:
    """Decide, unless it is decided. Returns the decision that stands."""
    return wanted if store.put(_decision(held), canonical(asdict(wanted))) else decision(store, held) or wanted


def decision(store: Store, held: Held) -> Decision | None:
    """Raises: StoreError: it is damaged."""
    if not store.exists(_decision(held)):
        return None
    try:
        return Decision(**json.loads(store.get(_decision(held))))
    except (ValueError, TypeError) as error:
        raise StoreError(f"{store.root}: {_decision(held)} is damaged: {error}.") from None


def receipts(store: Store, held: Held) -> list[Receipt]:
    """The staged slices, as they were when they were held. Raises: StoreError: one is gone, damaged or another."""
    found = [(find(store, held.identity.run_id, slice_id), slice_id, sha256) for slice_id, sha256 in held.slices]
    for receipt, slice_id, sha256 in found:
        if receipt is None or receipt.scores is None or receipt.scores.sha256 != sha256:
            key = key_of(held.identity.run_id, slice_id)
            raise StoreError(f"{store.root}: {key} is not what it was when {held.key} was held. Discard it, and run again.")
    return [receipt for receipt, _, _ in found if receipt is not None]


def discard(store: Store, held: Held) -> int:
    """Remove what is staged, but for slices that a published version shares. Returns how many rows went; again, it is none."""
    shared = {file.staged for version in history(store, held.key) for file in version.files}
    gone = 0
    for slice_id, _ in held.slices:
        if key_of(held.identity.run_id, slice_id) not in shared:
            gone += forget(store, held.identity.run_id, slice_id)
    return gone


def _decision(held: Held) -> str:
    return held.name.removesuffix(".json") + ".decision.json"


def _read(store: Store, name: str) -> Held:
    try:
        raw = json.loads(store.get(name))
        raw["identity"] = Identity(**raw["identity"])
        raw["slices"] = tuple((slice_id, sha256) for slice_id, sha256 in raw["slices"])
        held = Held(**{**raw, "checks": tuple(Check(**c) for c in raw["checks"])})
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{store.root}: {name} is damaged: {error}.") from None
    if held.name != name:
        raise StoreError(f"{store.root}: {name} is damaged: it says that it is {held.name}.")
    return held
