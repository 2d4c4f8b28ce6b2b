"""Publishing a partition: its manifest, put-if-absent by version, is the commit. All before it is preparation, all after it repair.

    1  quarantine files and public score files get their deterministic names (links on disk, copies on object stores)
    2  manifest scores/_manifests/<key>/v<n>.json            the commit
    3  on disk, the partition's folder appears by one rename, or is exchanged with the version before (renameat2)
Each step may be repeated: a run that died between any two of them is repaired by publishing again. Readers of the manifest see the
old version or the new; so do plain listing readers on disk. On object stores those may see a partition half there before 2.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from scoring.errors import ChangedError, StoreError
from scoring.stores import LocalStore, Store
from scoring.types import Check, Counts, Receipt, canonical

_AT_FDCWD, _EXCHANGE = -100, 2


@dataclass(frozen=True)
class Identity:
    """What made the scores: equal identities may share a partition version, others never. `parts` name what may differ."""

    run_id: str
    model: dict[str, str]
    parts: dict[str, str]
    fingerprint: str


@dataclass(frozen=True)
class PublicFile:
    """`path` is the public name, `staged` the immutable original, both relative to the workspace."""

    path: str
    staged: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    key: str
    version: int
    run_id: str
    fingerprint: str
    parts: dict[str, str]
    input_digest: str
    model: dict[str, str]
    counts: dict[str, int]
    files: tuple[PublicFile, ...]
    quarantine: tuple[PublicFile, ...]
    checks: tuple[Check, ...]

    @property
    def name(self) -> str:
        return f"scores/_manifests/{self.key}/v{self.version:05d}.json"

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Raises: ValueError, TypeError, KeyError: not a manifest."""
        raw = json.loads(text)
        for field in ("files", "quarantine"):
            raw[field] = tuple(PublicFile(**f) for f in raw[field])
        return cls(**{**raw, "checks": tuple(Check(**c) for c in raw["checks"])})


def current(store: Store, key: str) -> Manifest | None:
    """The newest published version of a partition. Raises: StoreError: its manifest is damaged."""
    names = [name for name in store.list(f"scores/_manifests/{key}") if name.rsplit("/", 1)[0] == f"scores/_manifests/{key}"]
    return _read(store, max(names)) if names else None


def published(store: Store) -> Iterator[Manifest]:
    """The newest version of every partition, by key."""
    newest: dict[str, str] = {}
    for name in store.list("scores/_manifests"):
        folder = name.rsplit("/", 1)[0]
        newest[folder] = max(name, newest.get(folder, ""))
    for folder in sorted(newest):
        yield _read(store, newest[folder])


def publish(
    store: Store, identity: Identity, key: str, input_digest: str, receipts: Sequence[Receipt], checks: Sequence[Check]
) -> Manifest:
    """Publish the staged slices of a partition, in this order. Publishing the same again finishes what is unfinished.

    Raises:
        StoreError: rows are not accounted for, or the store fails.
        ChangedError: somebody else published another version meanwhile.
    """
    before = current(store, key)
    again = before is not None and before.run_id == identity.run_id and before.input_digest == input_digest
    version = before.version + (0 if again else 1) if before else 1
    counts = sum((r.counts for r in receipts), Counts())
    if counts.total != sum(r.rows_in for r in receipts):
        raise StoreError(f"{key}: {sum(r.rows_in for r in receipts)} rows in, {counts.total} accounted for; not published.")
    manifest = Manifest(
        key=key,
        version=version,
        run_id=identity.run_id,
        fingerprint=identity.fingerprint,
        parts=identity.parts,
        input_digest=input_digest,
        model=identity.model,
        counts=asdict(counts),
        files=_with_rows([_public(n, r, identity) for n, r in enumerate(receipts)]),
        quarantine=tuple(q for n, r in enumerate(receipts) for q in _rejects(n, r, identity)),
        checks=tuple(checks),
    )
    _commit(store, manifest)
    return manifest


def repair(store: Store, manifest: Manifest) -> None:
    """Make the public folder what the manifest says, if a crash left it behind."""
    if isinstance(store, LocalStore) and not _stands(store, manifest):
        _appear(store, manifest)


def _commit(store: Store, manifest: Manifest) -> None:
    for file in manifest.quarantine:
        _place(store, file)
    if not isinstance(store, LocalStore):
        for file in manifest.files:
            _place(store, file)
    data = canonical(asdict(manifest))
    if not store.put(manifest.name, data) and store.get(manifest.name) != data:
        raise ChangedError(
            f"{manifest.key} was published by another run meanwhile ({manifest.name}). Run again to see what is left."
        )
    if isinstance(store, LocalStore):
        repair(store, manifest)
    else:
        store.put(f"scores/{manifest.key}/_SUCCESS", b"")


def _place(store: Store, file: PublicFile) -> None:
    if not store.exists(file.path):
        store.copy(file.staged, file.path)


def _stands(store: LocalStore, manifest: Manifest) -> bool:
    folder = store.path(f"scores/{manifest.key}")
    names = {Path(f.path).name for f in manifest.files}
    return folder.is_dir() and {p.name for p in folder.glob("*.parquet")} == names and (folder / "_SUCCESS").exists()


def _appear(store: LocalStore, manifest: Manifest) -> None:
    """Build the folder aside, then put it in place by one rename."""
    target = store.path(f"scores/{manifest.key}")
    built = Path(store.root, "runs", ".spool", f"{manifest.run_id}-{manifest.key.replace('/', ',')}-v{manifest.version}")
    shutil.rmtree(built, ignore_errors=True)
    built.mkdir(parents=True)
    for file in manifest.files:
        os.link(store.path(file.staged), built / Path(file.path).name)
    (built / "_SUCCESS").touch()
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        _exchange(built, target)
        for inner in [p for p in built.iterdir() if p.is_dir()]:  # partitions below this one: k=v/k2=v2 beside k=v
            os.rename(inner, target / inner.name)
        shutil.rmtree(built)
    else:
        os.rename(built, target)


def _exchange(built: Path, target: Path) -> None:
    """Swap two folders in one step (renameat2(2), RENAME_EXCHANGE; Linux 3.15)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(built), _AT_FDCWD, os.fsencode(target), _EXCHANGE) == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(code, os.strerror(code), str(target))
    aside = built.with_name(built.name + ".old")  # this file system cannot exchange: listing readers may miss it for an instant
    os.rename(target, aside)
    os.rename(built, target)
    os.rename(aside, built)


def _with_rows(files: list[PublicFile]) -> tuple[PublicFile, ...]:
    """Readers take a folder's columns from its first file, and files without rows may lack what others carry: one at most is shown."""
    return tuple(f for f in files if f.rows) or tuple(files[:1])


def _public(place: int, receipt: Receipt, identity: Identity) -> PublicFile:
    found = receipt.scores
    if found is None:
        raise StoreError(f"Slice {receipt.slice_id} has no staged file. This is a bug.")
    name = f"part-{place:05d}-{receipt.slice_id[:8]}-{identity.fingerprint[:6]}.parquet"
    return PublicFile(f"scores/{receipt.partition}/{name}", found.key, found.rows, found.bytes, found.sha256)


def _rejects(place: int, receipt: Receipt, identity: Identity) -> Iterator[PublicFile]:
    for n, file in enumerate(receipt.quarantine):
        name = f"part-{place:05d}-{receipt.slice_id[:8]}-{n}.parquet"
        path = f"quarantine/{receipt.partition}/run={identity.run_id}/{name}"
        yield PublicFile(path, file.key, file.rows, file.bytes, file.sha256)


def _read(store: Store, name: str) -> Manifest:
    try:
        return Manifest.from_json(store.get(name))
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{name} is damaged: {error}.") from None
