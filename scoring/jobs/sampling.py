"""Rows of a dataset without a job: all of them, or a bounded sample of its files. For verbs that look at data and score nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from scoring.errors import SourceError
from scoring.jobs.arguments import Given
from scoring.parts import part
from scoring.settings import Source, build
from scoring.sources.discover import discover
from scoring.types import File, Fragment

MOST_FILES = 32


def source_of(given: Given) -> Source:
    """Raises: UsageError: no path was said. ConfigError: it cannot be read."""
    return build(Source, {"kind": given.get("source") or "parquet", "path": given.needed("path")}, "source")


def sample(source: Source, rows: int) -> tuple[list[pa.RecordBatch], int, int]:
    """(windows of one schema each, files read, files there are): the first rows of up to 32 files, evenly spread over their order.

    Raises: SourceError: nothing could be read.
    """
    kind = part("sources", source.kind)
    files = [file for partition in discover(source, kind.SUFFIXES).partitions for file in partition.files]
    count = min(len(files), MOST_FILES)
    chosen = [files[n * len(files) // count] for n in range(count)]
    found: list[pa.RecordBatch] = []
    read, last = 0, ""
    for file in chosen:
        try:
            found += _first(source, file, -(-rows // count))
            read += 1
        except SourceError as error:
            last = f"{file.path}: {error}"
    if not read:
        raise SourceError(f"nothing could be read; {last}")
    return found, read, len(files)


def _first(source: Source, file: File, rows: int) -> Iterator[pa.RecordBatch]:
    kind = part("sources", source.kind)
    groups = kind.footer(file, source).groups
    left = rows
    for n, expected in enumerate(groups) if groups is not None else [(None, None)]:
        span = None if n is None else (n, n + 1)
        for window in kind.read(Fragment(file.path, file.version, span, 0, expected, file.size), None, 65_536, source):
            yield window.batch.slice(0, left)
            left -= window.batch.num_rows
            if left <= 0:
                return
