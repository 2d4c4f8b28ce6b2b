"""The contract, compiled, and a batch held to it: good rows in declared types, bad rows with every reason they have.

Reasons read "column:rule" with the rules null, type, range, nan, finite and allowed. The verdict on a row depends on that row
alone, never on the batch it came in. Columns that are not declared are not judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoring.admit.coerce import Array, Mask, convert, mask_of
from scoring.admit.ranges import Bounds, faults
from scoring.errors import ConfigError, SourceError
from scoring.settings import Column

Positions = np.ndarray[Any, np.dtype[np.int64]]


class MissingColumns(SourceError):  # noqa: N818 - it names what is found, as the account does
    """Declared columns that a file does not have: the whole file is at fault, not its rows."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"missing columns: {', '.join(names)}")
        self.names = names


@dataclass(frozen=True)
class Rule:
    name: str
    type: pa.DataType
    nullable: bool
    bounds: Bounds


@dataclass(frozen=True)
class Rules:
    columns: tuple[Rule, ...]
    coerce: bool


@dataclass(frozen=True)
class Admitted:
    """`good` holds the declared columns in declared order and type; strings may be dictionary(int32, string).

    `kept` int64 (good rows,) are positions in the batch, or None for all; `bad` int64 (bad rows,) with `reasons` of each.
    """

    good: pa.RecordBatch
    kept: Positions | None
    bad: Positions
    reasons: list[tuple[str, ...]]


def compile_rules(columns: dict[str, Column], coerce: bool) -> Rules:
    """Raises: ConfigError: a type that nobody knows, or a bound that does not go with the type."""
    return Rules(tuple(_rule(name, column) for name, column in columns.items()), coerce)


def admit(batch: pa.RecordBatch, rules: Rules) -> Admitted:
    """Split a batch.

    Raises:
        MissingColumns: the batch lacks declared columns.
    """
    missing = [rule.name for rule in rules.columns if rule.name not in batch.schema.names]
    if missing:
        raise MissingColumns(missing)
    columns: list[Array] = []
    found: list[tuple[str, Mask]] = []
    for rule in rules.columns:
        values, broken = _judge(batch.column(rule.name), rule, rules.coerce)
        columns.append(values)
        found += [(f"{rule.name}:{what}", mask) for what, mask in broken]
    good = _batch(columns, rules, batch.num_rows)
    if not found:
        return Admitted(good, None, np.empty(0, np.int64), [])
    masks = np.stack([mask for _, mask in found])
    out = masks.any(axis=0)
    kept, bad = np.flatnonzero(~out), np.flatnonzero(out)
    return Admitted(good.take(pa.array(kept, pa.int64())), kept, bad, _reasons([name for name, _ in found], masks[:, bad]))


def raw_rows(batch: pa.RecordBatch, rows: Positions) -> pa.RecordBatch:
    """Rows as they were read, for the quarantine; dictionaries (a way of reading, not of meaning) become plain values."""
    taken = batch.take(pa.array(rows, pa.int64()))
    columns = [c.dictionary_decode() if isinstance(c, pa.DictionaryArray) else c for c in taken.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names) if columns else taken


def _rule(name: str, column: Column) -> Rule:
    kind = _type(name, column.dtype)
    try:
        allowed = None if column.allowed is None else pa.array(_both_zeros(column.allowed, kind), kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise ConfigError(f"contract.columns.{name}.allowed: not all are {column.dtype} ({error}).") from None
    return Rule(name, kind, column.nullable, Bounds(*_limits(name, column, kind), allowed))


def _type(name: str, dtype: str) -> pa.DataType:
    types = pa.types
    try:
        kind = pa.type_for_alias(cast(Any, dtype))
    except ValueError:
        kind = pa.null()
    known = (types.is_integer, types.is_floating, types.is_boolean, types.is_string, types.is_date32, types.is_timestamp)
    if not any(is_kind(kind) for is_kind in known):
        raise ConfigError(
            f"contract.columns.{name}.dtype: {dtype!r} cannot be held to. Try float32, int64, string, bool or date32."
        )
    return cast(pa.DataType, kind)


def _both_zeros(allowed: tuple[Any, ...], kind: pa.DataType) -> list[Any]:
    """Arrow's set look-up tells -0.0 from 0.0, which are one number."""
    return [*allowed, *((0.0, -0.0) if pa.types.is_floating(kind) and 0 in allowed else ())]


def _limits(name: str, column: Column, kind: pa.DataType) -> tuple[Any, Any]:
    if column.min is None and column.max is None:
        return None, None
    if pa.types.is_integer(kind):
        return column.min if column.min is None else math.ceil(column.min), column.max if column.max is None else math.floor(
            column.max
        )
    if pa.types.is_floating(kind):
        of = cast(Callable[[float], Any], kind.to_pandas_dtype())
        return column.min if column.min is None else of(column.min), column.max if column.max is None else of(column.max)
    raise ConfigError(f"contract.columns.{name}: min and max bind numbers, and the column is {column.dtype}.")


def _judge(values: Array, rule: Rule, coerce: bool) -> tuple[Array, list[tuple[str, Mask]]]:
    """The column in its declared type, and what is at fault where."""
    if pa.types.is_run_end_encoded(values.type):
        values = pc.call_function("run_end_decode", [values])
    if isinstance(values, pa.DictionaryArray):
        if values.dictionary.null_count == 0:
            return _judge_distinct(values, rule, coerce)
        values = values.dictionary_decode()
    nulls = [] if rule.nullable or not values.null_count else [("null", mask_of(values.is_null()))]
    converted, broken = _judge_values(values, rule, coerce)
    return converted, nulls + broken


def _judge_values(values: Array, rule: Rule, coerce: bool) -> tuple[Array, list[tuple[str, Mask]]]:
    done = convert(values, rule.type, coerce)
    broken = [(what, mask) for what, mask in (("type", done.wrong_type), ("range", done.out_of_range)) if mask is not None]
    return done.values, broken + list(faults(done.values, rule.bounds))


def _judge_distinct(values: pa.DictionaryArray[Any, Any], rule: Rule, coerce: bool) -> tuple[Array, list[tuple[str, Mask]]]:
    """As `_judge`, at a cost per distinct value. A value of the dictionary that no row has is at fault nowhere."""
    distinct, broken = _judge_values(values.dictionary, rule, coerce)
    spread = [(what, mask_of(pc.take(pa.array(mask), values.indices))) for what, mask in broken]
    broken = [(what, mask) for what, mask in spread if mask.any()]
    if not rule.nullable and values.null_count:
        broken.insert(0, ("null", mask_of(values.indices.is_null())))
    if pa.types.is_string(rule.type) and not distinct.null_count:
        return pa.DictionaryArray.from_arrays(values.indices.cast(pa.int32()), distinct), broken
    return distinct.take(values.indices), broken


def _batch(columns: list[Array], rules: Rules, rows: int) -> pa.RecordBatch:
    if not columns:
        return pa.RecordBatch.from_arrays([pa.nulls(rows)], names=[""]).select([])
    return pa.RecordBatch.from_arrays(columns, names=[rule.name for rule in rules.columns])


def _reasons(names: list[str], masks: np.ndarray[Any, np.dtype[np.bool_]]) -> list[tuple[str, ...]]:
    """All reasons of each bad row; `masks` bool (names, bad rows). A combination is spelled once."""
    known: dict[bytes, tuple[str, ...]] = {}
    return [_spelled(key, names, known) for key in _keys(masks)]


def _keys(masks: np.ndarray[Any, np.dtype[np.bool_]]) -> Iterator[bytes]:
    packed = np.ascontiguousarray(np.packbits(masks, axis=0).T)
    return (row.tobytes() for row in packed)


def _spelled(key: bytes, names: list[str], known: dict[bytes, tuple[str, ...]]) -> tuple[str, ...]:
    if key not in known:
        bits = np.unpackbits(np.frombuffer(key, np.uint8), count=len(names))
        known[key] = tuple(name for name, bit in zip(names, bits, strict=True) if bit)
    return known[key]
