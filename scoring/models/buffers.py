"""Arrow's buffers of a column as torch and numpy see them: views, never copies."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from scoring.errors import ModelError

NO_BITS = torch.empty(0, dtype=torch.uint8)  # the bitmap of a column without nulls


@dataclass(frozen=True)
class Buffers:
    """`values` uint8 (bytes,) from the first row on, of `dtype` (torch's name; "bool" is packed and begins at `value_bit`).
    `bitmap` uint8 (bytes,) with the first row at `bit`, empty if nothing is null. `owner` keeps the memory alive.
    """

    values: torch.Tensor
    dtype: str
    value_bit: int
    bitmap: torch.Tensor
    bit: int
    owner: pa.Array[Any]


def column(batch: pa.RecordBatch, name: str) -> pa.Array[Any]:
    """Raises: ModelError: the batch has no such column."""
    if (place := batch.schema.get_field_index(name)) < 0:
        raise ModelError(f"Input column {name!r} is missing; the rows have: {', '.join(batch.schema.names[:20])}.")
    return batch.column(place)


def buffers(array: pa.Array[Any], name: str) -> Buffers:
    """Raises: ModelError: not a number or boolean column."""
    kind = array.type
    known, bit = bitmap(array)
    data: Any = array.buffers()[1]
    if pa.types.is_boolean(kind):
        packed = _view(data, array.offset // 8, (array.offset % 8 + len(array) + 7) // 8 if len(array) else 0)
        return Buffers(packed, "bool", array.offset % 8, known, bit, array)
    dtype = _number(kind, name)
    return Buffers(_view(data, array.offset * dtype.itemsize, len(array) * dtype.itemsize), str(dtype), 0, known, bit, array)


def bitmap(array: pa.Array[Any]) -> tuple[torch.Tensor, int]:
    """Validity as it lies and the bit of the first row; nothing and 0 where no row is null."""
    if not array.null_count or (packed := array.buffers()[0]) is None:
        return NO_BITS, 0
    return _view(packed, array.offset // 8, (array.offset % 8 + len(array) + 7) // 8), array.offset % 8


def values(array: pa.Array[Any], name: str) -> np.ndarray[Any, Any]:
    """A numpy view of the values, whatever lies in null slots. Raises: ModelError: not a number or boolean column."""
    kind = array.type
    if pa.types.is_boolean(kind):
        return _bits(array.buffers()[1], array.offset, len(array))
    dtype = _number(kind, name)
    buffer: Any = array.buffers()[1]
    if not len(array):
        return np.empty(0, dtype)
    return np.frombuffer(buffer, dtype, len(array), array.offset * dtype.itemsize)


def missing(array: pa.Array[Any]) -> np.ndarray[Any, Any] | None:
    """Boolean (rows,), True where null; None when no row is."""
    if not array.null_count:
        return None
    if (packed := array.buffers()[0]) is None:  # an array of the null type has no buffers
        return np.ones(len(array), bool)
    return _bits(packed, array.offset, len(array)).view(bool) ^ True


def _number(kind: pa.DataType, name: str) -> np.dtype[Any]:
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)) or pa.types.is_float16(kind):
        raise ModelError(f"Input column {name!r} is {kind}, expected a number.")
    return np.dtype(kind.to_pandas_dtype())


def _bits(packed: Any, offset: int, rows: int) -> np.ndarray[Any, Any]:
    if not rows:
        return np.empty(0, np.uint8)
    first = offset // 8
    whole = np.frombuffer(packed, np.uint8, (offset + rows + 7) // 8 - first, first)
    return np.unpackbits(whole, count=offset % 8 + rows, bitorder="little")[offset % 8 :]


def _view(buffer: Any, start: int, size: int) -> torch.Tensor:
    """By address: torch warns of read-only memory, which is only read here."""
    if not size:
        return NO_BITS
    return torch.frombuffer((ctypes.c_uint8 * size).from_address(buffer.address + start), dtype=torch.uint8)
