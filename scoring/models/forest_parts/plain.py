"""What a forest means, computed slowly, in float64: rows of a table down every tree. Every faster path is tested against it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from scoring import ops
from scoring.models.forest_parts.answer import Answer
from scoring.models.forest_parts.cover import Cover
from scoring.models.forest_parts.shape import Feature, ForestShape

Numbers = np.ndarray[Any, np.dtype[np.float64]]


def features(shape: ForestShape, table: pa.Table) -> Numbers:
    """Float64 (features, rows): numbers as they are compared, codes of categories; NaN where missing."""
    found = np.empty((len(shape.features), table.num_rows))
    for row, feature in zip(found, shape.features, strict=True):
        row[:] = _column(feature, table.column(feature.column))
        if not feature.categorical:
            with np.errstate(over="ignore"):  # to infinity, as a library's cast does
                row[:] = row.astype(np.float32) if shape.rounded else row
            row[np.abs(row) <= shape.smallest] = 0.0
    return found


def _column(feature: Feature, column: pa.ChunkedArray[Any]) -> Numbers:
    if feature.categories is None:
        return np.array([np.nan if value is None else float(value) for value in column.to_pylist()], np.float64)
    code = {value: float(place) for place, value in enumerate(feature.categories.to_pylist())}
    return np.array([code.get(value, np.nan) for value in column.to_pylist()], np.float64)


def margins(shape: ForestShape, trees: Any, table: pa.Table) -> Numbers:
    """Float64 (rows, margins)."""
    given = features(shape, table)
    sums = np.tile(trees.base.double().numpy(), (table.num_rows, 1))
    leaves, width = trees.leaves.double().numpy(), trees.leaves.shape[1]
    nodes = {name: getattr(trees, name).numpy() for name in ("feature", "left", "right", "default_left")}
    nodes["threshold"] = trees.threshold.double().numpy()
    output = np.zeros(len(trees.roots), np.int64) if trees.output is None else trees.output.numpy()
    for tree, root in enumerate(trees.roots.tolist()):
        reached = leaves[_leaves(root, nodes, trees.sets, trees.less_equal, given)]
        sums[:, output[tree] * width : (output[tree] + 1) * width] += reached
    return sums


def _leaves(root: int, nodes: dict[str, Any], sets: Any, less_equal: bool, given: Numbers) -> np.ndarray[Any, Any]:
    """The leaf of each row in the tree at `root`."""
    at = np.full(given.shape[1], root)
    while (inner := np.flatnonzero(at >= 0)).size:
        for node in np.unique(at[inner]).tolist():
            rows = np.flatnonzero(at == node)
            x = given[nodes["feature"][node], rows]
            if node in sets:
                left = np.isin(np.trunc(x), np.array(list(sets[node]), np.float64)) & (x >= 0)
            else:
                left = x <= nodes["threshold"][node] if less_equal else x < nodes["threshold"][node]
            left = np.where(np.isnan(x), nodes["default_left"][node], left)
            at[rows] = np.where(left, nodes["left"][node], nodes["right"][node])
    return ~at


def outputs(shape: ForestShape, trees: Any, cover: Cover | None, table: pa.Table) -> Numbers:
    """Float64 (rows, sum of widths), as `shape.outputs` has them."""
    ranking = ops.trees().Ranking.of(trees, len(shape.features))
    ranks = ranking.ranks(torch.from_numpy(features(shape, table)))
    return Answer(shape, trees, cover, ranking).outputs(torch.from_numpy(margins(shape, trees, table)), ranks).numpy()
