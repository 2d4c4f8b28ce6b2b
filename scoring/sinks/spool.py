"""One Parquet file in the making: row groups are written as they fill, and the file is complete only after `close`.

pyarrow publishes a valid, shorter file when an error closes its writer; a spool has a name that nobody reads, so that is harmless.
Numbers are written plain (a dictionary of scores or ids is thrown away at its size limit, after it was paid for); text with a
dictionary, and vectors of int8, which Parquet would write in four bytes a number; page checksums always.
"""

from __future__ import annotations

import base64
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scoring.errors import ConfigError
from scoring.settings import Sink

GROUP_BYTES = 256 << 20  # a row group is written out at this size even if it has not its rows: text can be long


class Spool:
    """`plain` names columns that come as dictionaries (cheap to write) and must read back as the strings that they are."""

    def __init__(self, path: Path, sink: Sink, plain: tuple[str, ...] = ()) -> None:
        self.rows = 0
        self._path, self._sink, self._plain = path, sink, plain
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.RecordBatch] = []
        self._buffered = self._bytes = 0

    @property
    def open(self) -> bool:
        return self._writer is not None

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows. Raises: OSError; ConfigError: a column of a type that Parquet does not have."""
        if self._writer is None:
            self._writer = self._begin(batch.schema)
        self._waiting.append(batch)
        self.rows += batch.num_rows
        self._buffered += batch.num_rows
        self._bytes += batch.nbytes
        if self._buffered >= self._sink.row_group_rows or self._bytes >= GROUP_BYTES:
            self.flush()

    def close(self, metadata: dict[str, str]) -> Path:
        """Finish the file. Raises: OSError."""
        if self._writer is None:
            raise AssertionError("A spool without a batch has no schema. This is a bug.")
        self.flush()
        self._writer.add_key_value_metadata(metadata)
        self._writer.close()
        return self._path

    def discard(self) -> None:
        """Remove the file, whatever state it is in."""
        self._waiting.clear()
        if self._writer is not None and self._writer.is_open:
            with suppress(OSError, pa.ArrowException):  # closing writes a footer, and the disk may be full
                self._writer.close()
        self._path.unlink(missing_ok=True)

    def flush(self) -> None:
        """Write what is buffered as a row group. Raises: OSError."""
        if self._writer is not None and self._buffered:
            self._writer.write_table(pa.Table.from_batches(self._waiting, self._waiting[0].schema), row_group_size=self._buffered)
        self._waiting.clear()
        self._buffered = self._bytes = 0

    def _begin(self, schema: pa.Schema) -> pq.ParquetWriter:
        shown = pa.schema([f.with_type(pa.string()) if f.name in self._plain else f for f in schema])
        coded = [f.name for f in schema if _is_text(f.type)]
        coded += [
            f"{f.name}.list.element" for f in schema if pa.types.is_fixed_size_list(f.type) and f.type.value_type == pa.int8()
        ]
        try:
            writer = pq.ParquetWriter(
                self._path,
                schema,
                compression=self._sink.compression,
                use_dictionary=coded or False,  # type: ignore[arg-type]  # the stub knows no list of columns
                write_page_checksum=True,
                store_schema=False,
            )
        except pa.ArrowNotImplementedError as error:
            raise ConfigError(f"A column cannot be stored in Parquet: {error}") from None
        # What readers restore (time zones, large strings, dictionaries) is told by this key; ours leaves the constants plain.
        writer.add_key_value_metadata({"ARROW:schema": base64.b64encode(shown.serialize().to_pybytes()).decode()})
        return writer


def storable(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows; columns of types that Parquet does not have (unions, intervals, empty structs) become text."""
    columns = [c if _fits(c.type) else _as_text(c) for c in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names) if columns else batch


def _as_text(column: pa.Array[Any]) -> pa.Array[Any]:
    return pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())


@lru_cache(maxsize=1024)
def _fits(kind: pa.DataType) -> bool:
    try:
        pq.ParquetWriter(pa.BufferOutputStream(), pa.schema([("c", kind)])).close()
    except pa.ArrowNotImplementedError:
        return False
    return True


def _is_text(kind: pa.DataType) -> bool:
    texts = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_string_view, pa.types.is_dictionary)
    return any(is_text(kind) for is_text in texts)
