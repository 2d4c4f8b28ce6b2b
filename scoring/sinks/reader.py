"""Read what was published, through the manifests: each partition in its newest version, whole, whatever runs meanwhile."""

from __future__ import annotations

from urllib.parse import unquote

import polars as pl

from scoring.errors import SourceError
from scoring.sinks.publish import Manifest, PublicFile, published
from scoring.stores import Store, open_store


def read_scores(workspace: str) -> pl.LazyFrame:
    """All published scores, partitions in the order of their keys, rows in input order; Hive keys become string columns.

    Raises:
        SourceError: nothing has been published there.
    """
    store = open_store(workspace)
    found = [manifest for manifest in published(store) if manifest.files]
    if not found:
        raise SourceError(f"Nothing has been published in {workspace}.")
    full = [manifest for manifest in found if manifest.counts["scored"]] or found[:1]  # empty ones may not know all columns
    return pl.concat([_partition(store, manifest) for manifest in full], how="diagonal_relaxed")


def _partition(store: Store, manifest: Manifest) -> pl.LazyFrame:
    files = [file for file in manifest.files if file.rows] or manifest.files[:1]
    frame = pl.concat([pl.scan_parquet(_place(store, file)) for file in files], how="diagonal_relaxed")
    pairs = [part.partition("=") for part in manifest.key.split("/") if "=" in part]
    known = pl.scan_parquet(_place(store, files[0])).collect_schema()  # a key that is carried too stays as it was carried
    return frame.with_columns(pl.lit(unquote(value)).alias(unquote(name)) for name, _, value in pairs if unquote(name) not in known)


def _place(store: Store, file: PublicFile) -> str:
    """The staged original never changes; a public name may be exchanged while it is being read."""
    return store.open_path(file.staged if store.exists(file.staged) else file.path)
