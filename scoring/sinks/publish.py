"""Publishing a partition: its manifest, put-if-absent by version, is the commit. All before it is preparation, all after it repair.

    1  quarantine files get their public names; the public folder is built aside (links on disk) or copied (buckets)
    2  manifest scores/_manifests/<key>/v<n>.json            the commit
    3  on disk, the partition's folder appears by one rename, or is exchanged with the version before; in a bucket strays go
Each step may be repeated: a run that died between any two of them is repaired by publishing again, or by `repair`. Readers of the
manifest see the old version or the new; so do plain listing readers on disk. In a bucket those may see a partition half there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from scoring.errors import BusyError, StoreError
from scoring.sinks.folder import Folder, public_folder
from scoring.sinks.manifest import Identity, Manifest, PublicFile, current, public_files, published, read, rejected_files
from scoring.stores import Store
from scoring.types import Check, Counts, Receipt

__all__ = ["Identity", "Manifest", "PublicFile", "current", "publish", "published", "repair"]


def publish(
    store: Store,
    identity: Identity,
    key: str,
    input_digest: str,
    receipts: Sequence[Receipt],
    checks: Sequence[Check],
    planned_rows: int | None = None,
    sites: Callable[[str], None] = lambda site: None,
) -> Manifest:
    """Publish the staged slices of a partition, in this order. Publishing the same again finishes what is unfinished.

    `planned_rows` is what the footers promised, None where only reading told. `sites` is told where we are (fault drills).

    Raises:
        StoreError: rows are not accounted for, a staged file is gone, or the store fails.
        BusyError: another run published this partition meanwhile.
    """
    counts = _conserved(key, receipts, planned_rows)
    with store.turn():
        manifest = _next(store, identity, key, input_digest, receipts, checks, counts)
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
    """Make the public folder what the newest manifest says, if a crash left it behind. An older manifest repairs nothing."""
    folder = _folder(store, manifest)
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
) -> Manifest:
    """The manifest to be; the version that stands already if it is ours and says the same."""
    before = current(store, key)
    version = before.version + 1 if before else 1
    if before is not None and before.run_id == identity.run_id and before.input_digest == input_digest:
        version = before.version
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
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        subject=identity.subject,
    )


def _commit(store: Store, manifest: Manifest) -> Manifest:
    """The manifest that counts. Raises: BusyError: it is another run's."""
    if store.put(manifest.name, manifest.to_json()):
        return manifest
    standing = read(store, manifest.name)
    if not standing.same_scores(manifest):
        raise BusyError(f"{manifest.name} was published by run {standing.run_id} meanwhile. Run again to see what is left.")
    return standing


def _folder(store: Store, manifest: Manifest) -> Folder:
    return public_folder(store, manifest.key, {f.path.rsplit("/", 1)[1]: f.staged for f in manifest.files})


def _remove_strays(store: Store, manifest: Manifest) -> None:
    """A run that published this partition before, from other input, left quarantine files under the same run folder."""
    wanted = {file.path for file in manifest.quarantine}
    folder = f"quarantine/{manifest.key}/run={manifest.run_id}"
    for name in store.list(folder):
        if name not in wanted and "/" not in name[len(folder) + 1 :]:
            store.remove(name)
