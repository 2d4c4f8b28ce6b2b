"""From whatever a reader yields to windows: columns chosen, extension types resolved, values validated, positions attached."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from scoring.errors import SourceError
from scoring.sources import Window
from scoring.types import Fragment


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
    batches: Iterable[pa.RecordBatch], names: list[str], window_rows: int, fragment: Fragment, extra: tuple[str, ...] = ()
) -> Iterator[Window]:
    """Cut batches to at most `window_rows` rows; empty ones are left out.

    Every value is validated (`validate(full=True)`) before it leaves: unvalidated foreign Arrow memory segfaults later.

    Raises:
        SourceError: fewer or more rows than the footer promised.
    """
    position = fragment.first_row
    for batch in batches:
        batch = plain(batch.select(names))
        for start in range(0, batch.num_rows, window_rows):
            part = batch.slice(start, window_rows)
            yield Window(part, np.arange(position, position + part.num_rows, dtype=np.int64), ignored=extra)
            position += part.num_rows
    found = position - fragment.first_row
    if fragment.rows is not None and found != fragment.rows:
        raise SourceError(f"the footer promises {fragment.rows} rows, {found} were found")


def plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Validate all values and replace extension types by their storage."""
    batch.validate(full=True)
    if not any(isinstance(kind, pa.BaseExtensionType) for kind in batch.schema.types):
        return batch
    columns = [c.storage if isinstance(c, pa.ExtensionArray) else c for c in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def batch_of(columns: Sequence[pa.Array[Any]], names: list[str], rows: int) -> pa.RecordBatch:
    """A batch that keeps its number of rows even without columns."""
    if columns:
        return pa.RecordBatch.from_arrays(list(columns), names=names)
    return pa.RecordBatch.from_arrays([pa.nulls(rows)], names=[""]).select([])
