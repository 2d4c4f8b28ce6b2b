"""JSON Lines, plain or compressed: one object to a line, blank lines aside. A line that is no object is a `Rejected`.

Types are found in a first pass over the whole file, so that they do not change with windows: Arrow's and Polars' JSON readers give
up the file at the first value of another type, turn date-like text into timestamps and lose digits of large integers. A column
of mixed types is text: strings as they are, other values as JSON. Both passes go by blocks where the types allow it (`json_blocks`)
and line by line elsewhere: 7 or 35 us per row of 20 columns.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoring.settings import Source
from scoring.sources import Footer, Rejected, Window
from scoring.sources.guard import translated, unchanged
from scoring.sources.json_blocks import Blocks, mentioned, parsed
from scoring.sources.stream import Stream, blocks_of_lines
from scoring.sources.windows import batch_of
from scoring.types import File, Fragment

SUFFIXES = tuple(f"{kind}{packed}" for kind in (".jsonl", ".ndjson") for packed in ("", ".gz", ".zst"))

_EXACT = 1 << 53  # integers up to here are exact as float64
_INT64 = 1 << 63
_KEPT_BYTES = 64 << 20  # a block as columns is not larger than its text, nor are its lines, as a rule

_Piece = pa.RecordBatch | list[bytes]


def footer(file: File, settings: Source) -> Footer:
    """Only that the file opens; types are known after reading, so files do not share a slice. Raises: SourceError."""
    with translated(), Stream(file.path) as stream:
        stream.read(1)
        return Footer(f"json lines of {file.path}", None)


def read(fragment: Fragment, columns: Sequence[str] | None, window_rows: int, settings: Source) -> Iterator[Window]:
    """All rows of the file; a key that a line lacks is null there, a key that no line has is no column.

    Raises:
        SourceError: unreadable, or changed since planning.
    """
    with unchanged(fragment):
        types = _Types(columns)
        with Stream(fragment.path) as stream:
            types.learn(stream)
        position = fragment.first_row
        with Stream(fragment.path) as stream:
            for found in types.pieces(stream):
                good, bad = ({}, []) if isinstance(found, pa.RecordBatch) else _parsed(found, position)
                batch, places = _columns(found, good, types, position)
                position += len(places) + len(bad)
                for start in range(0, max(len(places), bool(bad)), window_rows):
                    rejected = () if start else tuple(bad)
                    yield Window(batch.slice(start, window_rows), places[start : start + window_rows], rejected)


def _columns(
    found: pa.RecordBatch | list[bytes], good: dict[int, dict[str, Any]], types: _Types, position: int
) -> tuple[pa.RecordBatch, np.ndarray[Any, np.dtype[np.int64]]]:
    """Rows as columns, and their places: of a batch they follow each other from `position` on."""
    if isinstance(found, pa.RecordBatch):
        return found, np.arange(position, position + found.num_rows, dtype=np.int64)
    rows = list(good.values())
    columns = [of.array([row.get(name) for row in rows]) for name, of in types.seen.items()]
    return batch_of(columns, list(types.seen), len(rows)), np.fromiter(good, np.int64, len(good))


def _parsed(lines: list[bytes], position: int) -> tuple[dict[int, dict[str, Any]], list[Rejected]]:
    """Objects by position, and the lines that are none."""
    good: dict[int, dict[str, Any]] = {}
    bad: list[Rejected] = []
    for line in lines:
        if not line.strip():
            continue
        try:
            value = _decode(line.decode())
            if b"\\u" in line:
                json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
            if type(value) is dict:
                good[position] = value
            else:
                bad.append(Rejected(position, line.decode(), "line:object"))
        except UnicodeError:
            bad.append(Rejected(position, line.decode(errors="backslashreplace"), "line:encoding"))
        except (ValueError, RecursionError):
            bad.append(Rejected(position, line.decode(), "line:json"))
        position += 1
    return good, bad


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=_constant).decode


class _Type:
    """What has been seen of one key in the whole file."""

    def __init__(self) -> None:
        self.kinds: set[type] = set()
        self.largest = 0

    def see(self, values: list[Any]) -> None:
        self.kinds.update(map(type, values))
        if int in self.kinds:
            self.largest = max([self.largest, *(abs(v) for v in values if type(v) is int)])

    @property
    def arrow(self) -> pa.DataType:
        kinds = self.kinds - {type(None)}
        if not kinds:
            return pa.null()
        if kinds == {bool}:
            return pa.bool_()
        if kinds == {int} and self.largest < _INT64:
            return pa.int64()
        if kinds == {float} or (kinds == {int, float} and self.largest <= _EXACT):
            return pa.float64()
        return pa.string()

    def array(self, values: list[Any]) -> pa.Array[Any]:
        kind = self.arrow
        if kind == pa.string():
            values = [v if v is None or type(v) is str else json.dumps(v, ensure_ascii=False) for v in values]
        return pa.array(values, kind)

    def agrees(self, column: pa.Array[Any]) -> bool:
        """Whether a column that was read as `arrow` adds nothing to what is known, or only larger integers, which are noted.

        From 2^53 on a float64 may have been an integer, with other digits.
        """
        if not pa.types.is_integer(column.type) and not pa.types.is_floating(column.type):
            return True
        span: Any = pc.min_max(column).as_py()
        largest = max(abs(span["min"] or 0), abs(span["max"] or 0))
        if largest >= (_EXACT if pa.types.is_floating(column.type) else _INT64):
            return False
        if pa.types.is_integer(column.type):
            self.largest = max(self.largest, largest)
        return True


class _Types:
    """Types of the wanted keys (None: all), in the order of their first appearance. First `learn`, then read the `pieces`.

    The first blocks are kept as they were learnt from: what no later block contradicts is not parsed twice.
    """

    def __init__(self, wanted: Sequence[str] | None) -> None:
        self.seen: dict[str, _Type] = {}
        self._wanted = None if wanted is None else set(wanted)
        self._kept: deque[list[_Piece]] = deque()

    def learn(self, stream: Stream) -> None:
        blocks, room = Blocks(self._agreed), _KEPT_BYTES
        for block in blocks_of_lines(stream):
            pieces = []
            for found in blocks.read(block):
                if not isinstance(found, pa.RecordBatch):
                    self._see(list(_parsed(found, 0)[0].values()))
                pieces.append(found)
            room -= 2 * len(block)
            if room > 0:
                self._kept.append(pieces)

    def pieces(self, stream: Stream) -> Iterator[_Piece]:
        """The same file again, in the types of all of it: batches, or lines where those do not fit."""
        blocks = Blocks(self._parse)
        final = pa.schema([(name, of.arrow) for name, of in self.seen.items()])
        for block in blocks_of_lines(stream):
            known = self._kept.popleft() if self._kept else None
            stands = known is not None and all(p.schema == final for p in known if isinstance(p, pa.RecordBatch))
            yield from known if known is not None and stands else blocks.read(block)

    def _parse(self, text: bytes, lines: int) -> pa.RecordBatch | None:
        """Objects, one to a line, in the types that are known; None if they are of others."""
        return parsed(text, lines, {name: of.arrow for name, of in self.seen.items()}, self._wanted is not None)

    def _agreed(self, text: bytes, lines: int) -> pa.RecordBatch | None:
        """The same, and None also for what may say something new."""
        if mentioned([name for name in self._wanted or () if name not in self.seen], text):
            return None
        batch = self._parse(text, lines)
        agreed = batch is not None and all(of.agrees(batch.column(name)) for name, of in self.seen.items())
        return batch if agreed else None

    def _see(self, rows: list[dict[str, Any]]) -> None:
        for name in dict.fromkeys(name for row in rows for name in row):
            if self._wanted is None or name in self._wanted:
                self.seen.setdefault(name, _Type()).see([row.get(name) for row in rows])
