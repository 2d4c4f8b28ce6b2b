"""Is what was published still what was published? Walks the ledger, every manifest ever, every file's digest and row count.

Damage is what cannot be explained; exit code 65. What a crash leaves, and the next run mends, is a note: the newest version of a
partition whose ledger entries or public folder are still to come. Memory does not grow with the size of files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.errors import StoreError
from scoring.jobs.arguments import Given
from scoring.jobs.recovery import said_of
from scoring.jobs.workspace import existing
from scoring.ledger.chain import GENESIS
from scoring.ledger.chain import verify as walk
from scoring.ledger.erasures import replaced
from scoring.respond.manual import clean
from scoring.sinks.held import folder
from scoring.sinks.manifest import Manifest, PublicFile, names, read, versions
from scoring.stores import LocalStore, Store

KINDS = ("published", "held", "released", "discarded", "requeued", "erased")
OF_FILES = ("published", "held", "released", "requeued")  # kinds that speak of a manifest, or of a held record


@dataclass(frozen=True)
class Verification:
    """`problems` is empty when everything is as it was; `notes` is what the next run will finish."""

    partitions: int
    files: int
    rows: int
    entries: int
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


def verify(workspace: str) -> Verification:
    """Raises: ConfigError: nothing ever ran there. StoreError: it cannot be read."""
    return _Inspection(existing(workspace)).result()


class _Inspection:
    """Use once: `result`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._problems: list[str] = []
        self._notes: list[str] = []
        self._heads: list[tuple[str, int, str]] = []  # (who, seq, hash): heads of the ledger that somebody else knows
        self._hashes: dict[int, str] = {}  # of those entries
        self._said: dict[str, tuple[int, str, str]] = {}  # once: (seq, kind, digest of the file that the entry vouches for)
        self._erased = replaced(store)
        self._entries = self._files = self._rows = 0

    def result(self) -> Verification:
        manifests = list(self._manifests())
        held = dict(self._held())
        self._ledger()
        newest = {manifest.key: manifest for manifest, _ in manifests}
        for manifest, sha256 in manifests:
            self._announced(manifest, sha256, newest[manifest.key] is manifest)
        for once, sha256 in held.items():
            self._told(once, sha256)
        self._vouched({once for m, _ in manifests for _, once in said_of(m)} | {*held})
        for key, manifest in newest.items():
            self._partition(manifest, [m for m, _ in manifests if m.key == key and m is not manifest])
        return Verification(len(newest), self._files, self._rows, self._entries, tuple(self._problems), tuple(self._notes))

    def _manifests(self) -> Iterator[tuple[Manifest, str]]:
        """Every version there ever was, with its digest; damaged ones are problems."""
        for name in names(self._store):
            try:
                manifest = read(self._store, name)
            except StoreError as error:
                self._problems.append(str(error))
                continue
            if manifest.ledger:
                self._heads.append((name, manifest.ledger["seq"], manifest.ledger["hash"]))
            yield manifest, self._store.sha256(name)

    def _held(self) -> Iterator[tuple[str, str]]:
        """What gates held back, and the heads of the ledger that run records know."""
        for run_id in self._store.folders("runs"):
            self._record(f"runs/{run_id}/record.json")
            for name in self._store.list(folder(run_id)):
                key, version = name.removeprefix(f"{folder(run_id)}/").removesuffix(".json").rsplit("/v", 1)
                if version.isdecimal():
                    yield f"held {run_id} {key} v{int(version)}", self._store.sha256(name)

    def _record(self, name: str) -> None:
        if not self._store.exists(name):
            return
        try:
            head = json.loads(self._store.get(name)).get("ledger") or {"seq": 0, "hash": GENESIS}
            self._heads.append((name, int(head["seq"]), str(head["hash"])))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._problems.append(f"{name} is damaged: {error}")

    def _ledger(self) -> None:
        wanted = {seq for _, seq, _ in self._heads}
        chain = walk(self._store, lambda entry: self._see(entry, wanted))
        self._entries = chain.entries
        if not chain.ok:
            self._problems.append(f"ledger: {chain.why}")
            return
        self._notes += [f"ledger: {chain.note}"] if chain.note else []
        for who, seq, digest in self._heads:
            if seq and self._hashes.get(seq) != digest:
                what = "is gone" if seq > chain.entries else "is another"
                self._problems.append(f"ledger: entry {seq}, which {who} knows, {what}")

    def _see(self, entry: dict[str, Any], wanted: set[int]) -> None:
        seq, payload = entry["seq"], entry["payload"]
        if seq in wanted:
            self._hashes[seq] = entry["hash"]
        if entry["kind"] not in KINDS:
            self._notes.append(f"ledger: entry {seq} is of a kind that is not known here: {entry['kind']}")
        self._said[entry["once"]] = (seq, entry["kind"], str(payload.get("manifest") or payload.get("record") or ""))

    def _announced(self, manifest: Manifest, sha256: str, newest: bool) -> None:
        """A crash leaves the newest version without its last entries, and then nothing else was said since."""
        wanted = said_of(manifest)
        missing = [kind for kind, once in wanted if once not in self._said]
        since = self._entries - manifest.ledger.get("seq", self._entries)
        if missing and newest and since == len(wanted) - len(missing):
            self._notes.append(f"{manifest.name}: the next run says in the ledger that it was {missing[0]}")
        elif missing:
            self._problems.append(f"{manifest.name}: the ledger does not say that it was {missing[0]}")
        if "published" not in missing:
            self._told(wanted[0][1], sha256)

    def _told(self, once: str, sha256: str) -> None:
        seq, _, digest = self._said.get(once, (0, "", ""))
        if not seq:
            self._notes.append(f"the ledger does not say {once!r} yet")
        elif digest != sha256:
            self._problems.append(f"ledger: entry {seq}, {once!r}, is about a file that has changed since")

    def _vouched(self, there: set[str]) -> None:
        """What the ledger speaks of must be there."""
        for once, (seq, kind, _) in self._said.items():
            if kind in OF_FILES and once not in there:
                self._problems.append(f"ledger: entry {seq} says {once!r}, and what it is about is gone or damaged")

    def _partition(self, manifest: Manifest, older: list[Manifest]) -> None:
        found, counted = sum(f.rows for f in manifest.files), manifest.counts["scored"]
        self._rows += found
        if found != counted:
            self._problems.append(f"{manifest.key}: {found} rows in files, {counted} in the manifest")
        present = self._shown(manifest, older)
        for file in manifest.files:
            self._file(file, file.path if _name(file) in present else file.staged)
        for file in manifest.quarantine:
            self._file(file, file.path)

    def _shown(self, manifest: Manifest, older: list[Manifest]) -> set[str]:
        """The Parquet files that a listing reader sees. A crash leaves those of a version before, or (in a bucket) both; the ledger
        is told of a version only after it was shown.
        """
        place = f"scores/{manifest.key}"
        present = {n.rsplit("/", 1)[1] for n in versions(self._store, place) if n.endswith(".parquet")}
        wanted = {_name(file) for file in manifest.files}
        before: list[set[str]] = [{_name(file) for file in m.files} for m in older] or [set()]
        if present == wanted:
            return present
        explained = present in before or (present > wanted and present - wanted <= set().union(*before))
        if explained and said_of(manifest)[0][1] not in self._said:
            self._notes.append(f"{place}: the next run shows version {manifest.version} there")
        else:
            missing, strange = sorted(wanted - present), sorted(present - wanted)
            self._problems.append(f"{place}: missing {', '.join(missing) or 'nothing'}; strange {', '.join(strange) or 'nothing'}")
        return present

    def _file(self, file: PublicFile, place: str) -> None:
        """Readers of manifests take the staged original where it is there, listing readers the public name."""
        self._files += 1
        for key in (place, file.staged):
            if key == place or (self._store.exists(key) and not _same(self._store, key, place)):
                self._problems += self._content(file, key)

    def _content(self, file: PublicFile, key: str) -> list[str]:
        after = self._erased.get(file.sha256, set())
        if "" in after and not self._store.exists(key):
            return self._unfinished(key)
        try:
            if (digest := self._store.sha256(key)) != file.sha256:
                return self._unfinished(key) if digest in after else [f"{key}: its content has changed"]
            found = pq.read_metadata(self._store.open_file(key)).num_rows
        except (OSError, pa.ArrowException) as error:
            return [f"{key}: {str(error).splitlines()[0]}"]
        return [] if found == file.rows else [f"{key}: {found} rows, {file.rows} were published"]

    def _unfinished(self, key: str) -> list[str]:
        self._notes.append(f"{key}: an erasure was cut off here; say scoring erase again to finish it")
        return []


def _name(file: PublicFile) -> str:
    return file.path.rsplit("/", 1)[1]


def _same(store: Store, one: str, other: str) -> bool:
    """One file under two names: there is nothing to compare."""
    try:
        return isinstance(store, LocalStore) and os.path.samefile(store.path(one), store.path(other))
    except OSError:
        return False


def command(given: Given) -> tuple[Verification, int]:
    found = verify(given.needed("workspace"))
    return found, 65 if found.problems else 0


def render(found: Verification) -> str:
    said = f"{found.partitions} partitions, {found.files} files, {found.rows:,} scores, {found.entries} ledger entries"
    notes = [f"note: {clean(note)}" for note in found.notes]
    return "\n".join([f"{'intact' if not found.problems else 'NOT intact'}: {said}", *map(clean, found.problems), *notes])
