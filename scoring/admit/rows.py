"""Rules across the columns of a row: a quick look in numpy, and a judgement by dataframely where the look finds something.

Most rules compare columns and numbers; most windows are clean. numpy answers those in 0.03 ms per comparison and window of 65,536
rows, where Polars takes 0.1 ms and dataframely 0.3 ms. The look is sound, not final: it may suspect a row for nothing, never pass
one that breaks a rule. A value that is at fault itself counts as NULL here: one fault is told once.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from scoring.admit import schema, sql
from scoring.admit.coerce import Array, Mask
from scoring.admit.ranges import Bounds, raw_slots, valid
from scoring.errors import ConfigError
from scoring.settings import Level, RowRule

MAX_RULES = 200
_SIGNS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class RowRules:
    """`plain` rules are trees that numpy can answer, `texts` all rules; `columns` are the names that any of them says."""

    texts: dict[str, str]
    levels: dict[str, Level]
    plain: dict[str, sql.Tree]
    columns: dict[str, pa.DataType]


def compile_rows(rules: Mapping[str, RowRule], columns: Mapping[str, pa.DataType]) -> RowRules:
    """Raises: ConfigError: a rule says what it may not say (see `sql`), or too many do."""
    if len(rules) > MAX_RULES:
        raise ConfigError(f"contract.rules: {len(rules):,} rules; at most {MAX_RULES} are evaluated.")
    plain, said = {}, set[str]()
    for name, rule in rules.items():
        words = sql.tokens(rule.sql, frozenset(columns), f"contract.rules.{name}")
        named = {word.text for word in words if word.kind == "column"}
        if not named:
            raise ConfigError(f"contract.rules.{name}: names no column: {rule.sql}")
        said |= named
        if (tree := sql.plain(words)) is not None and all(_comparable(pair) for pair in _pairs(tree, columns)):
            plain[name] = tree
    levels: dict[str, Level] = {name: rule.level for name, rule in rules.items()}
    return RowRules({n: r.sql for n, r in rules.items()}, levels, plain, {n: k for n, k in columns.items() if n in said})


def prove(rules: RowRules) -> None:
    """Let Polars and dataframely see every rule once. Raises: ConfigError."""
    if rules.texts:
        schema.prove(rules.texts, {name: (kind, True, Bounds()) for name, kind in rules.columns.items()})
        schema.judge(rules.columns, rules.texts)


def broken(rules: RowRules, values: Mapping[str, Array]) -> list[tuple[str, Mask]]:
    """Rules that some row breaks, with bool (rows,). `values` by column name, in declared types, null where at fault."""
    rows = len(next(iter(values.values()))) if values else 0
    if not rows or not rules.texts:
        return []
    suspects, asked = _look(rules, values, rows)
    if not asked:
        return []
    places = np.flatnonzero(suspects)
    needed = {name: _some(values[name], places) for name in rules.columns}
    found = schema.verdicts(schema.judge(rules.columns, asked), needed)
    return [(name, _spread(found[name], places, rows)) for name in asked if name in found]


def _look(rules: RowRules, values: Mapping[str, Array], rows: int) -> tuple[Mask, dict[str, str]]:
    """Rows that may break a rule, and the rules that they may break."""
    suspects, asked = np.zeros(rows, np.bool_), {}
    for name, tree in rules.plain.items():
        passed = _passes(tree, values)
        if not passed.all():
            suspects |= ~passed
            asked[name] = rules.texts[name]
    if others := {name: text for name, text in rules.texts.items() if name not in rules.plain}:
        for name, mask in schema.broken({n: plain_text(values[n]) for n in rules.columns}, others).items():
            suspects |= mask
            asked[name] = rules.texts[name]
    return suspects, asked


def _passes(tree: sql.Tree, values: Mapping[str, Array]) -> Mask:
    """True or NULL, per row. For AND and OR that is a question of the parts alone: false is false in each of them."""
    if isinstance(tree, sql.Both):
        parts = [_passes(part, values) for part in tree.parts]
        return np.asarray((np.logical_and if tree.every else np.logical_or).reduce(parts))
    if isinstance(tree, sql.IsNull):
        there = valid(values[tree.column])
        return ~there if tree.wanted else there
    sides = [values[side] if isinstance(side, str) else side for side in (tree.left, tree.right)]
    left, right = (raw_slots(side) if isinstance(side, pa.Array) else side for side in sides)
    passed = _SIGNS[tree.sign](left, right)
    for side in sides:
        if isinstance(side, pa.Array) and side.null_count:
            passed = passed | ~valid(side)
    return np.asarray(passed)


def _pairs(tree: sql.Tree, columns: Mapping[str, pa.DataType]) -> list[tuple[Any, Any]]:
    """What is compared with what: Arrow types, or numbers."""
    if isinstance(tree, sql.Both):
        return [pair for part in tree.parts for pair in _pairs(part, columns)]
    if isinstance(tree, sql.IsNull):
        return []
    left, right = (columns[side] if isinstance(side, str) else side for side in (tree.left, tree.right))
    return [(left, right)]


def _comparable(pair: tuple[Any, Any]) -> bool:
    """Whether numpy and Polars cannot but agree: numbers of one kind, or a column and a number that its type holds."""
    kinds = [side for side in pair if isinstance(side, pa.DataType)]
    numbers = [side for side in pair if not isinstance(side, pa.DataType)]
    if not kinds or not all(pa.types.is_integer(k) or k in (pa.float32(), pa.float64()) for k in kinds):
        return False
    if len(kinds) == 2:
        return bool(kinds[0] == kinds[1])
    kind, number = kinds[0], numbers[0]
    if pa.types.is_integer(kind):
        return isinstance(number, int) and abs(number) < 2**62 and (number >= 0 or pa.types.is_signed_integer(kind))
    return kind == pa.float64() or float(np.float32(number)) == number


def plain_text(values: Array) -> Array:
    return values.dictionary_decode() if isinstance(values, pa.DictionaryArray) else values


def _some(values: Array, places: np.ndarray[Any, Any]) -> Array:
    return plain_text(values.take(pa.array(places)))


def _spread(found: Mask, places: np.ndarray[Any, Any], rows: int) -> Mask:
    mask = np.zeros(rows, np.bool_)
    mask[places] = found
    return mask
