"""Rows that an import is tried on, and that become golden: from a sample, or drawn from the thresholds themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from scoring.errors import ConfigError, told
from scoring.models.bundle import input_schema
from scoring.models.forest_parts.shape import Feature, ForestShape
from scoring.settings import Column

DRAWN = 192
MOST_ROWS = 10_000  # of a sample that are looked at
_MOST_VALUES = 256  # of a feature
_ABSENT = 0.12  # share of values that are missing
_ARROW = {"double": "float64", "float": "float32", "large_string": "string"}


def read_sample(path: str) -> pa.Table:
    """The first rows of a Parquet or CSV file. Raises: ConfigError: it cannot be read."""
    try:
        if Path(path).suffix.lower() == ".csv":
            return pyarrow.csv.read_csv(path).slice(0, MOST_ROWS)
        return pa.Table.from_batches(*_first(path))
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"sample={path} cannot be read as Parquet (or CSV, if it is named so): {told(error)}.") from None


def _first(path: str) -> tuple[list[pa.RecordBatch], pa.Schema]:
    with pq.ParquetFile(path) as file:
        found, rows = [], 0
        for batch in file.iter_batches(MOST_ROWS):
            found.append(batch.slice(0, MOST_ROWS - rows))
            rows += found[-1].num_rows
            if rows == MOST_ROWS:
                break
        return found, file.schema_arrow


def types(path: str, sample: pa.Table) -> dict[str, str]:
    """Types of columns as they are declared; those of a CSV are guesses and say nothing."""
    if Path(path).suffix.lower() == ".csv":
        return {}
    return {field.name: _ARROW.get(str(field.type), str(field.type)) for field in sample.schema}


def of_sample(path: str, sample: pa.Table, inputs: dict[str, Column]) -> pa.Table:
    """The inputs, in their types. Raises: ConfigError: a column is missing, has values of another type, or ones not allowed."""
    schema = input_schema(inputs)
    if lacking := [name for name in schema.names if name not in sample.column_names]:
        raise ConfigError(f"sample={path} lacks the columns {', '.join(lacking[:5])}, of {len(lacking):,} that the model takes.")
    if not sample.num_rows:
        raise ConfigError(f"sample={path} has no rows.")
    columns = []
    for field in schema:
        try:
            columns.append(sample.column(field.name).cast(field.type))
        except pa.ArrowException:
            found = sample.column(field.name).type
            raise ConfigError(f"sample={path}: column {field.name!r} is {found}, which is not all {field.type}.") from None
    table = pa.Table.from_arrays(columns, schema=schema)
    for name, column in inputs.items():
        known, values = column.allowed, table.column(name)
        if values.null_count and not column.nullable:
            raise ConfigError(f"sample={path}: column {name!r} lacks values, which the library does not take for this model.")
        if known is not None and (other := set(values.unique().drop_null().to_pylist()) - set(known)):
            raise ConfigError(f"sample={path}: column {name!r} has {len(other):,} values that the model does not know.")
    return table


def drawn(shape: ForestShape, trees: Any, inputs: dict[str, Column]) -> pa.Table:
    """Rows of values at the thresholds, just below and above, far away and missing; of known categories and others."""
    random = np.random.default_rng(1)
    by_set = trees.categorical().numpy()
    asked, cuts = trees.feature.numpy(), trees.threshold.numpy()
    sets: dict[int, set[int]] = {}
    for node, held in trees.sets.items():
        sets.setdefault(int(asked[node]), set()).update(held)
    columns = []
    for place, feature in enumerate(shape.features):
        column = inputs[feature.column]
        if feature.categorical:
            values = _categories(feature, column, sets.get(place, set()))
        else:
            values = _numbers(np.unique(cuts[(asked == place) & ~by_set]), column.dtype, shape.smallest)
        chosen: list[Any] = [values[n] for n in random.integers(0, len(values), DRAWN)]
        if column.nullable:
            chosen = [None if lost else one for one, lost in zip(chosen, random.random(DRAWN) < _ABSENT, strict=True)]
        columns.append(pa.array(chosen, pa.type_for_alias(column.dtype)))  # type: ignore[call-overload]
    return pa.Table.from_arrays(columns, schema=input_schema(inputs))


def _numbers(cuts: np.ndarray[Any, Any], dtype: str, smallest: float) -> list[Any]:
    cuts = cuts[np.isfinite(cuts) & (np.abs(cuts) < 1e30)]
    if len(cuts) > _MOST_VALUES:
        cuts = cuts[np.linspace(0, len(cuts) - 1, _MOST_VALUES).astype(int)]
    if dtype == "bool":
        return [False, True]
    ends = np.array([0.0, *((cuts[0] - 1, cuts[-1] + 1) if len(cuts) else (-1, 1)), -1e6, 1e6])
    if dtype.startswith(("int", "uint")):
        limits = np.iinfo(dtype)
        near = np.concatenate([np.floor(cuts), np.ceil(cuts), np.floor(cuts) + 1, ends])
        return [int(one) for one in np.clip(near, limits.min, min(limits.max, 1 << 53))]
    exact = cuts.astype(dtype)
    up, down = (np.nextafter(exact, np.array(side, dtype)) for side in (np.inf, -np.inf))
    tiny = [smallest, -smallest, smallest / 10] if smallest else []
    return [float(one) for one in np.concatenate([exact, up, down, ends.astype(dtype), np.array(tiny, dtype)])]


def _categories(feature: Feature, column: Column, asked: set[int]) -> list[Any]:
    if feature.categories is not None:
        known = feature.categories.to_pylist()
        if column.allowed is not None:
            return known
        return [*known, "\u2026unseen" if column.dtype == "string" else 1 + max(map(int, filter(None, known)), default=0)]
    limit = np.iinfo(column.dtype)
    codes = {*sorted(asked)[:_MOST_VALUES], 0, max(asked, default=0) + 1, max(asked, default=0) + 40, -1}
    return sorted(code for code in codes if limit.min <= code <= limit.max)
