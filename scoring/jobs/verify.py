"""Is what was published still what was published? Walks the ledger, every manifest, every file's digest and row count."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.jobs.arguments import Given
from scoring.jobs.workspace import existing
from scoring.ledger.chain import verify as walk
from scoring.respond.manual import clean
from scoring.sinks.publish import Manifest, PublicFile, published
from scoring.stores import Store


@dataclass(frozen=True)
class Verification:
    """`problems` is empty when everything is as it was."""

    partitions: int
    files: int
    rows: int
    entries: int
    problems: tuple[str, ...]


def verify(workspace: str) -> Verification:
    """Raises: ConfigError: nothing ever ran there. StoreError: it cannot be read."""
    store = existing(workspace)
    chain = walk(store)
    problems = [f"ledger: entry {chain.broken} does not follow from the one before"] if chain.broken else []
    files = rows = partitions = 0
    for manifest in published(store):
        partitions += 1
        for file in (*manifest.files, *manifest.quarantine):
            files += 1
            problems += _file(store, file)
        rows += sum(file.rows for file in manifest.files)
        problems += _conserved(manifest)
    return Verification(partitions, files, rows, chain.entries, tuple(problems))


def _conserved(manifest: Manifest) -> list[str]:
    found, counted = sum(f.rows for f in manifest.files), manifest.counts["scored"]
    return [] if found == counted else [f"{manifest.key}: {found} rows in files, {counted} in the manifest"]


def _file(store: Store, file: PublicFile) -> list[str]:
    try:
        data = store.get(file.path)
        found = pq.read_metadata(pa.BufferReader(data)).num_rows
    except (OSError, pa.ArrowException) as error:
        return [f"{file.path}: {str(error).splitlines()[0]}"]
    if hashlib.sha256(data).hexdigest() != file.sha256:
        return [f"{file.path}: its content has changed"]
    return [] if found == file.rows else [f"{file.path}: {found} rows, {file.rows} were published"]


def command(given: Given) -> tuple[Verification, int]:
    found = verify(given.needed("workspace"))
    return found, 65 if found.problems else 0


def render(found: Verification) -> str:
    said = f"{found.partitions} partitions, {found.files} files, {found.rows:,} scores, {found.entries} ledger entries"
    return "\n".join([f"{'intact' if not found.problems else 'NOT intact'}: {said}", *map(clean, found.problems)])
