"""Publishing a partition: its manifest, put-if-absent by version, is the commit. All before it is preparation, all after it repair.

    1  quarantine files get their public names; the public folder is built aside (links on disk) or copied (buckets)
    2  manifest scores/_manifests/<key>/v<n>.json            the commit
    3  on disk, the partition's folder appears by one rename, or is exchanged with the version before; in a bucket strays go
`amend` does the same for a version that keeps the files of the one before and adds what was requeued.
Each step may be repeated: a run that died between any two of them is repaired by publishing again, or by `repair`. Readers of the
manifest see the old version or the new; so do plain listing readers on disk. In a bucket those may see a partition half there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from scoring.errors import OvertakenError, StoreError
from scoring.sinks.decisions import Override, Requeued, Restated
from scoring.sinks.folder import Folder, public_folder
from scoring.sinks.manifest import Identity, Manifest, PublicFile, current, public_files, published, read, rejected_files
from scoring.stores import Store
from scoring.types import Check, Counts, File, Receipt

__all__ = ["Identity", "Manifest", "PublicFile", "amend", "current", "publish", "published", "repair"]


def publish(
    store: Store,
    identity: Identity,
    key: str,
    input_digest: str,
    receipts: Sequence[Receipt],
    checks: Sequence[Check],
    planned_rows: int | None = None,
    sites: Callable[[str], None] = lambda site: None,
    ledger: Mapping[str, Any] | None = None,
    override: Override | None = None,
    replaces: int | None = None,
    why: Sequence[str] = (),
    inputs: Sequence[File] = (),
) -> Manifest:
    """Publish the staged slices of a partition, in this order. Publishing the same again finishes what is unfinished.

    `planned_rows` is what the footers promised, None where only reading told. `sites` is told where we are (fault drills).
    `ledger` is the ledger's head now. `override` is a person's decision, where a gate had held the partition. `replaces` is the
    version that was looked at when it was decided to score (0: none), None where nobody else can publish; `why` is kept with it.
    `inputs` are the files: what is known of their content is kept.

    Raises:
        StoreError: rows are not accounted for, a staged file is gone, or the store fails.
        OvertakenError: another run published this partition meanwhile.
    """
    counts = _conserved(key, receipts, planned_rows)
    with store.turn():
        manifest = _next(store, identity, key, input_digest, receipts, checks, counts, replaces, why)
        told = tuple((file.path, file.version, file.content) for file in inputs if file.content)
        return _establish(store, replace(manifest, ledger=dict(ledger or {}), override=override, inputs=told), sites)


def amend(
    store: Store,
    before: Manifest,
    identity: Identity,
    receipts: Sequence[Receipt],
    checks: Sequence[Check],
    requeued: Requeued,
    sites: Callable[[str], None] = lambda site: None,
    ledger: Mapping[str, Any] | None = None,
) -> Manifest:
    """Publish the version after `before`: its files, then the staged slices, which are what became of the quarantined rows that
    `requeued.replaced` holds. No other row moves.

    Raises:
        StoreError: rows are not accounted for, a staged file is gone, or the store fails.
        OvertakenError: `before` is not the newest version any more.
    """
    gone = [file for file in before.quarantine if file.path in requeued.replaced]
    moved = _conserved(before.key, receipts, sum(file.rows for file in gone))
    counts = Counts(**before.counts) + Counts(moved.scored, moved.quarantined - moved.total, moved.suppressed)
    if counts.quarantined < 0 or counts.total != sum(before.counts.values()):
        raise StoreError(f"{before.key} is not amended: {before.counts} and {asdict(moved)} do not add up. This is a bug.")
    version = before.version + 1
    manifest = replace(
        before,
        version=version,
        run_id=identity.run_id,
        fingerprint=identity.fingerprint,
        parts=identity.parts,
        counts=asdict(counts),
        files=public_files(identity, version, receipts, before.files),
        quarantine=(*(f for f in before.quarantine if f not in gone), *rejected_files(identity, receipts)),
        checks=tuple(checks),
        created=_now(),
        ledger=dict(ledger or {}),
        override=None,
        requeued=(*before.requeued, requeued),
    )
    with store.turn():
        return _establish(store, manifest, sites)


def _establish(store: Store, manifest: Manifest, sites: Callable[[str], None]) -> Manifest:
    """The three steps. Returns the manifest that counts: the same scores, if not the very same."""
    for file in manifest.quarantine:
        store.copy(file.staged, file.path)
    folder = _folder(store, manifest)
    if not folder.stands():
        folder.build()
    sites("publish.before_manifest")
    standing = _commit(store, manifest)
    sites("publish.after_manifest")
    if not folder.stands():
        folder.show()
    sites("publish.after_show")
    _remove_strays(store, standing)
    return standing


def repair(store: Store, manifest: Manifest) -> None:
    """Make the public folders what the newest manifest says, if a crash left them behind. An older manifest repairs nothing."""
    folder = _folder(store, manifest)
    if manifest.requeued:
        _remove_replaced(store, manifest)
    if folder.stands():
        return
    with store.turn():
        newest = current(store, manifest.key)
        if newest is not None and newest.version == manifest.version and not folder.stands():
            folder.show()


def _conserved(key: str, receipts: Sequence[Receipt], planned_rows: int | None) -> Counts:
    """Rows in = rows accounted for = rows in the files. Raises: StoreError."""
    counts = sum((r.counts for r in receipts), Counts())
    rows_in, stored = sum(r.rows_in for r in receipts), sum(r.scores.rows for r in receipts if r.scores)
    foreign = [r.slice_id for r in receipts if r.partition != key]
    twice = len(receipts) - len({r.slice_id for r in receipts})
    found = []
    if rows_in != counts.total or stored != counts.scored:
        found.append(f"{rows_in} rows in, {counts.total} accounted for, {counts.scored} scored, {stored} in staged files")
    if planned_rows is not None and planned_rows != rows_in:
        found.append(f"{planned_rows} rows planned, {rows_in} in")
    if foreign or twice:
        found.append(f"{len(foreign)} slices of another partition, {twice} slices named twice")
    if found:
        raise StoreError(f"{key} is not published: {'; '.join(found)}. This is a bug.")
    return counts


def _next(
    store: Store,
    identity: Identity,
    key: str,
    input_digest: str,
    receipts: Sequence[Receipt],
    checks: Sequence[Check],
    counts: Counts,
    replaces: int | None,
    why: Sequence[str],
) -> Manifest:
    """The manifest to be; the version that stands already if it is ours and says the same. Raises: OvertakenError."""
    before, now = current(store, key), _now()
    version = before.version + 1 if before else 1
    if before is not None and before.run_id == identity.run_id and before.input_digest == input_digest:
        version = before.version
    elif replaces is not None and version != replaces + 1:
        raise OvertakenError(_overtaken(before.name, before.run_id) if before else f"{key}: version {replaces} is gone. Run again.")
    return Manifest(
        key=key,
        version=version,
        run_id=identity.run_id,
        fingerprint=identity.fingerprint,
        parts=identity.parts,
        input_digest=input_digest,
        model=identity.model,
        counts=asdict(counts),
        files=public_files(identity, version, receipts),
        quarantine=rejected_files(identity, receipts),
        checks=tuple(checks),
        created=now,
        subject=identity.subject,
        restated=Restated(now, version - 1, tuple(why)) if version > 1 else None,
    )


def _commit(store: Store, manifest: Manifest) -> Manifest:
    """The manifest that counts. Raises: OvertakenError: it is another run's."""
    if store.put(manifest.name, manifest.to_json()):
        return manifest
    standing = read(store, manifest.name)
    if not standing.same_scores(manifest):
        raise OvertakenError(_overtaken(manifest.name, standing.run_id))
    return standing


def _overtaken(name: str, run_id: str) -> str:
    return f"{name} was published by run {run_id} meanwhile. Run again to see what is left."


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _folder(store: Store, manifest: Manifest) -> Folder:
    return public_folder(store, manifest.key, {f.path.rsplit("/", 1)[1]: f.staged for f in manifest.files})


def _remove_strays(store: Store, manifest: Manifest) -> None:
    """A run that published this partition before, from other input, left quarantine files under the same run folder."""
    wanted = {file.path for file in manifest.quarantine}
    folder = f"quarantine/{manifest.key}/run={manifest.run_id}"
    for name in store.list(folder):
        if name not in wanted and "/" not in name[len(folder) + 1 :]:
            store.remove(name)
    _remove_replaced(store, manifest)


def _remove_replaced(store: Store, manifest: Manifest) -> None:
    """Rows that were requeued are not in quarantine any more: their files lose their public names and stay with their run."""
    replaced = {name for one in manifest.requeued for name in one.replaced} - {file.path for file in manifest.quarantine}
    for name in store.list(f"quarantine/{manifest.key}") if replaced else ():
        if name in replaced:
            store.remove(name)
