"""The list of people who must not come back: one object for each, under its pseudonym, created once and never taken away.

A run pins the list that it began with, people who opted out included, as one file that all its lanes read. Pseudonyms only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime

from scoring.stores import Store
from scoring.types import canonical

_ROOT = "control/suppression"


def listed(store: Store) -> frozenset[str]:
    """Pseudonyms ("key id:…") of everybody who was erased: one listing."""
    places = (key.removesuffix(".json").rsplit("/", 2)[-2:] for key in store.list(_ROOT))
    return frozenset(f"{key_id}:{name}" for key_id, name in places)


def add(store: Store, pseudonym: str, why: str) -> bool:
    """Put a person on the list. False: stands there already."""
    key_id, _, name = pseudonym.partition(":")
    entry = {"pseudonym": pseudonym, "why": why, "since": datetime.now(UTC).isoformat(timespec="seconds")}
    return store.put(f"{_ROOT}/{key_id}/{name}.json", canonical(entry))


def digest_of(names: Iterable[str]) -> str:
    """SHA-256 (hex) of a list, whatever its order."""
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def people(store: Store | None) -> str:
    """The digest of the list as it stands, "" for nobody."""
    found = listed(store) if store else frozenset()
    return digest_of(found) if found else ""


def pin(store: Store, run_id: str, names: frozenset[str]) -> str:
    """Keep the list with a run; the key to read it by, empty for an empty list."""
    if not names:
        return ""
    key = f"runs/{run_id}/suppressed-{digest_of(names)[:16]}.txt"
    store.put(key, "\n".join(sorted(names)).encode())
    return key


def pinned(store: Store, key: str) -> frozenset[str]:
    return frozenset(store.get(key).decode().split("\n")) if key else frozenset()
