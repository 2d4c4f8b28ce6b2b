"""The first rows of a fragment as a file of its own, of the same kind, for looks at data that may not take long.

A row group, a record batch or a text file is the least that is read whole; where that is too much, its beginning is copied.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.settings import Source
from scoring.sources.guard import translated, version
from scoring.sources.stream import Stream
from scoring.types import Fragment, digest

_CHUNK_BYTES = 1 << 20


def head(fragment: Fragment, rows: int, source: Source, folder: Path) -> Fragment:
    """The first `rows` rows, or all if there are fewer, in a file in `folder`, which is made once and found again.

    Of CSV, a line that ends within quotes is no end of a row. Compressed text comes out plain; text of two bytes to a character is
    not cut: the fragment comes back as it is.

    Raises:
        SourceError: it cannot be read.
    """
    if source.kind == "csv" and source.csv.encoding.lower().startswith(("utf-16", "utf16", "utf-32", "utf32")):
        return fragment
    suffix = {"csv": ".csv", "jsonl": ".jsonl", "parquet": ".parquet"}.get(source.kind, ".arrow")
    path = folder / f"{digest([fragment.identity, rows])[:24]}{suffix}"
    with translated():
        if source.kind in ("csv", "jsonl"):
            count = None
            if not path.exists():
                _write_text(fragment, rows, source, path)
        else:
            count = _write_rows(fragment, rows, source.kind, path)
    status = os.stat(path)
    return Fragment(str(path), version(status), None if count is None else (0, 1), 0, count, status.st_size)


def _write_rows(fragment: Fragment, rows: int, kind: str, path: Path) -> int:
    schema, batches = _parquet(fragment) if kind == "parquet" else _ipc(fragment)
    found: list[pa.RecordBatch] = []
    for batch in batches:
        found.append(batch.slice(0, rows - sum(b.num_rows for b in found)))
        if sum(b.num_rows for b in found) >= rows:
            break
    table = pa.Table.from_batches(found, schema).combine_chunks()
    if not path.exists() and kind == "parquet":
        pq.write_table(table, path, row_group_size=max(1, table.num_rows), write_page_checksum=True)
    elif not path.exists():
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            writer.write_table(table, max(1, table.num_rows))
    return table.num_rows


def _parquet(fragment: Fragment) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    file = pq.ParquetFile(fragment.path)
    groups = range(*(fragment.groups or (0, file.num_row_groups)))
    return file.schema_arrow, file.iter_batches(65_536, row_groups=list(groups))


def _ipc(fragment: Fragment) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    if fragment.groups is None:
        stream = pa.ipc.open_stream(pa.OSFile(fragment.path, "rb"))
        return stream.schema, iter(stream)
    file = pa.ipc.open_file(pa.OSFile(fragment.path, "rb"))
    return file.schema, (file.get_batch(n) for n in range(*fragment.groups))


def _write_text(fragment: Fragment, rows: int, source: Source, path: Path) -> None:
    """Lines as they are, to the end of a row; the header of a CSV file is one more."""
    quote = source.csv.quote.encode() if source.kind == "csv" else b""
    wanted = rows + (source.kind == "csv" and source.csv.header)
    lines, quotes = 0, 0
    with Stream(fragment.path) as stream, open(path, "wb") as out:
        for line in _lines(stream):
            out.write(line)
            quotes += line.count(quote) if quote else 0
            lines += quotes % 2 == 0
            if lines >= wanted:
                return


def _lines(stream: Stream) -> Iterator[bytes]:
    """With their ends; the last may have none."""
    rest = b""
    while chunk := stream.read(_CHUNK_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in whole)
    if rest:
        yield rest
