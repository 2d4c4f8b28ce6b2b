"""Predictions of the source libraries, where they are installed: what an import is held to."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoring.models.foreign_trees.found import Numbers, Predict, Predicted, installed


def matrix(table: pa.Table, categories: Mapping[int, pa.Array[Any] | None]) -> Numbers:
    """float64 (rows, features), nulls NaN; a categorical column as its codes, what is not among its values NaN."""
    columns = []
    for place, column in enumerate(table.columns):
        known = categories.get(place)
        numbers: Any = pc.index_in(column, known) if known is not None else column
        columns.append(np.asarray(numbers.cast(pa.float64()).to_numpy(), np.float64))
    return np.column_stack(columns)


def booster(
    model: bytes,
    version: tuple[int, ...],
    rounds: int,
    names: Sequence[str],
    categorical: Iterable[int],
    categories: Mapping[int, pa.Array[Any] | None],
    objective: str,
) -> Predict | None:
    """XGBoost's own, if it is not older than the file; older ones misread newer files without a word."""
    xgboost = installed("xgboost")
    if xgboost is None or _release(xgboost.__version__) < version[:2]:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            opened = xgboost.Booster(model_file=bytearray(model))
        except xgboost.core.XGBoostError:
            return None
    kinds = ["c" if place in set(categorical) else "q" for place in range(len(names))]

    def predict(table: pa.Table) -> Predicted:
        rows = matrix(table, categories)
        opened.feature_names = opened.feature_types = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = xgboost.DMatrix(rows, feature_types=kinds, enable_categorical=True)
            span = (0, rounds)
            margins = opened.predict(given, output_margin=True, iteration_range=span).astype(np.float64)
            scores = opened.predict(given, iteration_range=span).astype(np.float64)
        margins, scores = margins.reshape(len(rows), -1), scores.reshape(len(rows), -1)
        if objective == "multi:softmax":
            return Predicted(margins, None, scores[:, 0].astype(np.int64))
        return Predicted(margins, scores)

    return predict


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
