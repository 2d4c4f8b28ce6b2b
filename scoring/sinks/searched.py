"""Which staged files of a run may be trusted to be without people who were erased.

A lane that everybody believed dead may stage a slice that it began before an erasure, after the erasure looked. So each receipt
says under which list of erased people it was made, and an erasure leaves a note of the slices that it searched: a staged file that
has neither is removed when the run goes on, and not published if it comes later.
"""

from __future__ import annotations

import json
from pathlib import PurePosixPath

from scoring.sinks.manifest import published
from scoring.sinks.staged import find
from scoring.stores import Store
from scoring.types import Receipt, canonical


class Searched:
    """Of one run. `people` is the digest of the list of the erased, "" for nobody."""

    def __init__(self, store: Store, run_id: str, people: str) -> None:
        self._store, self._run_id, self._people = store, run_id, people
        self._slices: set[str] = set()
        if people and store.exists(self._key):
            noted = json.loads(store.get(self._key))
            self._slices = set(noted["slices"]) if noted["people"] == people else set()

    def accepts(self, receipt: Receipt) -> bool:
        return not self._people or self._known(receipt)

    def remove_others(self) -> None:
        """Staged files that cannot be trusted; those that are published were searched with their partition."""
        if not self._people:
            return
        public = {file.staged for manifest in published(self._store, every=True) for file in manifest.files}
        for key in list(self._store.list(f"runs/{self._run_id}/staged")):
            receipt = find(self._store, self._run_id, PurePosixPath(key).stem)
            if key not in public and receipt is not None and not self._known(receipt):
                self._store.remove(key)

    def note(self, people: str) -> None:
        """After an erasure: what could be trusted under the list before, and was searched now, can be under the list `people`."""
        receipts = [find(self._store, self._run_id, PurePosixPath(k).stem) for k in self._store.list(f"runs/{self._run_id}/staged")]
        slices = sorted(r.slice_id for r in receipts if r is not None and self.accepts(r))
        self._store.replace(self._key, canonical({"people": people, "slices": slices}))

    def _known(self, receipt: Receipt) -> bool:
        return receipt.people == self._people or receipt.slice_id in self._slices

    @property
    def _key(self) -> str:
        return f"runs/{self._run_id}/searched.json"
