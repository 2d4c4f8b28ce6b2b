"""Rules across the columns of a row: quick looks, and a judgement by dataframely where they find something.

Most rules compare sums of columns and numbers, and most windows are clean. First the least and largest values of the columns, known
already from their bounds, may show that no row can break a rule; then numpy compares value by value (0.06 ms per window of 65,536
rows); only then comes Polars (0.1 ms per rule and 0.2 ms per call; dataframely takes three times that). A look is sound, not final:
it may suspect a row for nothing, never pass one that breaks a rule. A value that is at fault itself counts as NULL: one fault is
told once.
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
from scoring.admit.implied import always, computable, exact
from scoring.admit.ranges import Bounds, Span, raw_slots, span, valid
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
    """`texts` are all rules. `bounded` are trees that spans may answer, `plain` those of them that numpy can answer, by value.

    `columns` are the names that any rule says, `named` those that each does.
    """

    texts: dict[str, str]
    levels: dict[str, Level]
    bounded: dict[str, sql.Tree]
    plain: frozenset[str]
    columns: dict[str, pa.DataType]
    named: dict[str, frozenset[str]]


def compile_rows(rules: Mapping[str, RowRule], columns: Mapping[str, pa.DataType]) -> RowRules:
    """Raises: ConfigError: a rule says what it may not say (see `sql`), or too many do."""
    if len(rules) > MAX_RULES:
        raise ConfigError(f"contract.rules: {len(rules):,} rules; at most {MAX_RULES} are evaluated.")
    bounded, plain, named = {}, set[str](), {}
    for name, rule in rules.items():
        words = sql.tokens(rule.sql, frozenset(columns), f"contract.rules.{name}")
        named[name] = frozenset(word.text for word in words if word.kind == "column")
        if not named[name]:
            raise ConfigError(f"contract.rules.{name}: names no column: {rule.sql}")
        tree = sql.plain(words)
        if tree is not None and computable(tree, columns):
            bounded[name] = tree
            if all(exact(compare, columns) for compare in _compares(tree)):
                plain.add(name)
    levels: dict[str, Level] = {name: rule.level for name, rule in rules.items()}
    said = {n: k for n, k in columns.items() if any(n in names for names in named.values())}
    return RowRules({n: r.sql for n, r in rules.items()}, levels, bounded, frozenset(plain), said, named)


def prove(rules: RowRules) -> None:
    """Let Polars and dataframely see every rule once. Raises: ConfigError."""
    if rules.texts:
        schema.prove(rules.texts, {name: (kind, True, Bounds()) for name, kind in rules.columns.items()})
        schema.judge(rules.columns, rules.texts)


def broken(rules: RowRules, values: Mapping[str, Array], spans: Mapping[str, Span] | None = None) -> list[tuple[str, Mask]]:
    """Rules that some row breaks, with bool (rows,).

    `values` by column name, in declared types, null where at fault; `spans` of columns of which they are known.
    """
    rows = len(next(iter(values.values()))) if values else 0
    if not rows or not rules.texts:
        return []
    suspects, asked = _look(rules, values, dict(spans or {}), rows)
    if not asked:
        return []
    places = np.flatnonzero(suspects)
    needed = {name: _some(values[name], places) for name in rules.columns}
    found = schema.verdicts(schema.judge(rules.columns, asked), needed)
    return [(name, _spread(found[name], places, rows)) for name in asked if name in found]


def _look(rules: RowRules, values: Mapping[str, Array], spans: dict[str, Span], rows: int) -> tuple[Mask, dict[str, str]]:
    """Rows that may break a rule, and the rules that they may break."""
    suspects, asked, others = np.zeros(rows, np.bool_), {}, {}
    for name, text in rules.texts.items():
        plain, known = name in rules.plain, rules.named[name] <= spans.keys()
        if name in rules.bounded and (known or not plain) and _sure(rules, name, values, spans):
            continue  # spans that have to be looked up cost what comparing costs, and less than Polars
        if not plain:
            others[name] = text
        elif not (passed := _passes(rules.bounded[name], values)).all():
            suspects |= ~passed
            asked[name] = text
    if others:
        needed = frozenset().union(*(rules.named[name] for name in others))
        for name, mask in schema.broken({n: plain_text(values[n]) for n in needed}, others).items():
            suspects |= mask
            asked[name] = others[name]
    return suspects, asked


def _sure(rules: RowRules, name: str, values: Mapping[str, Array], spans: dict[str, Span]) -> bool:
    """Whether spans alone say that no row breaks the rule. What is not known yet is looked up, once a window."""
    for column in rules.named[name] - spans.keys():
        kind = values[column].type
        spans[column] = span(raw_slots(values[column])) if pa.types.is_integer(kind) or pa.types.is_floating(kind) else (None, None)
    return always(rules.bounded[name], spans, rules.columns)


def _passes(tree: sql.Tree, values: Mapping[str, Array]) -> Mask:
    """True or NULL, per row. For AND and OR that is a question of the parts alone: false is false in each of them."""
    if isinstance(tree, sql.Both):
        parts = [_passes(part, values) for part in tree.parts]
        return np.asarray((np.logical_and if tree.every else np.logical_or).reduce(parts))
    if isinstance(tree, sql.IsNull):
        there = valid(values[tree.column])
        return ~there if tree.wanted else there
    sides: list[Any] = [values[side] if isinstance(side, str) else side for side in (tree.left, tree.right)]
    left, right = (raw_slots(side) if isinstance(side, pa.Array) else side for side in sides)
    passed = _SIGNS[tree.sign](left, right)
    for side in sides:
        if isinstance(side, pa.Array) and side.null_count:
            passed = passed | ~valid(side)
    return np.asarray(passed)


def _compares(tree: sql.Tree) -> list[sql.Compare]:
    if isinstance(tree, sql.Both):
        return [compare for part in tree.parts for compare in _compares(part)]
    return [tree] if isinstance(tree, sql.Compare) else []


def plain_text(values: Array) -> Array:
    return values.dictionary_decode() if isinstance(values, pa.DictionaryArray) else values


def _some(values: Array, places: np.ndarray[Any, Any]) -> Array:
    return plain_text(values.take(pa.array(places)))


def _spread(found: Mask, places: np.ndarray[Any, Any], rows: int) -> Mask:
    mask = np.zeros(rows, np.bool_)
    mask[places] = found
    return mask
