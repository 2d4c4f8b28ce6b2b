"""What a published version of a partition is: its files, in order, and what made them. Written once, never changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from scoring.errors import StoreError
from scoring.sinks import decisions
from scoring.sinks.decisions import Override, Requeued, Restated
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
    """`files` in input order, requeued ones after the others; `created` is UTC, ISO 8601.

    `inputs` are (path, version, SHA-256) of the files it was made of, where files are told apart by content.
    `ledger` is {seq, hash} of the newest ledger entry before this version: entries cut off later do not go unseen.
    """

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
    ledger: dict[str, Any] = field(default_factory=dict)
    override: Override | None = None
    requeued: tuple[Requeued, ...] = ()
    subject: dict[str, str] = field(default_factory=dict)
    restated: Restated | None = None
    inputs: tuple[tuple[str, str, str], ...] = ()

    @property
    def name(self) -> str:
        return f"{_ROOT}/{self.key}/v{self.version:05d}.json"

    def to_json(self) -> bytes:
        return canonical(self)

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Raises: ValueError, TypeError, KeyError: not a manifest."""
        raw = json.loads(text)
        for name in ("files", "quarantine"):
            raw[name] = tuple(PublicFile(**f) for f in raw[name])
        raw["override"] = decisions.override(raw.get("override"))
        raw["inputs"] = tuple((path, version, content) for path, version, content in raw.get("inputs", []))
        raw["restated"] = decisions.restated(raw.get("restated"))
        raw["requeued"] = decisions.requeues(raw.get("requeued", []))
        return cls(**{**raw, "checks": tuple(Check(**c) for c in raw["checks"])})

    def same_scores(self, other: Manifest) -> bool:
        """Whether both publish the same rows: the files, their digests and the identity; verdicts and the clock aside."""
        facts = ("key", "version", "run_id", "fingerprint", "input_digest", "files", "quarantine", "counts")
        return all(getattr(self, fact) == getattr(other, fact) for fact in facts)


def current(store: Store, key: str) -> Manifest | None:
    """The newest published version of a partition. Raises: StoreError: its manifest is damaged."""
    names = versions(store, f"{_ROOT}/{key}")
    return read(store, names[-1]) if names else None


def history(store: Store, key: str) -> list[Manifest]:
    """Every version of a partition there ever was, the oldest first. Raises: StoreError: a manifest is damaged."""
    return [read(store, name) for name in versions(store, f"{_ROOT}/{key}")]


def versions(store: Store, folder: str) -> list[str]:
    """Names of the objects right in a folder, sorted: those of v00001, v00002, … of one partition, without partitions below it."""
    return [name for name in store.list(folder) if "/" not in name[len(folder) + 1 :]]


def names(store: Store) -> list[str]:
    """The manifests of all versions of all partitions, sorted."""
    return list(store.list(_ROOT))


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


def public_files(
    identity: Identity, version: int, receipts: Sequence[Receipt], standing: Sequence[PublicFile] = ()
) -> tuple[PublicFile, ...]:
    """Names sort in input order, and no name ever stands for other bytes: a reader that listed one version cannot open a file of
    another. Files of the version before that stay (`standing`) keep their names and go first.

    Readers take a folder's columns from its first file, and files without rows may lack what others carry: one at most is shown.
    """
    tag = digest([identity.run_id, identity.fingerprint, version])[:6]
    first = max((int(file.path.rsplit("/", 1)[1].split("-")[1]) + 1 for file in standing), default=0)
    files = [*standing, *(_public(place, receipt, tag) for place, receipt in enumerate(receipts, start=first))]
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
