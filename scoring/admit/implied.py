"""Whether a rule holds for all rows because of how small and how large its columns are: interval arithmetic on spans.

Sound for what Polars computes: where a comparison is not exact in one type, or adds and multiplies, spans are widened by far more
than float32 rounds; integers that might overflow their type are not answered for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from scoring.admit import sql
from scoring.admit.ranges import Span

_SLACK, _MOST = 1e-5, 2e9  # of a bound; of an integer that is computed with
_SUMMABLE = (pa.float32(), pa.float64(), pa.int32(), pa.int64())
Kinds = Mapping[str, pa.DataType]


def computable(tree: sql.Tree, columns: Kinds) -> bool:
    """Whether all that is compared is a number, and all that is added up a number of 32 or 64 bits."""
    if isinstance(tree, sql.Both):
        return all(computable(part, columns) for part in tree.parts)
    if isinstance(tree, sql.IsNull):
        return True
    sides = (tree.left, tree.right)
    return all(_number(side, columns) for side in sides) and not all(isinstance(side, (int, float)) for side in sides)


def exact(compare: sql.Compare, columns: Kinds) -> bool:
    """Whether both sides have one type without rounding: columns of one type, or a column and a number that its type holds."""
    kinds = [columns[side] for side in (compare.left, compare.right) if isinstance(side, str)]
    numbers = [side for side in (compare.left, compare.right) if isinstance(side, (int, float))]
    if len(kinds) + len(numbers) < 2 or not kinds or not all(_plain(kind) for kind in kinds):
        return False
    if len(kinds) == 2:
        return bool(kinds[0] == kinds[1])
    kind, number = kinds[0], numbers[0]
    if pa.types.is_integer(kind):
        return isinstance(number, int) and abs(number) < 2**62 and (number >= 0 or pa.types.is_signed_integer(kind))
    return kind == pa.float64() or float(np.float32(number)) == number


def always(tree: sql.Tree, spans: Mapping[str, Span], columns: Kinds) -> bool:
    """True: every row passes, nulls included. False: not known."""
    if isinstance(tree, sql.Both):
        return (all if tree.every else any)(always(part, spans, columns) for part in tree.parts)
    if isinstance(tree, sql.IsNull):
        return False
    left, right = _reach(tree.left, spans), _reach(tree.right, spans)
    if left is None or right is None:
        return False
    if not exact(tree, columns):
        left, right = _widened(left), _widened(right)
    return _holds(tree.sign, left, right)


def _holds(sign: str, left: Span, right: Span) -> bool:
    if sign in ("<", "<="):
        return bool(left[1] < right[0] if sign == "<" else left[1] <= right[0])
    if sign in (">", ">="):
        return bool(left[0] > right[1] if sign == ">" else left[0] >= right[1])
    return sign == "!=" and bool(left[1] < right[0] or left[0] > right[1])


def _reach(term: sql.Term, spans: Mapping[str, Span]) -> Span | None:
    """Least and largest value that a term can have."""
    if isinstance(term, (int, float)):
        return term, term
    if isinstance(term, str):
        low, high = spans[term]
        return None if low is None or not (math.isfinite(low) and math.isfinite(high)) else (low.item(), high.item())
    left, right = _reach(term.left, spans), _reach(term.right, spans)
    if left is None or right is None:
        return None
    low, high = _computed(term.sign, left, right)
    return (low, high) if max(abs(low), abs(high)) <= _MOST else None


def _computed(sign: str, left: Span, right: Span) -> Span:
    if sign == "abs":
        return (0 if left[0] <= 0 <= left[1] else min(abs(left[0]), abs(left[1]))), max(abs(left[0]), abs(left[1]))
    if sign == "*":
        corners = [one * other for one in left for other in right]
        return min(corners), max(corners)
    return (left[0] + right[0], left[1] + right[1]) if sign == "+" else (left[0] - right[1], left[1] - right[0])


def _widened(reach: Span) -> Span:
    slack = _SLACK * max(abs(reach[0]), abs(reach[1])) + 1e-30
    return reach[0] - slack, reach[1] + slack


def _number(term: sql.Term, columns: Kinds) -> bool:
    if isinstance(term, str):
        return _plain(columns[term])
    return isinstance(term, (int, float)) or all(_summable(side, columns) for side in (term.left, term.right))


def _summable(term: sql.Term, columns: Kinds) -> bool:
    if isinstance(term, str):
        return columns[term] in _SUMMABLE
    return abs(term) <= _MOST if isinstance(term, (int, float)) else _number(term, columns)


def _plain(kind: Any) -> bool:
    return pa.types.is_integer(kind) or kind in (pa.float32(), pa.float64())
