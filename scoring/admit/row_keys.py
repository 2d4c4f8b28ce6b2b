"""Keys of rows in a form that sorts: the value itself for one integer column, 128 bits of hash for everything else.

Two rows have one key if and only if their forms are equal (for hashes but for a chance of n^2 / 2^129: 1e-21 in a billion). A row
with a null in its key has none. Costs per million rows: 1 ms for integers that ascend already, 20 ms where they have to
be sorted, 300 ms for texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoring.admit.coerce import Array, mask_of
from scoring.admit.ranges import raw_slots, valid

Words = np.ndarray[Any, np.dtype[np.uint64]]
_M1, _M2, _STEP = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53), np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(33)


class Keys:
    """Keys of a slice, window by window. Use: `add` good rows, then `finished`."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = tuple(columns)
        self._parts: list[np.ndarray[Any, Any]] = []

    def add(self, good: pa.RecordBatch) -> None:
        if self._columns and good.num_rows:
            self._parts.append(forms([good.column(name) for name in self._columns]))

    def finished(self) -> np.ndarray[Any, Any] | None:
        """int64 (rows,) ascending, or uint64 (rows, 2) ascending by the first; None without a key to keep."""
        if not self._columns:
            return None
        if not self._parts:
            return np.empty(0, np.int64)
        found = np.concatenate(self._parts)
        if found.ndim == 1:
            return found if bool((found[1:] >= found[:-1]).all()) else np.sort(found)
        return found[np.argsort(found[:, 0])]


def forms(columns: Sequence[Array]) -> np.ndarray[Any, Any]:
    """int64 (rows,) or uint64 (rows, 2); rows with a null in their key are left out."""
    whole = not any(column.null_count for column in columns)
    there = slice(None) if whole else np.logical_and.reduce([valid_of(column) for column in columns])
    if len(columns) == 1 and pa.types.is_integer(columns[0].type) and columns[0].type != pa.uint64():
        values = raw_slots(columns[0]).astype(np.int64, copy=False)
        return values[there]
    rows = len(columns[0])
    first, second = np.full(rows, 1, np.uint64), np.full(rows, 2, np.uint64)
    for column in columns:
        for word in _words(column):
            first, second = _mixed(first ^ word), _mixed((second + _STEP) ^ word)
    return np.stack([first, second], axis=1)[there]


def valid_of(column: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return mask_of(column.is_valid()) if isinstance(column, pa.DictionaryArray) else valid(column)


def _mixed(words: Words) -> Words:
    """The finaliser of MurmurHash3 (Appleby 2008): a bijection in which every bit touches every other."""
    words = (words ^ (words >> _SHIFT)) * _M1
    words = (words ^ (words >> _SHIFT)) * _M2
    return words ^ (words >> _SHIFT)


def _words(column: Array) -> list[Words]:
    """A column as 64-bit words per row, equal if and only if the values are."""
    if isinstance(column, pa.DictionaryArray):
        column = column.dictionary_decode()
    if pa.types.is_string(column.type):
        return _text_words(column)
    if pa.types.is_boolean(column.type):
        return [mask_of(column).astype(np.uint64)]
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        column = column.view(pa.int32() if pa.types.is_date(column.type) else pa.int64())
    raw = raw_slots(column)
    if raw.dtype.kind == "f":
        return [(raw.astype(np.float64) + 0.0).view(np.uint64)]  # one zero, whatever its sign
    return [raw.astype(np.int64).view(np.uint64) if raw.dtype != np.uint64 else raw]


def _text_words(column: Array) -> list[Words]:
    """A hash of bytes and length, eight bytes at a time for all rows that are as long, in two words."""
    offsets = np.frombuffer(cast(Any, column.buffers()[1]), np.int32, len(column) + 1, column.offset * 4).astype(np.int64)
    data = np.frombuffer(cast(Any, column.buffers()[2] or b""), np.uint8)
    data = np.concatenate([data[offsets[0] : offsets[-1]], np.zeros(8, np.uint8)])
    starts, lengths = offsets[:-1] - offsets[0], np.diff(offsets)
    words: Words = np.ndarray((len(data) - 7,), "<u8", data, strides=(1,))
    first, second = lengths.astype(np.uint64), _mixed(lengths.astype(np.uint64) + _STEP)
    for at in range(0, int(lengths.max(initial=0)), 8):
        longer = np.flatnonzero(lengths > at)
        left = np.minimum(lengths[longer] - at, 8).astype(np.uint64)
        mask = np.where(left == 8, np.uint64(2**64 - 1), (np.uint64(1) << (left * np.uint64(8))) - np.uint64(1))
        found = words[starts[longer] + at] & mask
        first[longer], second[longer] = _mixed(first[longer] ^ found), _mixed((second[longer] + _STEP) ^ found)
    return [first, second]


class Newest:
    """The newest value of the time column, in microseconds since 1970 (UTC). A date counts as the end of its day."""

    def __init__(self, column: str | None) -> None:
        self._column = column
        self.value: int | None = None

    def add(self, good: pa.RecordBatch) -> None:
        if self._column is None or not good.num_rows:
            return
        newest = pc.max(good.column(self._column))
        if newest.is_valid:
            self.value = max(_microseconds(newest), self.value if self.value is not None else -(2**63))


def _microseconds(value: Any) -> int:
    if pa.types.is_date(value.type):
        return (int(value.cast(pa.int32()).as_py()) + 1) * 86_400_000_000
    return int(value.cast(pa.timestamp("us", value.type.tz), safe=False).cast(pa.int64()).as_py())
