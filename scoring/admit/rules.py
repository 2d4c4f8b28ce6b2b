"""The contract, compiled, and a batch held to it: good rows in declared types, bad rows with every reason they have.

Reasons read "column:rule" with the rules null, type, utf8, range, nan, finite, allowed and pattern, or "rule:name" for rules
across columns. The verdict on a row depends on that row alone, never on the batch it came in. Columns that are not declared are not
judged. A rule of level warn counts the rows that break it and lets them pass; where there is no value to score, it is an error all
the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoring.admit import rows, schema
from scoring.admit.coerce import Array, Mask, convert, mask_of
from scoring.admit.ranges import Bounds, Span, faults
from scoring.errors import ConfigError, SourceError
from scoring.settings import Column, Level, RowRule

_NAMES = {"double": "float64", "float": "float32", "halffloat": "float16"}  # as a contract spells them
_NO_VALUE = ("nan", "finite")
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
    level: Level = "error"


@dataclass(frozen=True)
class Rules:
    columns: tuple[Rule, ...]
    coerce: bool
    rows: rows.RowRules

    def schema(self) -> Any:
        """The same rules as a `dataframely.Schema`, for data in the declared types (coercions and warnings are not in it)."""
        errors = {name: text for name, text in self.rows.texts.items() if self.rows.levels[name] == "error"}
        return schema.schema({rule.name: _strict(rule) for rule in self.columns}, errors)


@dataclass(frozen=True)
class Admitted:
    """`good` holds the declared columns in declared order and type; strings may be dictionary(int32, string).

    `kept` int64 (good rows,) are positions in the batch, or None for all; `bad` int64 (bad rows,) with `reasons` of each. `warned`
    counts good rows by the rules of level warn that they break.
    """

    good: pa.RecordBatch
    kept: Positions | None
    bad: Positions
    reasons: list[tuple[str, ...]]
    warned: dict[str, int] = field(default_factory=dict)


class Judged(NamedTuple):
    """A column in its declared type; what is at fault where, and how bad that is; its span if that had to be looked at."""

    values: Array
    faulty: list[tuple[str, Mask, Level]]
    span: Span | None


def compile_rules(columns: Mapping[str, Column], coerce: bool, across: Mapping[str, RowRule] | None = None) -> Rules:
    """Raises: ConfigError: a type that nobody knows, a bound that does not go with the type, or SQL that is no row rule."""
    compiled = tuple(_rule(name, column) for name, column in columns.items())
    if across and "rule" in columns:
        raise ConfigError('contract.columns.rule: beside contract.rules no column can have this name: reasons read "rule:…".')
    return Rules(compiled, coerce, rows.compile_rows(across or {}, {rule.name: rule.type for rule in compiled}))


def admit(batch: pa.RecordBatch, rules: Rules) -> Admitted:
    """Split a batch.

    Raises:
        MissingColumns: the batch lacks declared columns.
    """
    missing = [rule.name for rule in rules.columns if rule.name not in batch.schema.names]
    if missing:
        raise MissingColumns(missing)
    judged = {rule.name: _judge(batch.column(rule.name), rule, rules.coerce) for rule in rules.columns}
    found = [(f"{name}:{what}", mask, level) for name, one in judged.items() for what, mask, level in one.faulty]
    if rules.rows.texts:
        sound = {name: _sound(judged[name].values, judged[name].faulty) for name in rules.rows.columns}
        spans = {name: one.span for name in rules.rows.columns if not (one := judged[name]).faulty and one.span is not None}
        found += [(f"rule:{name}", mask, rules.rows.levels[name]) for name, mask in rows.broken(rules.rows, sound, spans)]
    good = _batch([one.values for one in judged.values()], rules, batch.num_rows)
    return _split(good, found) if found else Admitted(good, None, np.empty(0, np.int64), [])


def _split(whole: pa.RecordBatch, found: list[tuple[str, Mask, Level]]) -> Admitted:
    errors = [(name, mask) for name, mask, level in found if level == "error"]
    masks = np.stack([mask for _, mask in errors]) if errors else np.zeros((0, whole.num_rows), np.bool_)
    out = masks.any(axis=0)
    kept, bad = np.flatnonzero(~out), np.flatnonzero(out)
    counts = {name: int((mask & ~out).sum()) for name, mask, level in found if level == "warn"}
    warned = {name: count for name, count in counts.items() if count}
    if not len(bad):
        return Admitted(whole, None, bad, [], warned)
    reasons = _reasons([name for name, _ in errors], masks[:, bad])
    return Admitted(whole.take(pa.array(kept, pa.int64())), kept, bad, reasons, warned)


def _sound(values: Array, faulty: list[tuple[str, Mask, Level]]) -> Array:
    """Null where the value is at fault."""
    if not faulty:
        return values
    fault = np.logical_or.reduce([mask for _, mask, _ in faulty])
    return cast(Array, pc.if_else(pa.array(fault), pa.scalar(None, values.type), values))


def widened(found: pa.Schema, rules: Rules) -> tuple[str, ...]:
    """Columns whose numbers have another type than declared and are taken nevertheless: "x: int64, not int32"."""
    return tuple(
        f"{rule.name}: {_NAMES.get(str(kind), kind)}, not {_NAMES.get(str(rule.type), rule.type)}"
        for rule in rules.columns
        if (kind := found.field(rule.name).type) != rule.type and _is_number(kind) and _is_number(rule.type)
    )


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


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
    if column.pattern is not None:
        if not pa.types.is_string(kind):
            raise ConfigError(f"contract.columns.{name}: a pattern binds text, and the column is {column.dtype}.")
        schema.check_pattern(column.pattern, f"contract.columns.{name}.pattern")
    return Rule(name, kind, column.nullable, Bounds(*_limits(name, column, kind), allowed, column.pattern), column.level)


def _strict(rule: Rule) -> schema.Kind:
    """What an error is, of a column: of level warn, its type and finiteness alone."""
    return (rule.type, rule.nullable, rule.bounds) if rule.level == "error" else (rule.type, True, Bounds())


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


def _judge(values: Array, rule: Rule, coerce: bool) -> Judged:
    if pa.types.is_run_end_encoded(values.type):
        values = pc.call_function("run_end_decode", [values])
    if isinstance(values, pa.DictionaryArray):
        if values.dictionary.null_count == 0:
            return _judge_distinct(values, rule, coerce)
        values = values.dictionary_decode()
    nulls = [] if rule.nullable or not values.null_count else [("null", mask_of(values.is_null()), rule.level)]
    judged = _judge_values(values, rule, coerce)
    return Judged(judged.values, nulls + judged.faulty, judged.span) if nulls else judged


def _judge_values(values: Array, rule: Rule, coerce: bool) -> Judged:
    done = convert(values, rule.type, coerce)
    faulty: list[tuple[str, Mask, Level]] = []
    if done.wrong_type is not None:
        faulty.append(("type", done.wrong_type, "error"))
    if done.no_text is not None:
        faulty.append(("utf8", done.no_text, "error"))
    if done.out_of_range is not None:
        faulty.append(("range", done.out_of_range, "error"))
    broken, reach = faults(done.values, rule.bounds)
    faulty += [(what, mask, "error" if what in _NO_VALUE else rule.level) for what, mask in broken]
    return Judged(done.values, faulty, reach)


def _judge_distinct(values: pa.DictionaryArray[Any, Any], rule: Rule, coerce: bool) -> Judged:
    """As `_judge`, at a cost per distinct value. A value of the dictionary that no row has is at fault nowhere."""
    distinct = _judge_values(values.dictionary, rule, coerce)
    spread = [(what, mask_of(pc.take(pa.array(mask), values.indices)), level) for what, mask, level in distinct.faulty]
    broken = [one for one in spread if one[1].any()]
    if not rule.nullable and values.null_count:
        broken.insert(0, ("null", mask_of(values.indices.is_null()), rule.level))
    if pa.types.is_string(rule.type) and not distinct.values.null_count:
        return Judged(pa.DictionaryArray.from_arrays(values.indices.cast(pa.int32()), distinct.values), broken, None)
    return Judged(distinct.values.take(values.indices), broken, None)


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
