"""CSV, plain or compressed. Every value stays text: the contract decides what "12,5" means, not a guess made from the first block.

Quoted values may hold line ends. A line with too few or too many fields is a `Rejected`, the rest is read. A position counts
records after the header; blank lines are no records. A quoted null value is null too, as pandas has it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import IO, Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from scoring.errors import ConfigError, SourceError
from scoring.settings import Csv, Source
from scoring.sources import Footer, Rejected, Window
from scoring.sources.guard import translated, unchanged
from scoring.sources.stream import Stream
from scoring.sources.windows import chosen, describe, ignored
from scoring.types import File, Fragment

SUFFIXES = tuple(f"{kind}{packed}" for kind in (".csv", ".tsv") for packed in ("", ".gz", ".zst"))

_BLOCK_BYTES = 4 << 20  # no record may be longer
_HEAD_BYTES = 1 << 16
_Collect = Callable[[arrow_csv.InvalidRow], Literal["skip", "error"]]


def footer(file: File, settings: Source) -> Footer:
    """The header line is all that is read. Raises: SourceError; ConfigError when the settings cannot work."""
    with translated():
        return Footer(describe(_schema(_names(file.path, settings.csv))), None)


def read(fragment: Fragment, columns: Sequence[str] | None, window_rows: int, settings: Source) -> Iterator[Window]:
    """All rows of the file, every column string.

    Raises:
        SourceError: unreadable, not in the stated encoding, a quote that is never closed, changed since planning.
    """
    form = settings.csv
    with unchanged(fragment), Stream(fragment.path, form.encoding) as stream:
        names = _names(fragment.path, form)
        wanted = chosen(names, columns)
        extra = ignored(names, wanted)
        rejects: list[Rejected] = []
        position = fragment.first_row
        for batch in _batches(stream, names, wanted, form, rejects):
            for start in range(0, batch.num_rows, window_rows):
                window = _window(_finished(batch.slice(start, window_rows), wanted, form), position, rejects)
                position = int(window.positions[-1]) + 1
                yield replace(window, ignored=extra)
        if rejects:
            nothing = pa.RecordBatch.from_pylist([], schema=_schema(wanted))
            yield Window(nothing, np.empty(0, np.int64), tuple(rejects))


def _batches(stream: Stream, names: list[str], wanted: list[str], form: Csv, rejects: list[Rejected]) -> Iterator[pa.RecordBatch]:
    """Batches of text without the header. The last is held back until it is known that its last record is whole."""
    last = names[-1]
    reader = arrow_csv.open_csv(
        cast("IO[bytes]", stream),
        read_options=arrow_csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES, column_names=names),
        parse_options=_parsing(form, _collector(rejects, form)),
        convert_options=arrow_csv.ConvertOptions(
            column_types={name: pa.string() for name in names},
            include_columns=list(dict.fromkeys([*wanted, last])),
            strings_can_be_null=not form.strip,
            null_values=list(form.null_values),
        ),
    )
    held: pa.RecordBatch | None = None
    ends: pa.Array[Any] | None = None
    for batch in reader:
        ends = batch.column(last)
        if held is not None:
            yield held
        else:
            _refuse_other_header(rejects, names)
            batch = batch.slice(int(form.header))
        held = batch
    _refuse_other_header(rejects, names)
    _refuse_open_quote(ends, rejects, stream, form)
    if held is not None:
        yield held


def _parsing(form: Csv, collect: _Collect) -> arrow_csv.ParseOptions:
    return arrow_csv.ParseOptions(
        delimiter=form.delimiter, quote_char=form.quote or False, newlines_in_values=True, invalid_row_handler=collect
    )


def _collector(rejects: list[Rejected], form: Csv) -> _Collect:
    def collect(row: Any) -> Literal["skip", "error"]:
        rejects.append(Rejected(row.number - 1 - int(form.header), row.text, "line:fields"))
        return "skip"

    return collect


def _window(batch: pa.RecordBatch, position: int, rejects: list[Rejected]) -> Window:
    """Number the rows from `position` on, leaving out the places of rejected lines, which go with them."""
    gaps = np.array([r.row for r in rejects], np.int64) - position - np.arange(len(rejects))
    index = np.arange(batch.num_rows, dtype=np.int64)
    positions = position + index + np.searchsorted(gaps, index, side="right")
    mine = [r for r in rejects if r.row < positions[-1]]
    del rejects[: len(mine)]
    return Window(batch, positions, tuple(mine))


def _finished(batch: pa.RecordBatch, wanted: list[str], form: Csv) -> pa.RecordBatch:
    batch = batch.select(wanted)
    if not form.strip:
        return batch
    nulls = pa.array(form.null_values, pa.string())
    texts = [pc.utf8_trim_whitespace(column) for column in batch.columns]
    columns = [pc.if_else(pc.is_in(text, nulls), pa.scalar(None, pa.string()), text) for text in texts]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema) if columns else batch


def _names(path: str, form: Csv) -> list[str]:
    for name, value, empty in (("delimiter", form.delimiter, False), ("quote", form.quote, True)):
        if not (len(value) == 1 and value.isascii()) and not (empty and value == ""):
            raise ConfigError(f"source.csv.{name} must be one ASCII character, not {value!r}.")
    if form.names:
        return list(form.names)
    if not form.header:
        raise ConfigError("source.csv.header is false, so nothing names the columns. Set source.csv.names.")
    with Stream(path, form.encoding) as stream:
        found = _first_record(stream, form)
    if not found:
        raise SourceError("the file is empty: it has no header line")
    return [name.strip() for name in found] if form.strip else found


def _first_record(stream: Stream, form: Csv) -> list[str] | None:
    """It is whole when a second one follows or the file ends."""
    head = b""
    while len(head) < _BLOCK_BYTES:
        data = stream.read(_HEAD_BYTES)
        head += data
        records = filter(None, _records(head.decode("utf-8-sig", "replace"), form))
        found = next(records, None)
        if not data or (found and next(records, None)):
            return found
    raise SourceError(f"no end of the header line in the first {_BLOCK_BYTES >> 20} MiB")


def _records(text: str, form: Csv) -> Iterator[list[str]]:
    lines = io.StringIO(text, newline="")
    if not form.quote:
        return csv.reader(lines, delimiter=form.delimiter, quotechar=None, quoting=csv.QUOTE_NONE)
    return csv.reader(lines, delimiter=form.delimiter, quotechar=form.quote)


def _schema(names: list[str]) -> pa.Schema:
    return pa.schema([(name, pa.string()) for name in names])


def _refuse_other_header(rejects: list[Rejected], names: list[str]) -> None:
    if any(line.row < 0 for line in rejects):
        raise SourceError(f"the header line has not the {len(names)} fields of source.csv.names")


def _refuse_open_quote(column: pa.Array[Any] | None, rejects: list[Rejected], stream: Stream, form: Csv) -> None:
    """A quote that is never closed swallows all that follows as one value: rows would be lost without a word."""
    if not form.quote or stream.last == form.quote.encode():
        return
    value = column[-1].as_py() if column is not None and len(column) else None
    odd = bool(rejects) and "\n" in rejects[-1].text and rejects[-1].text.count(form.quote) % 2 == 1
    if odd or (value is not None and "\n" in value):
        raise SourceError("a quote in the last record is never closed: records after it cannot be told apart")
