"""How far scores made again lie from those that were published: bit for bit, within the tolerance of the bundle, or apart.

A number is within tolerance t if it lies no further than t x max(1, |published|) away, as golden scores are judged. What is stored
in less than float32 may be off by one step of its own more: two float32 that differ in the last bit may round to different float16,
and to different int8 steps. A label has no distance: it is the same or another. ULP is how many representable numbers lie between
two (Goldberg, What every computer scientist should know about floating-point arithmetic, 1991).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoring.columns import SCALE
from scoring.types import Output

Numbers = np.ndarray[Any, Any]
EQUAL, WITHIN, APART = 0, 1, 2


@dataclass(frozen=True)
class Distance:
    """Of one output: rows by how they agree, and the largest differences of any of its numbers. `max_ulp` counts steps of int8
    where that is how it is stored; of labels all are 0.
    """

    name: str
    bit_equal: int = 0
    within: int = 0
    different: int = 0
    max_abs: float = 0.0
    max_rel: float = 0.0
    max_ulp: int = 0

    def __add__(self, other: Distance) -> Distance:
        counts = (self.bit_equal + other.bit_equal, self.within + other.within, self.different + other.different)
        most = (max(self.max_abs, other.max_abs), max(self.max_rel, other.max_rel), max(self.max_ulp, other.max_ulp))
        return Distance(self.name, *counts, *most)


def compare(
    then: pa.Table, now: pa.Table, outputs: Iterable[Output], tolerance: float
) -> tuple[np.ndarray[Any, np.dtype[np.int8]], list[Distance]]:
    """(the worst of all outputs by row: EQUAL, WITHIN or APART; each output's distance). Both tables have the same rows, and all
    columns of the outputs.
    """
    worst, found = np.zeros(then.num_rows, np.int8), []
    for output in outputs:
        state, distance = _output(then, now, output, tolerance)
        worst = np.maximum(worst, state)
        found.append(distance)
    return worst, found


def same(then: pa.Table, now: pa.Table, names: Sequence[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """bool (rows,): whether columns that were only carried have the same values; NaN is NaN."""
    found = np.ones(then.num_rows, np.bool_)
    for name in names:
        ours, theirs = _plain(then[name]), _plain(now[name])
        if ours.type == theirs.type and ours.equals(theirs):
            continue
        pairs = zip(ours.to_pylist(), theirs.to_pylist(), strict=True)
        found &= np.fromiter((a == b or (a != a and b != b) for a, b in pairs), np.bool_, then.num_rows)
    return found


@dataclass(frozen=True)
class _Stored:
    """Numbers of a column, each array (rows, width) or (rows, 1): float64 `values`; int64 `order`, their places among all numbers
    that can be stored; the `step` from one to the next, 0 where nothing was rounded; the `scale` of int8.
    """

    kind: str
    values: Numbers
    order: Numbers
    step: Numbers
    scale: Numbers


def _output(then: pa.Table, now: pa.Table, output: Output, tolerance: float) -> tuple[Numbers, Distance]:
    name, rows = output.name, then.num_rows
    if output.labels or not _numeric(then[name].type):
        state = np.where(same(then, now, [name]), EQUAL, APART).astype(np.int8)
        return state, _counted(name, state, 0.0, 0.0, 0)
    old, new = _stored(then, name), _stored(now, name)
    if old.values.shape != new.values.shape:
        state = np.full(rows, APART, np.int8)
        return state, _counted(name, state, 0.0, 0.0, 0)
    alike = old.kind == new.kind
    equal = (old.order == new.order) & (old.scale == new.scale) & alike
    with np.errstate(invalid="ignore"):
        off, size = np.abs(new.values - old.values), np.abs(old.values)
        near = off <= tolerance * np.maximum(1.0, size) + np.maximum(old.step, new.step)
        relative = off / np.where(size > 0, size, 1.0)
    state = np.where(equal.all(axis=1), EQUAL, np.where((near | equal).all(axis=1), WITHIN, APART)).astype(np.int8)
    ulp = int(np.abs(new.order - old.order).max(initial=0)) if alike else 0
    return state, _counted(name, state, _most(off), _most(relative), ulp)


def _counted(name: str, state: Numbers, most_abs: float, most_rel: float, most_ulp: int) -> Distance:
    equal, within, apart = np.bincount(state, minlength=3).tolist()
    return Distance(name, equal, within, apart, most_abs, most_rel, most_ulp)


def _most(values: Numbers) -> float:
    """The largest; what is no number has no distance."""
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else 0.0


def _stored(table: pa.Table, name: str) -> _Stored:
    column = _plain(table[name])
    rows, none = len(column), np.zeros((len(column), 1))
    flat: Any = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
    raw = np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(rows, -1) if rows else np.zeros((0, 1), np.float32)
    if raw.dtype == np.int8:
        scale = np.asarray(table[name + SCALE].to_numpy(), np.float64).reshape(rows, 1)
        return _Stored("int8", raw * scale, raw.astype(np.int64), scale, scale)
    step = np.abs(np.spacing(raw)).astype(np.float64) if raw.dtype == np.float16 else none
    return _Stored(str(raw.dtype), raw.astype(np.float64), _ordered(raw), step, none)


def _ordered(raw: Numbers) -> Numbers:
    """Floats as integers in the same order, neighbours one apart."""
    kind: Any = {"float16": np.int16, "float32": np.int32}.get(str(raw.dtype), np.int64)
    bits = np.ascontiguousarray(raw if kind is not np.int64 else raw.astype(np.float64)).view(kind).astype(np.int64)
    return np.asarray(np.where(bits < 0, -(bits & np.iinfo(kind).max) - 1, bits))


def _numeric(kind: pa.DataType) -> bool:
    inner = kind.value_type if pa.types.is_fixed_size_list(kind) else kind
    return pa.types.is_floating(inner) or pa.types.is_integer(inner)


def _plain(column: pa.ChunkedArray[Any]) -> Any:
    """One array, dictionaries decoded."""
    found: Any = column.combine_chunks()
    found = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    return pc.cast(found, found.type.value_type) if pa.types.is_dictionary(found.type) else found
