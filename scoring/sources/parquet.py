"""Parquet, read by row groups in windows; memory does not depend on the size of a file or of a row group.

Column chunks are streamed through a buffer of 256 KiB each: peak memory for one row group of 256 MB fell from 284 to 26 MB and CPU
time did not change. Page checksums are verified where the writer wrote them (some 30 ms per 85 MB); without them most flipped bits
give silently wrong values. Polars reads twice as fast but panics, and aborts the process, on files that raise here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.errors import SourceError
from scoring.settings import Source
from scoring.sources import Footer, Window
from scoring.sources.guard import translated, unchanged
from scoring.sources.windows import chosen, describe, windows
from scoring.types import File, Fragment

SUFFIXES = (".parquet", ".parq", ".pq")

_BUFFER_BYTES = 256 * 1024
_DICTIONARY_SHARE = 0.25  # of a chunk: a larger dictionary page means that most values are distinct


def footer(file: File, settings: Source) -> Footer:
    """Raises: SourceError."""
    with translated():
        meta = pq.read_metadata(file.path)
        groups = tuple(meta.row_group(g).num_rows for g in range(meta.num_row_groups))
        if min(groups, default=0) < 0 or sum(groups) != meta.num_rows:
            raise SourceError(f"the footer contradicts itself: {meta.num_rows} rows in all, {sum(groups)} in row groups")
        return Footer(describe(meta.schema.to_arrow_schema()), groups)


def read(fragment: Fragment, columns: Sequence[str] | None, window_rows: int, settings: Source) -> Iterator[Window]:
    """Rows of the fragment's row groups. String columns that are dictionary encoded in the file come as dictionaries, so that
    looking up a category costs once per distinct value; columns to carry come as they are.

    Raises:
        SourceError: unreadable, damaged, changed since planning, or other rows than promised.
    """
    with unchanged(fragment):
        meta = pq.read_metadata(fragment.path)
        schema = meta.schema.to_arrow_schema()
        names = chosen(schema.names, columns)
        groups = range(*(fragment.groups or (0, meta.num_row_groups)))
        with pq.ParquetFile(
            fragment.path,
            metadata=meta,
            read_dictionary=_dictionaries(meta, schema, groups, set(names) - set(settings.carry)),
            pre_buffer=False,
            buffer_size=_BUFFER_BYTES,
            page_checksum_verification=True,
        ) as file:
            threads = pa.cpu_count() > 1  # a lane sets Arrow's threads to its CPU share
            batches = file.iter_batches(window_rows, row_groups=list(groups), columns=names, use_threads=threads)
            yield from windows(batches, names, window_rows, fragment)


def _dictionaries(meta: pq.FileMetaData, schema: pa.Schema, groups: range, names: set[str]) -> list[str]:
    strings = {name for name in names if pa.types.is_string(schema.field(name).type)}
    if not strings or not groups:
        return []
    first = meta.row_group(groups[0])
    chunks = [first.column(i) for i in range(first.num_columns)]
    return [chunk.path_in_schema for chunk in chunks if chunk.path_in_schema in strings and _few_values(chunk)]


def _few_values(chunk: pq.ColumnChunkMetaData) -> bool:
    if not chunk.has_dictionary_page or chunk.dictionary_page_offset is None:
        return False
    return bool(chunk.data_page_offset - chunk.dictionary_page_offset < _DICTIONARY_SHARE * chunk.total_compressed_size)
