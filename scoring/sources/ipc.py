"""Arrow IPC: the file format (also called Feather version 2) by record batches, and the stream format as one fragment.

Files are read, never mapped: a mapped file that is truncated kills the process with SIGBUS. Every batch is fully validated before
a value is touched: without, one in six damaged files segfaulted the reader.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

from scoring.errors import SourceError
from scoring.settings import Source
from scoring.sources import Footer, Window
from scoring.sources.guard import translated, unchanged
from scoring.sources.ipc_lengths import lengths
from scoring.sources.windows import chosen, describe, ignored, judged_only, windows
from scoring.types import File, Fragment

SUFFIXES = (".arrow", ".arrows", ".feather", ".ipc")

_FILE_MAGIC = b"ARROW1"
_FEATHER_1_MAGIC = b"FEA1"
_Opened = tuple[pa.Schema, Iterator[pa.RecordBatch]]


def footer(file: File, settings: Source) -> Footer:
    """Raises: SourceError."""
    with translated(), pa.OSFile(file.path, "rb") as source:
        if not _is_file(source):
            with pa.ipc.open_stream(source) as stream:
                return Footer(describe(stream.schema), None, stream.schema)
        with pa.ipc.open_file(source) as whole:
            schema, count = whole.schema, whole.num_record_batches
            groups = lengths(source, count)
        return Footer(describe(schema), groups, schema)


def read(fragment: Fragment, columns: Sequence[str] | None, window_rows: int, settings: Source) -> Iterator[Window]:
    """Rows of the fragment's record batches, or of the whole stream. A batch is held whole: its writer chose its size.

    Raises:
        SourceError: unreadable, damaged, changed since planning, or other rows than promised.
    """
    with unchanged(fragment), pa.OSFile(fragment.path, "rb") as source:
        opener = _file_batches if _is_file(source) else _stream_batches
        schema = opener(source, None, fragment)[0]
        describe(schema)
        names = chosen(schema.names, columns)
        source.seek(0)
        batches = opener(source, [schema.get_field_index(name) for name in names], fragment)[1]
        extra, judged = ignored(schema.names, names), judged_only(columns, settings.carry)
        yield from windows(batches, names, window_rows, fragment, extra, judged)


def _file_batches(source: pa.NativeFile, fields: list[int] | None, fragment: Fragment) -> _Opened:
    reader = pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=fields))
    groups = range(*(fragment.groups or (0, reader.num_record_batches)))
    return reader.schema, (reader.get_batch(i) for i in groups)


def _stream_batches(source: pa.NativeFile, fields: list[int] | None, fragment: Fragment) -> _Opened:
    reader = pa.ipc.open_stream(source, options=pa.ipc.IpcReadOptions(included_fields=fields))
    return reader.schema, iter(reader)


def _is_file(source: pa.NativeFile) -> bool:
    start = source.read(8)
    source.seek(0)
    if start.startswith(_FEATHER_1_MAGIC):
        raise SourceError("Feather version 1 is not supported: write it again as Arrow IPC (Feather version 2)")
    return bool(start.startswith(_FILE_MAGIC))
