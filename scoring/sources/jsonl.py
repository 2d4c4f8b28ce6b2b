"""JSON Lines, plain or compressed: one object to a line, blank lines aside. A line that is no object is a `Rejected`.

Types are found in a first pass over the whole file, so that they do not change with windows: Arrow's and Polars' JSON readers give
up the file at the first value of another type, turn date-like text into timestamps and lose digits of large integers. A column
of mixed types is text: strings as they are, other values as JSON. Costs some 35 us per row of 20 columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from scoring.settings import Source
from scoring.sources import Footer, Rejected, Window
from scoring.sources.guard import translated, unchanged
from scoring.sources.stream import Stream, chunks_of_lines
from scoring.sources.windows import batch_of
from scoring.types import File, Fragment

SUFFIXES = tuple(f"{kind}{packed}" for kind in (".jsonl", ".ndjson") for packed in ("", ".gz", ".zst"))

_EXACT = 1 << 53  # integers up to here are exact as float64
_INT64 = 1 << 63
_MOST_EXTRA = 1_000  # names of keys that nobody wants


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
        with Stream(fragment.path) as stream:
            types, extra = _types(stream, None if columns is None else set(columns))
        position = fragment.first_row
        with Stream(fragment.path) as stream:
            for lines in chunks_of_lines(stream):
                good, bad = _parsed(lines, position)
                position += len(good) + len(bad)
                yield from (replace(window, ignored=extra) for window in _windows(good, bad, types, window_rows))


def _windows(good: dict[int, dict[str, Any]], bad: list[Rejected], types: dict[str, _Type], window_rows: int) -> Iterator[Window]:
    positions = np.fromiter(good, np.int64, len(good))
    rows = list(good.values())
    for start in range(0, max(len(rows), 1), window_rows):
        part = rows[start : start + window_rows]
        columns = [types[name].array([row.get(name) for row in part]) for name in types]
        yield Window(batch_of(columns, list(types), len(part)), positions[start : start + window_rows], () if start else tuple(bad))


def _parsed(lines: list[bytes], position: int) -> tuple[dict[int, dict[str, Any]], list[Rejected]]:
    """Objects by position, and the lines that are none."""
    good: dict[int, dict[str, Any]] = {}
    bad: list[Rejected] = []
    for line in lines:
        if not line.strip():
            continue
        try:
            value = _decode(line.decode())
            if type(value) is dict:
                good[position] = value
            else:
                bad.append(Rejected(position, line.decode(), "line:object"))
        except UnicodeDecodeError:
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

    def array(self, values: list[Any]) -> pa.Array[Any]:
        kinds = self.kinds - {type(None)}
        if not kinds:
            return pa.nulls(len(values))
        if kinds == {bool}:
            return pa.array(values, pa.bool_())
        if kinds == {int} and self.largest < _INT64:
            return pa.array(values, pa.int64())
        if kinds == {float} or (kinds == {int, float} and self.largest <= _EXACT):
            return pa.array(values, pa.float64())
        return pa.array([v if v is None or type(v) is str else json.dumps(v, ensure_ascii=False) for v in values], pa.string())


def _types(stream: Stream, columns: set[str] | None) -> tuple[dict[str, _Type], tuple[str, ...]]:
    """Types of the wanted keys, in the order of their first appearance; and keys that nobody wants, up to a bound."""
    types: dict[str, _Type] = {}
    extra: set[str] = set()
    for lines in chunks_of_lines(stream):
        rows = list(_parsed(lines, 0)[0].values())
        names = dict.fromkeys(name for row in rows for name in row)
        for name in names:
            if columns is None or name in columns:
                types.setdefault(name, _Type()).see([row.get(name) for row in rows])
            elif len(extra) < _MOST_EXTRA:
                extra.add(name)
    return types, tuple(sorted(extra))
