"""What a published version of a partition is: its files, in order, and what made them. Written once, never changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

from scoring.errors import StoreError
from scoring.stores import Store
from scoring.types import Check, Receipt, canonical, digest

_ROOT = "scores/_manifests"


@dataclass(frozen=True)
class Identity:
    """What made the scores: equal identities may share a partition version, others never. `parts` name what may differ."""

    run_id: str
    model: dict[str, str]
    parts: dict[str, str]
    fingerprint: str
    subject: dict[str, str] = field(default_factory=dict)  # how a person is found in the files: see admit.treatments.described


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
    """`files` in input order; `created` is UTC, ISO 8601."""

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
    created: str = ""
    subject: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{_ROOT}/{self.key}/v{self.version:05d}.json"

    def to_json(self) -> bytes:
        return canonical(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Raises: ValueError, TypeError, KeyError: not a manifest."""
        raw = json.loads(text)
        for kind in ("files", "quarantine"):
            raw[kind] = tuple(PublicFile(**f) for f in raw[kind])
        return cls(**{**raw, "checks": tuple(Check(**c) for c in raw["checks"])})

    def same_scores(self, other: Manifest) -> bool:
        """Whether both publish the same rows: the files, their digests and the identity; verdicts and the clock aside."""
        facts = ("key", "version", "run_id", "fingerprint", "input_digest", "files", "quarantine", "counts")
        return all(getattr(self, fact) == getattr(other, fact) for fact in facts)


def current(store: Store, key: str) -> Manifest | None:
    """The newest published version of a partition. Raises: StoreError: its manifest is damaged."""
    folder = f"{_ROOT}/{key}"
    names = [name for name in store.list(folder) if "/" not in name[len(folder) + 1 :]]
    return read(store, max(names)) if names else None


def published(store: Store, every: bool = False) -> Iterator[Manifest]:
    """The newest version of every partition, by key; or every version there ever was."""
    newest: dict[str, list[str]] = {}
    for name in store.list(_ROOT):
        newest.setdefault(name.rsplit("/", 1)[0], []).append(name)
    for folder in sorted(newest):
        for name in sorted(newest[folder]) if every else [max(newest[folder])]:
            yield read(store, name)


def read(store: Store, name: str) -> Manifest:
    try:
        manifest = Manifest.from_json(store.get(name))
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"{store.root}: {name} is damaged: {error}.") from None
    if manifest.name != name:
        raise StoreError(f"{store.root}: {name} is damaged: it says that it is {manifest.name}.")
    return manifest


def public_files(identity: Identity, version: int, receipts: Sequence[Receipt]) -> tuple[PublicFile, ...]:
    """Names sort in input order, and no version has a name of another: a reader that listed one cannot open a file of the other.

    Readers take a folder's columns from its first file, and files without rows may lack what others carry: one at most is shown.
    """
    tag = digest([identity.run_id, identity.fingerprint, version])[:6]
    files = [_public(place, receipt, tag) for place, receipt in enumerate(receipts)]
    return tuple(file for file in files if file.rows) or tuple(files[:1])


def rejected_files(identity: Identity, receipts: Sequence[Receipt]) -> tuple[PublicFile, ...]:
    """The quarantine files that the receipts name; none that a lost attempt may have left."""
    return tuple(
        PublicFile(_reject_name(identity.run_id, place, receipt, n), file.key, file.rows, file.bytes, file.sha256)
        for place, receipt in enumerate(receipts)
        for n, file in enumerate(receipt.quarantine)
    )


def _public(place: int, receipt: Receipt, tag: str) -> PublicFile:
    found = receipt.scores
    if found is None:
        raise StoreError(f"Slice {receipt.slice_id} has no staged file. This is a bug.")
    name = f"scores/{receipt.partition}/part-{place:05d}-{receipt.slice_id[:8]}-{tag}.parquet"
    return PublicFile(name, found.key, found.rows, found.bytes, found.sha256)


def _reject_name(run_id: str, place: int, receipt: Receipt, n: int) -> str:
    more = f"-{n}" if n else ""
    return f"quarantine/{receipt.partition}/run={run_id}/part-{place:05d}-{receipt.slice_id[:8]}{more}.parquet"
