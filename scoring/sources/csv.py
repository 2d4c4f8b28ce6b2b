"""CSV, plain or compressed. Every value stays text: the contract decides what "12,5" means, not a guess made from the first block.

Quoted values may hold line ends. A line with too few or too many fields is a `Rejected`, the rest is read; so is a line with bytes
that are not in the stated encoding, unless that is most of the lines: then the encoding is another, and the file is refused. A file
is read as if there were no such bytes; once there is one, from the start again with marks in their places: good files pay nothing.
A position counts records after the header; blank lines are no records. A quoted null value is null too, as pandas has it.
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
from scoring.sources import Footer, Rejected, Window, marks
from scoring.sources.guard import translated, unchanged
from scoring.sources.stream import Stream, UndecodableError
from scoring.sources.windows import batch_of, chosen, describe, ignored
from scoring.types import File, Fragment

SUFFIXES = tuple(f"{kind}{packed}" for kind in (".csv", ".tsv") for packed in ("", ".gz", ".zst"))

_BLOCK_BYTES = 4 << 20  # no record may be longer
_HEAD_BYTES = 1 << 16
_ENCODING = "line:encoding"
_Collect = Callable[[arrow_csv.InvalidRow], Literal["skip", "error"]]


def footer(file: File, settings: Source) -> Footer:
    """The header line is all that is read. Raises: SourceError; ConfigError when the settings cannot work."""
    with translated():
        schema = _schema(_names(file.path, settings.csv))
        return Footer(describe(schema), None, schema)


def read(fragment: Fragment, columns: Sequence[str] | None, window_rows: int, settings: Source) -> Iterator[Window]:
    """All rows of the file, every column string.

    Raises:
        SourceError: unreadable, most of it not in the stated encoding, a quote that is never closed, changed since planning.
    """
    with unchanged(fragment):
        names = _names(fragment.path, settings.csv)
        wanted = chosen(names, columns)
        reading, extra = _Reading(fragment, names, wanted, window_rows, settings.csv), ignored(names, wanted)
        try:
            yield from (replace(window, ignored=extra) for window in reading.windows())
        except UndecodableError:
            yield from (replace(window, ignored=extra) for window in reading.windows_with_marks())


class _Reading:
    """One file on its way: `_position` is the place of the next record, all before it were handed out."""

    def __init__(self, fragment: Fragment, names: list[str], wanted: list[str], window_rows: int, form: Csv) -> None:
        self._path, self._names, self._wanted, self._window_rows, self._form = fragment.path, names, wanted, window_rows, form
        self._first = self._position = fragment.first_row

    def windows(self) -> Iterator[Window]:
        """Raises: UndecodableError: after some windows; go on with `windows_with_marks`."""
        rejects: list[Rejected] = []
        with Stream(self._path, self._form.encoding) as stream:
            for batch in _batches(stream, self._names, self._wanted, self._form, rejects):
                for part in self._parts(batch):
                    window = _window(_finished(part, self._wanted, self._form), self._position, rejects)
                    self._position = int(window.positions[-1]) + 1
                    yield window
        if rejects:
            yield self._last(rejects)

    def windows_with_marks(self) -> Iterator[Window]:
        """The records from `_position` on; the file is read from its start.

        Raises:
            SourceError: most lines are not in the encoding.
        """
        rejects: list[Rejected] = []
        position, done, damaged = self._first, self._position, 0
        with Stream(self._path, self._form.encoding, marking=True) as stream:
            for batch in _batches(stream, self._names, self._names, self._form, rejects, marking=True):
                for part in self._parts(batch):
                    whole = _window(_finished(part, self._wanted, self._form, marking=True), position, rejects)
                    position = int(whole.positions[-1]) + 1
                    window = _unmarked(whole, part, self._form)
                    damaged += _damaged(window.rejected)
                    yield _later(window, done)
        damaged += _damaged(rejects)
        total = position - self._first + len(rejects)
        if 2 * damaged > total:
            said = f"the text is not {self._form.encoding}: {damaged:,} of {total:,} lines. Set source.csv.encoding."
            raise SourceError(said)
        if rejects:
            yield _later(self._last(rejects), done)

    def _parts(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        return (batch.slice(start, self._window_rows) for start in range(0, batch.num_rows, self._window_rows))

    def _last(self, rejects: list[Rejected]) -> Window:
        """Lines behind the last row."""
        return Window(pa.RecordBatch.from_pylist([], schema=_schema(self._wanted)), np.empty(0, np.int64), tuple(rejects))


def _batches(
    stream: Stream, names: list[str], wanted: list[str], form: Csv, rejects: list[Rejected], marking: bool = False
) -> Iterator[pa.RecordBatch]:
    """Batches of text without the header. The last is held back until it is known that its last record is whole."""
    last = names[-1]
    reader = arrow_csv.open_csv(
        cast("IO[bytes]", stream),
        read_options=arrow_csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES, column_names=names),
        parse_options=_parsing(form, _collector(rejects, form, marking)),
        convert_options=arrow_csv.ConvertOptions(
            column_types={name: pa.string() for name in names},
            include_columns=list(dict.fromkeys([*wanted, last])),
            strings_can_be_null=not (form.strip or marking),
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


def _collector(rejects: list[Rejected], form: Csv, marking: bool) -> _Collect:
    def collect(row: Any) -> Literal["skip", "error"]:
        damaged = marking and marks.found(row.text)
        text, reason = (marks.restored(row.text), _ENCODING) if damaged else (row.text, "line:fields")
        rejects.append(Rejected(row.number - 1 - int(form.header), text, reason))
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


def _unmarked(window: Window, raw: pa.RecordBatch, form: Csv) -> Window:
    """Rows with a mark in any column of the file leave as lines. `raw` holds the window's rows with all columns of the file."""
    marked = marks.rows(raw)
    if not marked.any():
        return window
    found = np.flatnonzero(marked)
    lines = raw.take(pa.array(found, pa.int64())).to_pydict().values()
    texts = (marks.restored(_line(fields, form)) for fields in zip(*lines, strict=True))
    bad = [Rejected(row, text, _ENCODING) for row, text in zip(window.positions[found].tolist(), texts, strict=True)]
    return Window(*_kept(window, ~marked), tuple(sorted((*window.rejected, *bad), key=lambda line: line.row)))


def _later(window: Window, done: int) -> Window:
    """Without what was handed out before the first mark was met."""
    later = tuple(line for line in window.rejected if line.row >= done)
    return Window(*_kept(window, window.positions >= done), later)


def _kept(window: Window, keep: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[pa.RecordBatch, np.ndarray[Any, np.dtype[np.int64]]]:
    if keep.all():
        return window.batch, window.positions
    columns = [column.filter(pa.array(keep)) for column in window.batch.columns]
    return batch_of(columns, window.batch.schema.names, int(keep.sum())), window.positions[keep]


def _damaged(lines: Sequence[Rejected]) -> int:
    return sum(line.reason == _ENCODING for line in lines)


def _line(fields: Sequence[str], form: Csv) -> str:
    """A record as a line again: its fields as read, quoted where they need it."""
    out = io.StringIO()
    if form.quote:
        csv.writer(out, delimiter=form.delimiter, quotechar=form.quote, lineterminator="\r\n").writerow(fields)
        return out.getvalue()[:-2]
    return form.delimiter.join(fields)


def _finished(batch: pa.RecordBatch, wanted: list[str], form: Csv, marking: bool = False) -> pa.RecordBatch:
    """The wanted columns with their nulls, where Arrow has not found them already."""
    batch = batch.select(wanted)
    if not (form.strip or marking):
        return batch
    nulls = pa.array(form.null_values, pa.string())
    texts = [pc.utf8_trim_whitespace(column) for column in batch.columns] if form.strip else batch.columns
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
    with Stream(path, form.encoding, marking=True) as stream:
        found = _first_record(stream, form)
    if not found:
        raise SourceError("the file is empty: it has no header line")
    if any(marks.found(name) or "\0" in name for name in found):
        raise SourceError(f"the text is not {form.encoding}: its header line is not. Set source.csv.encoding.")
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
