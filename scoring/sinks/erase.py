"""A person's rows taken out of a workspace: staged and quarantined files of every run, then new versions of what is public.

A staged file keeps its name, so that a resumed run finds its slice done; its receipt says some rows scored less and as many
suppressed more. Quarantine files get a successor (".e1"), because the receipt names them by digest: the successor is made, the
staged file is exchanged, the old one goes. Every step looks at what stands, so that erasing again finishes what a crash left. For
the holder of the lock alone. What happened to which file is told before it happens.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from scoring.sinks.done import forget_log
from scoring.sinks.folder import public_folder
from scoring.sinks.manifest import Manifest, PublicFile, published
from scoring.sinks.publish import repair
from scoring.sinks.rewrite import Search, count, rewrite
from scoring.sinks.staged import RECEIPT, find, key_of, remember
from scoring.stores import Store, sha256_of
from scoring.types import Counts, Receipt, StagedFile, digest

SUPPRESSED = "admit:suppressed"
_ROOTS = ("scores", "quarantine", "runs", "control", "watch", "review")
_SUCCESSOR = re.compile(r"(?:\.e(\d+))?\.parquet$")
_Sites = Callable[[str], None]
_Say = Callable[[str, str, str, int], None]  # key, digest before, digest after, rows that go


class Eraser:
    """`say` is told of each file before it is replaced, `head` gives the ledger's head, `sites` is told where we are (drills)."""

    def __init__(
        self, store: Store, search: Search, say: _Say, head: Callable[[], dict[str, Any]] = dict, sites: _Sites = lambda site: None
    ) -> None:
        self._store, self._search, self._say, self._head, self._sites = store, search, say, head, sites

    def runs(self) -> None:
        """Staged files, the quarantine files that they name, and what lost attempts left."""
        for manifest in published(self._store):
            for file in (*manifest.files, *manifest.quarantine):
                if not self._store.exists(file.staged):  # somebody tidied runs/: the public file is the only one
                    self._store.copy(file.path, file.staged)
        for run_id in self._store.folders("runs"):
            forget_log(self._store, run_id)
            for key in [k for k in self._store.list(f"runs/{run_id}/staged") if k.endswith(".parquet")]:
                self._slice(run_id, PurePosixPath(key).stem)

    def partitions(self) -> Iterator[Manifest]:
        """Publish what changed as a new version; only then do files go that are named no more."""
        for manifest in list(published(self._store)):
            newest = self._version(manifest)
            repair(self._store, newest)
            self._sites("erase.after_show")
            self._tidy(newest)
            if newest is not manifest:
                yield newest
        for run_id in self._store.folders("runs"):
            named = {f.key for r in self._receipts(run_id) for f in r.quarantine}
            for key in self._store.list(f"runs/{run_id}/quarantine"):
                if key not in named and self._count(key) != 0:
                    self._store.remove(key)

    def others(self) -> None:
        """Any other table of the workspace that names people, in place."""
        for key in self._tables():
            parts = PurePosixPath(key).parts
            ours = parts[0] in ("scores", "quarantine") or (parts[0] == "runs" and parts[2:3] in (("staged",), ("quarantine",)))
            if not ours and self._count(key):
                path, _, _ = self._without(key, {})
                self._store.replace(key, path)

    def left(self) -> dict[str, int]:
        """Rows that are still found, by file: the proof is that there are none."""
        return {key: found for key in self._tables() if (found := self._count(key))}

    def _tables(self) -> Iterator[str]:
        for root in _ROOTS:
            yield from [key for key in self._store.list(root) if key.endswith(".parquet")]

    def _count(self, key: str) -> int:
        return count(self._store.open_file(key), self._search) or 0

    def _receipts(self, run_id: str) -> Iterator[Receipt]:
        for key in self._store.list(f"runs/{run_id}/staged"):
            if (found := find(self._store, run_id, PurePosixPath(key).stem)) is not None:
                yield found

    def _slice(self, run_id: str, slice_id: str) -> None:
        receipt = find(self._store, run_id, slice_id)
        assert receipt is not None
        reasons: Counter[str] = Counter()
        named = [self._successor(file, reasons) for file in receipt.quarantine]
        out = sum(old.rows - (new.rows if new else 0) for old, new in zip(receipt.quarantine, named, strict=True))
        key = key_of(run_id, slice_id)
        scored = self._count(key)
        if not out and not scored:
            return
        self._sites("erase.before_staged")
        changed = _less(receipt, scored, out, reasons, tuple(new for new in named if new is not None))
        path, size, after = self._without(key, {RECEIPT: replace(changed, scores=None).to_json()})
        self._store.replace(key, path)
        self._sites("erase.after_staged")
        remember(self._store, run_id, replace(changed, scores=StagedFile(key, changed.counts.scored, size, after)))

    def _successor(self, file: StagedFile, reasons: Counter[str]) -> StagedFile | None:
        """The quarantine file without the person: itself, another, or none where nothing is left in it."""
        if not self._store.exists(file.key) or not self._count(file.key):
            return file  # gone: named by a slice that a late lane staged after its file was cleared away; see `searched`
        target = self._store.spool("erase")
        kept = rewrite(self._store.open_file(file.key), target, self._search, {}, lambda rows: reasons.update(_reasons(rows)))
        target.chmod(0o600)
        found = _SUCCESSOR.search(file.key)
        assert found is not None
        key = f"{file.key[: found.start()]}.e{int(found[1] or 0) + 1}.parquet"
        done = StagedFile(key, kept, target.stat().st_size, sha256_of(target))
        self._say(file.key, file.sha256, done.sha256 if kept else "", file.rows - kept)
        self._sites("erase.before_quarantine")
        if kept:
            self._store.replace(key, target)
        target.unlink(missing_ok=True)
        return done if kept else None

    def _without(self, key: str, texts: dict[str, str]) -> tuple[Any, int, str]:
        """A spooled file, its size and digest."""
        path, away = self._store.spool("erase"), Counter[str]()
        rewrite(self._store.open_file(key), path, self._search, texts, lambda rows: away.update(rows=rows.num_rows))
        size, after = path.stat().st_size, sha256_of(path)
        self._say(key, self._store.sha256(key), after, away["rows"])
        return path, size, after

    def _version(self, before: Manifest) -> Manifest:
        """The manifest that says what the staged files say now; a new version where that is not what it said."""
        files = tuple(self._as_staged(file) for file in before.files)
        bad = tuple(new for file in before.quarantine if (new := self._as_named(file)) is not None)
        if files == before.files and bad == before.quarantine:
            return before
        shown = tuple(file for file in files if file.rows) or files[:1]
        scored = sum(file.rows for file in files)
        quarantined = before.counts["quarantined"] - sum(f.rows for f in before.quarantine) + sum(f.rows for f in bad)
        counts = {"scored": scored, "quarantined": quarantined}
        counts["suppressed"] = sum(before.counts.values()) - scored - quarantined
        version = before.version + 1
        tag = digest([before.run_id, before.fingerprint, version])[:6]
        shown = tuple(replace(file, path=f"{file.path.rpartition('-')[0]}-{tag}.parquet") for file in shown)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        facts: dict[str, Any] = {"counts": counts, "created": now, "ledger": self._head(), "override": None}
        after = replace(before, version=version, files=shown, quarantine=bad, **facts)
        self._publish(after)
        return after

    def _publish(self, manifest: Manifest) -> None:
        with self._store.turn():
            for file in manifest.quarantine:
                self._store.copy(file.staged, file.path)
            folder = public_folder(self._store, manifest.key, {f.path.rsplit("/", 1)[1]: f.staged for f in manifest.files})
            folder.build()
            self._sites("erase.before_manifest")
            self._store.put(manifest.name, manifest.to_json())
            self._sites("erase.after_manifest")
            folder.show()

    def _as_staged(self, file: PublicFile) -> PublicFile:
        receipt = _receipt_of(self._store, file.staged)
        found = receipt.scores if receipt else None
        return file if found is None else replace(file, rows=found.rows, bytes=found.bytes, sha256=found.sha256)

    def _as_named(self, file: PublicFile) -> PublicFile | None:
        """The file that the slice's receipt names in its place."""
        receipt = _receipt_of(self._store, file.staged)
        if receipt is None or file.staged in {q.key for q in receipt.quarantine}:
            return file
        stem = _SUCCESSOR.sub("", file.staged)
        found = next((q for q in receipt.quarantine if _SUCCESSOR.sub("", q.key) == stem), None)
        if found is None:
            return None
        end = found.key[len(stem) :]
        return PublicFile(_SUCCESSOR.sub("", file.path) + end, found.key, found.rows, found.bytes, found.sha256)

    def _tidy(self, manifest: Manifest) -> None:
        """Public quarantine files of this partition, of any run, that its newest version does not name: the person may be in."""
        wanted, folder = {file.path for file in manifest.quarantine}, f"quarantine/{manifest.key}"
        for name in self._store.list(folder):
            run, _, file = name[len(folder) + 1 :].partition("/")
            own = run.startswith("run=") and "/" not in file  # not of a partition below this one
            if own and name not in wanted and file.endswith(".parquet") and self._count(name):
                self._store.remove(name)


def _receipt_of(store: Store, staged: str) -> Receipt | None:
    """The receipt of the slice that a staged or quarantine file belongs to."""
    _, run_id, _, name = PurePosixPath(staged).parts
    return find(store, run_id, name.split(".")[0])


def _less(receipt: Receipt, scored: int, out: int, reasons: Counter[str], named: tuple[StagedFile, ...]) -> Receipt:
    """The receipt as it is without rows that were scored or quarantined; which route had answered them is not known, so the most
    used one gives.
    """
    counts = receipt.counts
    left = Counter(receipt.reasons)
    left.subtract(reasons)
    left[SUPPRESSED] += scored + out
    routes = dict(receipt.routes)
    if routes:
        most = max(routes, key=lambda route: routes[route])
        routes[most] = max(0, routes[most] - scored)
    return replace(
        receipt,
        counts=Counts(counts.scored - scored, counts.quarantined - out, counts.suppressed + scored + out),
        reasons={reason: n for reason, n in left.items() if n},
        routes=routes,
        quarantine=named,
        found=replace(receipt.found, mix={}),  # values of rows, should the column not have been tagged then
    )


def _reasons(rows: pa.Table) -> Counter[str]:
    """As an attempt counted them."""
    found: Counter[str] = Counter()
    why: list[Any] = rows["_reasons"].to_pylist()
    for stage, reasons in zip(rows["_stage"].to_pylist(), why, strict=True):
        found.update(f"{stage}:{reason.split(':')[0] if stage == 'score' else reason}" for reason in reasons)
    return found
