"""Which published partitions are meant: one by its key, those that one run published, or all."""

from __future__ import annotations

import difflib

from scoring.errors import ConfigError
from scoring.sinks.publish import Manifest, published
from scoring.stores import Store


def select(store: Store, partition: str | None = None, run: str | None = None) -> list[Manifest]:
    """The newest versions.

    Raises:
        ConfigError: nothing is published under these names; the message has the nearest.
    """
    known = list(published(store))
    found = [m for m in known if partition in (None, m.key) and run in (None, m.run_id)]
    if found or partition is run is None:
        return found
    said = " and ".join(f"{name}={value}" for name, value in (("partition", partition), ("run", run)) if value is not None)
    near = difflib.get_close_matches(partition or run or "", sorted({m.key for m in known} | {m.run_id for m in known}), 3, 0.3)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    raise ConfigError(f"{store.root}: nothing is published under {said}.{hint}")
