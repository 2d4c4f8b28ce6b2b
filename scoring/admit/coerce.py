"""A column as read into the declared type, value by value: what does not fit is named, never bent.

Numbers widen silently (int to float, int32 to int64); narrowing is accepted where the value fits and is a range fault where it
does not. With `coerce`, text becomes a number, bool, date or time only when it is written plainly ("12.5", "true", "2026-01-31"),
and a float becomes an integer only when it is one. "12,5", " 7", "N/A", "1e400", "0x10", "1_000", "nan" are texts and stay so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Mask = np.ndarray[Any, np.dtype[np.bool_]]
Array: TypeAlias = "pa.Array[Any]"

DIGITS = r"^[+-]?\d+$"
NUMBER = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"
DATE = r"^\d{4}-\d{2}-\d{2}$"
TIME = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2})?$"
_EXACT = 2.0**53  # floats beyond may stand for another integer than was written


@dataclass(frozen=True)
class Converted:
    """`values` has the declared type and is null where a fault is. Masks are None when nothing is at fault; `no_text` is where a
    text is not UTF-8.
    """

    values: Array
    wrong_type: Mask | None = None
    out_of_range: Mask | None = None
    no_text: Mask | None = None


def convert(values: Array, target: pa.DataType, coerce: bool) -> Converted:
    """Never raises: a type that cannot become the target makes every value a type fault."""
    kind = values.type
    if kind == target:
        return Converted(values)
    if _is_text(kind) and pa.types.is_string(target):
        done = _castable(values, target)
        return Converted(done.values, no_text=done.wrong_type)
    if _is_text(kind) and coerce:
        texts = _castable(values, pa.string())
        return _also(_from_text(texts.values, target), texts.wrong_type)
    if _is_number(kind) and pa.types.is_floating(target):
        return _to_float(values, target)
    if pa.types.is_integer(target) and pa.types.is_integer(kind):
        return _to_integer(values, target)
    if pa.types.is_integer(target) and _is_number(kind) and coerce:
        return _whole(values.cast(pa.float64(), safe=False), target)
    if _same_clock(kind, target) or pa.types.is_null(kind):
        return _castable(values, target)
    return _nothing(values, target)


def mask_of(array: Array) -> Mask:
    """A boolean Arrow array as numpy; null counts as False."""
    filled = array.fill_null(False) if array.null_count else array
    return np.asarray(filled.to_numpy(zero_copy_only=False), np.bool_)


def _is_text(kind: pa.DataType) -> bool:
    """Bytes are texts of which nobody knows yet whether they are UTF-8."""
    types = pa.types
    plain = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    return plain or types.is_binary(kind) or types.is_large_binary(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _same_clock(kind: pa.DataType, target: pa.DataType) -> bool:
    if pa.types.is_date(kind):
        return pa.types.is_date(target) or (pa.types.is_timestamp(target) and target.tz is None)
    return pa.types.is_timestamp(kind) and pa.types.is_timestamp(target) and (kind.tz is None) == (target.tz is None)


def _nothing(values: Array, target: pa.DataType) -> Converted:
    wrong = mask_of(values.is_valid())
    return Converted(pa.nulls(len(values), cast(Any, target)), wrong if wrong.any() else None)


def _without(values: Array, fault: Mask) -> Array:
    return cast(Array, pc.if_else(pa.array(fault), pa.scalar(None, values.type), values))


def _castable(values: Array, target: pa.DataType) -> Converted:
    """Cast all; where some value refuses, find out which."""
    wrong = np.zeros(len(values), np.bool_)
    _mark_refused(values, target, wrong)
    if not wrong.any():
        return Converted(values.cast(target))
    return Converted(_without(values, wrong).cast(target), wrong)


def _mark_refused(values: Array, target: pa.DataType, wrong: Mask) -> None:
    """By halves: k refusals among n values cost about k log n casts."""
    try:
        values.cast(target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        half = len(values) // 2
        if half == 0:
            wrong[:] = True
            return
        _mark_refused(values[:half], target, wrong[:half])
        _mark_refused(values[half:], target, wrong[half:])


def _to_float(values: Array, target: pa.DataType) -> Converted:
    cast = values.cast(target, safe=False)
    if not (pa.types.is_floating(values.type) or pa.types.is_decimal(values.type)):
        return Converted(cast)
    over = mask_of(pc.and_(pc.is_inf(cast), pc.is_finite(values.cast(pa.float64(), safe=False))))
    return Converted(_without(cast, over), None, over) if over.any() else Converted(cast)


def _to_integer(values: Array, target: pa.DataType) -> Converted:
    try:
        return Converted(values.cast(target))
    except pa.ArrowInvalid:
        fits = values.cast(target, safe=False).cast(values.type, safe=False)
        limits = np.iinfo(cast(Any, target.to_pandas_dtype()))
        over = mask_of(values.is_valid()) & ~mask_of(pc.equal(fits, values))
        over |= _beyond(values, limits.min, limits.max)
        return Converted(_without(values, over).cast(target), None, over)


def _beyond(values: Array, low: int, high: int) -> Mask:
    own = np.iinfo(cast(Any, values.type.to_pandas_dtype()))
    below, above = max(low, own.min), min(high, own.max)
    return mask_of(pc.or_(pc.less(values, pa.scalar(below, values.type)), pc.greater(values, pa.scalar(above, values.type))))


def _whole(values: Array, target: pa.DataType) -> Converted:
    """Floats that are integers, and exactly so. The others are of the wrong type."""
    exact = pc.and_(pc.equal(pc.trunc(values), values), pc.less_equal(pc.abs(values), pa.scalar(_EXACT)))
    wrong = mask_of(values.is_valid()) & ~mask_of(exact)
    whole = _to_integer(_without(values, wrong).cast(pa.int64()), target)
    return _also(whole, wrong)


def _from_text(texts: Array, target: pa.DataType) -> Converted:
    if pa.types.is_boolean(target):
        return _plain(texts, "^(true|false)$", target)
    if pa.types.is_date(target):
        return _plain(texts, DATE, target)
    if pa.types.is_timestamp(target):
        return _plain(texts, f"{DATE}|{TIME}", target)
    if pa.types.is_integer(target):
        return _integer_text(texts, target)
    return _float_text(texts, target)


def _plain(texts: Array, pattern: str, target: pa.DataType) -> Converted:
    odd = mask_of(texts.is_valid()) & ~mask_of(pc.match_substring_regex(texts, pattern))
    return _also(_castable(_without(texts, odd) if odd.any() else texts, target), odd)


def _float_text(texts: Array, target: pa.DataType) -> Converted:
    """Arrow's own reading of text agrees with NUMBER but for "nan" and "inf": a column where it finds neither is clean."""
    try:
        quick = texts.cast(pa.float64())
        if bool(np.isfinite(quick.fill_null(0.0).to_numpy()).all()):
            return _to_float(quick, target)
    except pa.ArrowInvalid:
        pass
    parsed = _plain(texts, NUMBER, pa.float64())
    endless = mask_of(pc.is_inf(parsed.values))  # 1e400 is no float64
    done = _to_float(_without(parsed.values, endless) if endless.any() else parsed.values, target)
    return _also(done, endless if parsed.wrong_type is None else endless | parsed.wrong_type)


def _integer_text(texts: Array, target: pa.DataType) -> Converted:
    """Digits are read as they are; "7.0" and "1e3", as floats that are integers. Which way a value goes is its own affair."""
    try:
        if not mask_of(pc.match_substring(texts, "x", ignore_case=True)).any():  # Arrow reads 0x10 as 16
            return _to_integer(texts.cast(pa.int64()), target)
    except pa.ArrowInvalid:
        pass
    digits = mask_of(pc.match_substring_regex(texts, DIGITS))
    first = _castable(pc.replace_substring(_without(texts, ~digits), "+", ""), pa.int64())
    exact = _to_integer(first.values, target)
    if digits.sum() == len(texts) - texts.null_count:
        return _also(exact, first.wrong_type)
    parsed = _float_text(_without(texts, digits), pa.float64())
    whole = _whole(parsed.values, target)
    wrong = _either(_either(first.wrong_type, parsed.wrong_type), whole.wrong_type)
    return Converted(pc.coalesce(exact.values, whole.values), wrong, _either(exact.out_of_range, whole.out_of_range))


def _either(one: Mask | None, other: Mask | None) -> Mask | None:
    return other if one is None else one if other is None else one | other


def _also(done: Converted, wrong: Mask | None) -> Converted:
    wrong = _either(done.wrong_type, wrong)
    return Converted(done.values, wrong if wrong is not None and wrong.any() else None, done.out_of_range)
