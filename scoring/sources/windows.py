"""From whatever a reader yields to windows: columns chosen, extension types resolved, values validated, positions attached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa

from scoring.errors import SourceError
from scoring.sources import Window
from scoring.types import Fragment

_VIEWS = ((pa.string_view(), pa.large_string()), (pa.binary_view(), pa.large_binary()))
_BYTES = ((pa.string(), pa.binary()), (pa.large_string(), pa.large_binary()), (pa.string_view(), pa.binary_view()))


def describe(schema: pa.Schema) -> str:
    """The physical schema as text, metadata left out. Files of one slice have the same.

    Raises:
        SourceError: two columns have one name, so that a name does not say which is meant.
    """
    count = Counter(schema.names)
    twice = [str(place) for place, name in enumerate(schema.names, start=1) if count[name] > 1]
    if twice:  # where, not which: the header line of a file without one is a row of data
        raise SourceError(f"duplicate column names: columns {', '.join(twice[:6])}")
    return str(schema.to_string(show_field_metadata=False, show_schema_metadata=False))


def chosen(names: Sequence[str], columns: Sequence[str] | None) -> list[str]:
    """The wanted columns that the file has, in the file's order."""
    return list(names) if columns is None else [name for name in names if name in set(columns)]


def ignored(names: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """The columns that a file has and nobody asked for."""
    return tuple(sorted({*names} - {*wanted}))


def windows(
    batches: Iterable[pa.RecordBatch],
    names: list[str],
    window_rows: int,
    fragment: Fragment,
    extra: tuple[str, ...] = (),
    judged: Collection[str] = (),
) -> Iterator[Window]:
    """Cut batches to at most `window_rows` rows; empty ones are left out.

    Every value is validated (`validate(full=True)`) before it leaves: unvalidated foreign Arrow memory segfaults later. Texts that
    are not UTF-8 (no reader of Parquet or Arrow looks) come as the bytes that they are in columns that are `judged` row by row.

    Raises:
        SourceError: fewer or more rows than the footer promised.
    """
    position = fragment.first_row
    for batch in batches:
        batch = plain(batch.select(names), judged)
        for start in range(0, batch.num_rows, window_rows):
            part = batch.slice(start, window_rows)
            yield Window(part, np.arange(position, position + part.num_rows, dtype=np.int64), ignored=extra)
            position += part.num_rows
    found = position - fragment.first_row
    if fragment.rows is not None and found != fragment.rows:
        raise SourceError(f"the footer promises {fragment.rows} rows, {found} were found")


def plain(batch: pa.RecordBatch, judged: Collection[str] = ()) -> pa.RecordBatch:
    """Validate all values and bring columns to `stored` types; texts that are not UTF-8 are replaced by their bytes if `judged`."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        batch = _with_bytes(batch, judged, error)
    if all(stored(kind) == kind for kind in batch.schema.types):
        return batch
    return pa.RecordBatch.from_arrays([_stored(c) for c in batch.columns], names=batch.schema.names)


def stored(kind: pa.DataType) -> pa.DataType:
    """As the rows are read: of an extension type the storage, of a view (as Polars writes texts) the values one behind the other,
    because Arrow can neither take nor select rows of a view.
    """
    if isinstance(kind, pa.BaseExtensionType):
        return stored(kind.storage_type)
    return next((plain for view, plain in _VIEWS if kind == view), kind)


def _stored(column: pa.Array[Any]) -> pa.Array[Any]:
    if isinstance(column, pa.ExtensionArray):
        return _stored(column.storage)
    return column.cast(cast(Any, kind)) if (kind := stored(column.type)) != column.type else column


def judged_only(columns: Sequence[str] | None, carry: Collection[str]) -> Collection[str]:
    """Of the wanted columns those that are declared and not carried: what is carried must keep its type from file to file."""
    return () if columns is None else {*columns} - {*carry}


def _with_bytes(batch: pa.RecordBatch, judged: Collection[str], error: pa.ArrowInvalid) -> pa.RecordBatch:
    """Raises: pa.ArrowInvalid: `error`, if texts that are not UTF-8 are not all that is wrong."""
    columns = [_bytes(c) if name in judged else c for name, c in zip(batch.schema.names, batch.columns, strict=True)]
    found = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    try:
        found.validate(full=True)
    except pa.ArrowInvalid:
        raise error from None
    return found


def _bytes(column: pa.Array[Any]) -> pa.Array[Any]:
    """The bytes of a column of texts that does not validate; any other column as it is."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        if isinstance(column, pa.DictionaryArray):
            return pa.DictionaryArray.from_arrays(column.indices, _bytes(column.dictionary), safe=False)
        kind = next((bytes_ for text, bytes_ in _BYTES if column.type == text), None)
        return column if kind is None else column.view(cast(Any, kind))
    return column


def batch_of(columns: Sequence[pa.Array[Any]], names: list[str], rows: int) -> pa.RecordBatch:
    """A batch that keeps its number of rows even without columns."""
    if columns:
        return pa.RecordBatch.from_arrays(list(columns), names=names)
    return pa.RecordBatch.from_arrays([pa.nulls(rows)], names=[""]).select([])
