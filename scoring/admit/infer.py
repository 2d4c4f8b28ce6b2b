"""A first contract from a sample: what was seen, widened with sense, and said in comments. For a person to read and to correct.

No value of a column with more than 20 distinct texts is shown, nor of one that looks like an id or free text: their lengths and
shapes are. Numbers are shown as round bounds, those of ids not at all.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from scoring.admit.coerce import Array, convert

MOST_ALLOWED, _LONGEST, _ROWS_PER_VALUE = 20, 40, 10
_READABLE = 0.98  # of the texts of a column that have to be numbers or dates for it to be declared so
_ID_SHARE = 0.95  # distinct among all, beyond which integers count as ids
_DENSE = 100  # distinct integers up to which their own bounds are kept
_SHOWN_SHAPES = 3
_SIMPLE = (
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float32",
    "float64",
    "bool",
    "string",
    "date32",
)


@dataclass
class Seen:
    """One column: what to declare, and what was seen, for a comment. `unique` says that no value came twice."""

    said: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    unique: bool = False


def look(values: Array) -> Seen:
    """Raises nothing: a column of a type that no contract can hold to has nothing `said`."""
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    rows, nulls = len(values), values.null_count
    there = values.drop_null()
    values, odd = _typed(there)
    dtype = _named(values.type)
    if dtype is None or not rows:
        return Seen({}, [f"not declared: {values.type}" if rows else "no rows"])
    seen = Seen({"dtype": dtype, "nullable": nulls > 0})
    seen.notes.append(f"{nulls / rows:.2g} of rows null" if nulls else "no nulls")
    if odd:
        seen.notes.append(f"{odd:,} of {len(there):,} texts are not {dtype}")
    distinct = int(pc.count_distinct(values).as_py() or 0)
    seen.notes.append(f"{distinct:,} distinct")
    seen.unique = distinct == rows
    if pa.types.is_string(values.type):
        _texts(seen, values, distinct)
    elif pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        _numbers(seen, values, distinct)
    elif pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        seen.notes.append("could have role: time")
    return seen


def _typed(values: Array) -> tuple[Array, int]:
    """Texts as what nearly all of them are, and how many are not."""
    if pa.types.is_large_string(values.type) or pa.types.is_string_view(values.type):
        values = values.cast(pa.string())
    if pa.types.is_decimal(values.type):
        return values.cast(pa.float64()), 0
    if not pa.types.is_string(values.type) or not len(values):
        return values, 0
    for target in (pa.bool_(), pa.int64(), pa.float64(), pa.date32(), pa.timestamp("us")):
        done = convert(values, target, coerce=True).values
        if done.null_count <= (1 - _READABLE) * len(values):
            return done.drop_null(), done.null_count
    return values, 0


def _named(kind: pa.DataType) -> str | None:
    """As a contract spells it, if it can."""
    for name in _SIMPLE:
        if kind == pa.type_for_alias(cast(Any, name)):
            return name
    return str(kind) if pa.types.is_timestamp(kind) and kind.tz is None else None


def _texts(seen: Seen, values: Array, distinct: int) -> None:
    if not len(values):
        return
    sizes = pc.utf8_length(cast(pa.StringArray, values)).to_numpy(zero_copy_only=False)
    shortest, longest = int(sizes.min()), int(sizes.max())
    if distinct <= MOST_ALLOWED and len(values) >= _ROWS_PER_VALUE * distinct and longest <= _LONGEST:
        seen.said["allowed"] = sorted(values.unique().to_pylist())
        return
    seen.notes.append(f"lengths {shortest} to {longest}")
    shapes = Counter(_shape(str(text)) for text in values.slice(0, 10_000).to_pylist())
    common = shapes.most_common(_SHOWN_SHAPES)
    if len(shapes) == 1 and len(values) >= 100:
        seen.said["pattern"] = common[0][0]
        seen.notes.append("all of one shape; an id? then add role: id")
    else:
        seen.notes.append("shapes " + ", ".join(f"{shape} ({n / sum(shapes.values()):.0%})" for shape, n in common))


def _shape(text: str) -> str:
    """Classes of characters in place of characters, as a regular expression that keeps the lengths of runs."""
    kinds = [r"\d" if c.isdigit() else "[A-Z]" if c.isupper() else "[a-z]" if c.isalpha() else "." for c in text[:_LONGEST]]
    runs: list[list[Any]] = []
    for kind in kinds:
        if runs and runs[-1][0] == kind:
            runs[-1][1] += 1
        else:
            runs.append([kind, 1])
    return "".join(kind + (f"{{{n}}}" if n > 1 else "") for kind, n in runs) + (".*" if len(text) > _LONGEST else "")


def _numbers(seen: Seen, values: Array, distinct: int) -> None:
    whole = pa.types.is_integer(values.type)
    if whole and distinct > _ID_SHARE * len(values) and distinct > _DENSE:
        seen.said["role"] = "id"
        seen.notes.append("nearly every value once: an id?")
        return
    raw = values.to_numpy(zero_copy_only=False)
    finite = raw[np.isfinite(raw)]
    if len(finite) < len(raw):
        seen.notes.append(f"{len(raw) - len(finite):,} are NaN or infinite, which a contract does not admit")
    if distinct < 2 or not len(finite):
        return
    low, high = finite.min().item(), finite.max().item()
    if not (whole and distinct <= _DENSE and high - low < 2 * _DENSE):
        reach = (high - low) / 2
        low, high = (0 if low >= 0 else _rounded(low - reach, math.floor)), _rounded(high + reach, math.ceil)
    seen.said |= {"min": int(low) if whole else low, "max": int(high) if whole else high}


def _rounded(value: float, way: Any) -> float:
    """To one digit: 1234.5 -> 2000 or 1000."""
    if not value:
        return 0.0
    unit = 10.0 ** math.floor(math.log10(abs(value)))
    return float(f"{way(value / unit) * unit:.12g}")


def written(columns: dict[str, Seen], heading: list[str]) -> str:
    """The contract as commented YAML."""
    lines = [f"# {line}" for line in heading] + ["columns:"]
    for name, seen in columns.items():
        inner = yaml.safe_dump(seen.said, default_flow_style=True, sort_keys=False, width=10_000).strip()
        notes = re.sub(r"[^\x20-\x7e]", "?", "; ".join(seen.notes))
        key = name if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) and yaml.safe_load(name) == name else json.dumps(name)
        lines.append(f"  {key}: {inner}  # {notes}" if seen.said else f"  # {key}  {notes}")
    if not any(seen.said for seen in columns.values()):
        lines[-len(columns) - 1] = "columns: {}"
    keys = [name for name, seen in columns.items() if seen.unique and not str(seen.said.get("dtype", "")).startswith("float")]
    found = f"in the sample no value of these came twice: {', '.join(map(repr, keys))}" if keys else "no column was without doubles"
    return "\n".join([*lines, *_REST, f"unique: []  # {found}", ""])


_REST = (
    'rules: {}   # across columns, e.g. {paid_in_full: {sql: "paid <= amount", level: warn}}',
    'limits: {}  # e.g. {"amount:range": {share: 0.001}, total: {share: 0.01, level: warn}}',
    "min_rows: null",
    "max_rows: null",
    "freshness_hours: null  # needs a column with role: time",
    "coerce: true",
)
