"""Scores as Arrow columns: how one matrix of numbers becomes scalars, vectors, halves and bytes, for files and callers alike.

A model answers with one float32 matrix, its outputs side by side. An output of width 1 is a float32 column; a wider one is a
fixed-size list of what it is stored as. int8 has a scale for each row (symmetric quantisation: value = int8 * scale, off by half a
scale at most), in a column beside it. An output with labels is a column of strings, stored once each (a dictionary).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from scoring.types import Output

SCALE = "_scale"  # behind the name of an int8 output: its float32 column of scales
_LEVELS = 127  # to each side of 0
_HALF_ENDS = 65_520.0  # from here on, float16 rounds to infinity
_BLOCK = 1_024  # rows quantised at once: what they need stays in cache

Matrix = np.ndarray[Any, np.dtype[np.float32]]


def width(outputs: Sequence[Output]) -> int:
    """Numbers in a row of the matrix."""
    return sum(output.width for output in outputs)


def scalars(outputs: Sequence[Output]) -> dict[str, int]:
    """Numbers of width 1, by name, with their places in the matrix: what can be watched, compared and counted one by one."""
    return {output.name: start for output, start in _placed(outputs) if output.width == 1 and not output.labels}


def schema(outputs: Sequence[Output]) -> pa.Schema:
    """The columns of all outputs, in their order; the scales of an int8 output follow it."""
    return pa.schema([field for output in outputs for field in _fields(output)])


def arrays(outputs: Sequence[Output], matrix: Matrix) -> list[pa.Array[Any]]:
    """Columns of `schema` from a float32 (rows, width) matrix. A vector that is not finite has scale NaN or infinity as int8."""
    return [array for output, start in _placed(outputs) for array in _arrays(output, matrix[:, start : start + output.width])]


def kept(outputs: Sequence[Output], matrix: Matrix) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """bool (rows,): whether every number of a row is finite, also in the form in which it is stored."""
    finite = np.asarray(np.isfinite(matrix).all(axis=1))
    for output, start in _placed(outputs):
        if output.width > 1 and output.store == "float16":
            finite &= (np.abs(matrix[:, start : start + output.width]) < _HALF_ENDS).all(axis=1)
    return finite


def _placed(outputs: Sequence[Output]) -> Iterator[tuple[Output, int]]:
    start = 0
    for output in outputs:
        yield output, start
        start += output.width


def _fields(output: Output) -> list[pa.Field[Any]]:
    if output.labels:
        return [pa.field(output.name, pa.dictionary(pa.int32(), pa.string()))]
    if output.width == 1:
        return [pa.field(output.name, pa.float32())]
    values: dict[str, pa.DataType] = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8()}
    vector = pa.field(output.name, pa.list_(values[output.store], output.width))
    return [vector, pa.field(output.name + SCALE, pa.float32())] if output.store == "int8" else [vector]


def _arrays(output: Output, part: Matrix) -> list[pa.Array[Any]]:
    if output.labels:
        places = np.where(np.isfinite(part[:, 0]), part[:, 0], 0).astype(np.int32)  # of a row that failed, which is not kept
        return [pa.DictionaryArray.from_arrays(places, pa.array(output.labels, pa.string()))]
    if output.width == 1:
        return [pa.array(np.ascontiguousarray(part[:, 0]))]
    if output.store == "int8":
        values, scales = _quantised(part)
        return [_vectors(pa.array(values.reshape(-1)), output), pa.array(scales)]
    numbers = pa.array(np.ascontiguousarray(part).reshape(-1))
    return [_vectors(numbers.cast(pa.float16()) if output.store == "float16" else numbers, output)]


def _vectors(numbers: pa.Array[Any], output: Output) -> pa.Array[Any]:
    return pa.FixedSizeListArray.from_arrays(numbers, output.width)


def _quantised(part: Matrix) -> tuple[np.ndarray[Any, np.dtype[np.int8]], Matrix]:
    """int8 (rows, width) and float32 (rows,) scales, 1.0 where all numbers are 0, or too small for a scale."""
    values, scales = np.empty(part.shape, np.int8), np.empty(len(part), np.float32)
    for start in range(0, len(part), _BLOCK):
        block = part[start : start + _BLOCK]
        scale = np.abs(block).max(axis=1) / np.float32(_LEVELS)
        scale[scale == 0] = 1.0
        with np.errstate(invalid="ignore"):  # of what is not finite, the scale tells
            steps = np.rint(block / scale[:, None])
        steps[~np.isfinite(scale)] = 0
        values[start : start + _BLOCK] = np.clip(steps, -_LEVELS, _LEVELS, out=steps)
        scales[start : start + _BLOCK] = scale
    return values, scales
