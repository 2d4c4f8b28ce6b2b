"""Arrow columns to the two host matrices of the tabular family, straight from Arrow's buffers.

Columns stay columns: `numbers` is (numeric columns, rows) and `slots` is (categorical columns, rows), so that encoding is one
contiguous pass per column (about 13 ns per row for 16 numbers, half of them with nulls, and 4 categories). The model transposes
small blocks, where they are in cache anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from scoring.errors import ModelError

UNKNOWN = 0  # slot of a category: values outside the vocabulary, and null
_DENSE_SPAN = 65_536  # integer vocabularies up to this span, or 32 times their size, become a table


@dataclass(frozen=True)
class Rows:
    """`numbers` float32 (C, rows): filled and centred, not yet scaled. `slots` int32 (K, rows): 0 is the unknown slot."""

    numbers: torch.Tensor
    slots: torch.Tensor

    @property
    def rows(self) -> int:
        return self.numbers.shape[1]

    def narrow(self, start: int, rows: int) -> Rows:
        return Rows(self.numbers.narrow(1, start, rows), self.slots.narrow(1, start, rows))

    def to(self, device: torch.device) -> Rows:
        if self.numbers.device == device:
            return self
        return Rows(self.numbers.to(device, non_blocking=True), self.slots.to(device, non_blocking=True))

    def pin(self) -> Rows:
        return Rows(self.numbers.pin_memory(), self.slots.pin_memory())


def column(batch: pa.RecordBatch, name: str) -> pa.Array[Any]:
    """Raises: ModelError: the batch has no such column."""
    if (place := batch.schema.get_field_index(name)) < 0:
        raise ModelError(f"Input column {name!r} is missing; the rows have: {', '.join(batch.schema.names[:20])}.")
    return batch.column(place)


def values(array: pa.Array[Any], name: str) -> np.ndarray[Any, Any]:
    """A numpy view of the values, whatever lies in null slots. Raises: ModelError: not a number or boolean column."""
    kind = array.type
    if pa.types.is_boolean(kind):
        return _bits(array.buffers()[1], array.offset, len(array))
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)) or pa.types.is_float16(kind):
        raise ModelError(f"Input column {name!r} is {kind}, expected a number.")
    dtype = np.dtype(kind.to_pandas_dtype())
    buffer: Any = array.buffers()[1]
    if not len(array):
        return np.empty(0, dtype)
    return np.frombuffer(buffer, dtype, len(array), array.offset * dtype.itemsize)


def missing(array: pa.Array[Any]) -> np.ndarray[Any, Any] | None:
    """Boolean (rows,), True where null; None when no row is."""
    if not array.null_count:
        return None
    if (bitmap := array.buffers()[0]) is None:  # an array of the null type has no buffers
        return np.ones(len(array), bool)
    return _bits(bitmap, array.offset, len(array)).view(bool) ^ True


def _bits(bitmap: Any, offset: int, rows: int) -> np.ndarray[Any, Any]:
    if not rows:
        return np.empty(0, np.uint8)
    first = offset // 8
    packed = np.frombuffer(bitmap, np.uint8, (offset + rows + 7) // 8 - first, first)
    return np.unpackbits(packed, count=offset % 8 + rows, bitorder="little")[offset % 8 :]


def numbers_into(out: np.ndarray[Any, Any], array: pa.Array[Any], name: str, mean: float, fill: float) -> None:
    """out[:] = value - mean, or fill - mean where null; subtracted in the column's own precision, float64 for integers."""
    with np.errstate(all="ignore"):  # null slots hold anything; infinities and NaN are the engine's to find
        found = values(array, name)
        np.subtract(found, mean, out=out, dtype=np.float32 if found.dtype == np.float32 else np.float64, casting="same_kind")
    if (gone := missing(array)) is not None:
        out[np.flatnonzero(gone)] = fill - mean


class Vocabulary:
    """Maps values to slots 1..size in vocabulary order; anything else to UNKNOWN. Integers or strings."""

    def __init__(self, known: pa.Array[Any]) -> None:
        """Raises: ModelError: nulls or repeated values."""
        if known.null_count or len(pc.unique(known)) != len(known):
            raise ModelError("A vocabulary may hold neither null nor a value twice.")
        self.known = known
        self._integers = None if pa.types.is_string(known.type) else _Integers(known.cast(pa.int64()).to_numpy())

    def into(self, out: np.ndarray[Any, Any], array: pa.Array[Any], name: str) -> None:
        """out[:] = int32 slots. Strings may come plain or as a dictionary. Raises: ModelError: neither fits the vocabulary."""
        if isinstance(array, pa.DictionaryArray):
            self._coded_into(out, array, name)
        elif self._integers is None:
            out[:] = self._strings(array, name)
        else:
            self._integers.into(out, values(array, name))
        if self._integers is not None and (gone := missing(array)) is not None:
            out[np.flatnonzero(gone)] = UNKNOWN

    def _coded_into(self, out: np.ndarray[Any, Any], array: pa.DictionaryArray[Any, Any], name: str) -> None:
        by_code = np.zeros(len(array.dictionary) + 1, np.int32)
        self.into(by_code[:-1], array.dictionary, name)
        codes = values(array.indices, name).astype(np.int64)
        if (gone := missing(array.indices)) is not None:
            codes[gone] = len(array.dictionary)
        np.take(by_code, codes, mode="clip", out=out)

    def _strings(self, array: pa.Array[Any], name: str) -> np.ndarray[Any, Any]:
        if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type)):
            raise ModelError(f"Input column {name!r} is {array.type}, expected string.")
        found = pc.index_in(array if array.type == pa.string() else array.cast(pa.string()), value_set=self.known)
        places = values(found, name).astype(np.int32)
        places += 1
        if (gone := missing(found)) is not None:
            places[gone] = UNKNOWN
        return places


class _Integers:
    """Integer values to slots: one table look-up where values lie close together, else a binary search."""

    def __init__(self, known: np.ndarray[Any, Any]) -> None:
        self._order = np.argsort(known, kind="stable")
        self._sorted = known[self._order]
        low, high = (int(self._sorted[0]), int(self._sorted[-1])) if len(known) else (0, 0)
        self._below = low - 1
        self._table: np.ndarray[Any, Any] | None = None
        if self._below >= np.iinfo(np.int64).min and high - low <= max(_DENSE_SPAN, 32 * len(known)):
            self._table = np.zeros(high - low + 3, np.int32)  # both ends stay unknown: out-of-range values are clipped to them
            self._table[known - self._below] = np.arange(1, len(known) + 1, dtype=np.int32)

    def into(self, out: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> None:
        """A difference that wraps around is outside the table too, so that extreme values are safe."""
        if found.dtype.kind not in "iub":
            raise ModelError(f"A category column with an integer vocabulary came as {found.dtype}.")
        if self._table is not None:
            np.take(self._table, np.subtract(found, self._below, dtype=np.int64), mode="clip", out=out)
            return
        wide = found.astype(np.int64, copy=False)
        place = np.minimum(np.searchsorted(self._sorted, wide), len(self._sorted) - 1)
        out[:] = np.where(self._sorted[place] == wide, self._order[place] + 1, UNKNOWN)
