"""What is counted, column by column: the baseline's bin edges, its categories, and the step in which scores are added up.

A plan is made once, from training rows; every later count uses it, so that counts can be compared and merged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoring.types import digest

BINS = 8  # seven edges: an eighth of the training rows in each bin; every edge costs 0.1 ns a value
CATEGORIES = 24  # of a column are counted by name, if seen often enough; the others together
RARE = 20  # a value in fewer training rows than this is not kept: it may point at a person
_FEW = 32  # an integer column of at most so many values is one of categories
_IDENTIFIER = 0.2  # a text column with more distinct values than this share of its rows is one of names: only nulls are counted

Kind = Literal["number", "category", "nulls"]


@dataclass(frozen=True)
class Watched:
    """A column. `edges` ascend, each counts the values <= it. `values` are the texts of categories. Else only nulls are counted.
    `extremes`: whether the least and the largest value are kept, which are somebody's.
    """

    kind: Kind = "nulls"
    edges: tuple[float, ...] = ()
    values: tuple[str, ...] = ()
    extremes: bool = field(default=True, compare=False)


@dataclass(frozen=True)
class Output:
    """A score column. Its sum is counted in steps of 2**`step`, so that it is an integer."""

    edges: tuple[float, ...] = ()
    step: int = -20


@dataclass(frozen=True)
class Plan:
    """`segments`: columns of categories, each with the values within which everything is counted once more."""

    columns: dict[str, Watched]
    outputs: dict[str, Output]
    segments: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        columns = {n: [c.kind, list(c.edges), list(c.values)] for n, c in self.columns.items()}
        outputs = {n: [list(o.edges), o.step] for n, o in self.outputs.items()}
        return digest([columns, outputs, {k: list(v) for k, v in self.segments.items()}])[:16]


def bare(columns: Sequence[str], outputs: Sequence[str]) -> Plan:
    """Without a baseline: rows, nulls, and the sum of each score, which is what history needs."""
    return Plan({name: Watched() for name in columns}, {name: Output() for name in outputs})


def watched(array: pa.ChunkedArray[Any]) -> Watched:
    """How a column is to be counted, from a sample of training rows in their declared type."""
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if pa.types.is_temporal(kind) or len(array) == array.null_count:
        return Watched()
    if pa.types.is_floating(kind):
        return _number(array.drop_null().to_numpy().astype(np.float64))
    counted: Any = pc.value_counts((array.cast(kind) if kind is not array.type else array).drop_null())
    distinct, times = counted.field("values"), counted.field("counts").to_numpy()
    if pa.types.is_integer(kind) and len(distinct) > _FEW:
        return _number(array.drop_null().to_numpy().astype(np.float64))
    if len(distinct) > max(_FEW, _IDENTIFIER * times.sum()):
        return Watched()
    frequent = [n for n in np.argsort(-times, kind="stable")[:CATEGORIES].tolist() if times[n] >= RARE]
    return Watched("category", values=tuple(sorted(text(distinct[n].as_py()) for n in frequent)))


def discreet(watched: Watched, treatment: str | None) -> Watched:
    """What may be counted of a personal column: bins of what leaves generalised or as it is, nulls alone of everything else."""
    return replace(watched, extremes=False) if treatment in ("generalise", "pass") else Watched()


def countable(watched: Watched, dtype: str) -> bool:
    """Whether a column of this Arrow type can be counted so."""
    numeric = dtype.startswith(("float", "int", "uint", "double", "half"))
    categorical = dtype.startswith(("int", "uint", "bool", "string"))
    return {"number": numeric, "category": categorical, "nulls": True}[watched.kind]


def output(values: np.ndarray[Any, np.dtype[np.float32]]) -> Output:
    """`values` float32 (rows,): scores of training rows."""
    spread = float(np.std(values.astype(np.float64))) if len(values) else 0.0
    return Output(_number(values.astype(np.float64)).edges, int(np.floor(np.log2(spread))) - 16 if spread > 0 else -20)


def text(value: Any) -> str:
    """A category as text: the same for 7, np.int64(7) and "7"."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(values: np.ndarray[Any, np.dtype[np.float64]]) -> Watched:
    """Edges at the quantiles, held in float32, each once: tied values give fewer, unequal bins."""
    values = values[np.isfinite(values)]
    if not len(values):
        return Watched()
    found = np.quantile(values, np.arange(1, BINS) / BINS, method="lower")
    return Watched("number", tuple(dict.fromkeys(float(e) for e in found)))


def largest(column: Watched, array: pa.ChunkedArray[Any], most: int = 8) -> tuple[str, ...]:
    """The values of a column that make segments: the most frequent of its sample."""
    counted = Counter(text(value) for value in array.to_pylist())
    return tuple(sorted(column.values, key=lambda value: (-counted[value], value))[:most])
