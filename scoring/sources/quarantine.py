"""Rows that were quarantined, read back from the workspace as they were read from their source: to be judged again (requeue).

No kind that a job can name: `path` of the settings is the workspace, fragments are quarantine files in it. Rows come in input
order, with the file and the place that they came from first. A file is streamed where it lies in that order; where not (rows that
failed while they were scored stand before those that were not admitted), it is read whole: it holds the bad rows of one slice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scoring.settings import Source
from scoring.sources import Footer, Window
from scoring.sources.guard import translated
from scoring.sources.windows import describe, plain
from scoring.stores import open_store
from scoring.types import MARKS, File, Fragment

SUFFIXES = (".parquet",)
_ORDER = ["_source_file", "_row"]


def footer(file: File, settings: Source) -> Footer:
    """One group, however many the file has: it is never cut, so that its rows can be put in order. Raises: SourceError."""
    with translated(), _opened(file.path, settings) as found:
        return Footer(describe(found.schema_arrow), (found.metadata.num_rows,))


def raw_names(schema: pa.Schema, declared: Sequence[str]) -> list[str]:
    """The columns that are not ours, by the names that they had: one with the name of a mark got a "_" behind it."""
    names = schema.names[: -len(MARKS)]
    return [name[:-1] if name[:-1] in MARKS and name not in declared else name for name in names]


def read(fragment: Fragment, columns: Sequence[str] | None, window_rows: int, settings: Source) -> Iterator[Window]:
    """All raw columns, whatever `columns` says: what is still bad goes back unchanged. Raises: SourceError."""
    with translated(), _opened(fragment.path, settings) as found:
        order = _order(found.read(_ORDER))
        names = raw_names(found.schema_arrow, columns or ())
        if order is None:
            batches: Iterator[pa.RecordBatch] = found.iter_batches(window_rows)
        else:
            batches = iter(found.read().take(pa.array(order)).combine_chunks().to_batches(window_rows))
        for batch in batches:
            yield _window(batch, names)


def _window(batch: pa.RecordBatch, names: list[str]) -> Window:
    raw = pa.RecordBatch.from_arrays(batch.columns[: len(names)], names=names)
    positions: np.ndarray[Any, np.dtype[np.int64]] = batch.column("_row").to_numpy(zero_copy_only=False)
    origins: pa.StringArray = batch.column("_source_file")  # type: ignore[assignment]
    return Window(plain(raw), positions, (), origins)


def _order(marks: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """Input order: files by path, as they are planned, and rows by place. None where rows stand so already."""
    files = marks["_source_file"].combine_chunks().dictionary_encode()
    known = files.dictionary.to_pylist()
    rank = np.empty(len(known), np.int64)
    rank[sorted(range(len(known)), key=lambda n: str(known[n]))] = np.arange(len(known))
    by_file, rows = rank[files.indices.to_numpy()], marks["_row"].to_numpy()
    order = np.lexsort((rows, by_file))
    return None if (order == np.arange(len(order))).all() else order


def _opened(key: str, settings: Source) -> pq.ParquetFile:
    file = open_store(settings.path).open_file(key)
    return pq.ParquetFile(file, page_checksum_verification=True)
