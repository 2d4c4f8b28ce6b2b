"""Write a forest bundle: what an import ends in, and what the loader in `forest` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from scoring.models import words
from scoring.models.bundle import EXPECTED, describe_inputs, input_schema, write
from scoring.models.forest_parts import tensors
from scoring.models.forest_parts.cover import Cover
from scoring.models.forest_parts.shape import ForestShape, check_shape
from scoring.settings import Column

TOLERANCE = {"gpu": 1e-6, "cpu": 1e-6}  # sums are the same everywhere; links are of the device


def write_forest(
    folder: str | Path,
    *,
    name: str,
    version: str,
    inputs: dict[str, Column],
    shape: ForestShape,
    trees: Any,
    cover: Cover | None,
    golden: pa.Table,
    expected: np.ndarray[Any, Any],
    source: str,
    tolerance: dict[str, float] | None = None,
) -> Path:
    """Write the bundle; `golden` are rows of the inputs, `expected` (rows, sum of widths) what they score, as `shape.outputs` are.

    Args:
        trees: a `Trees`; averages and weights of trees are in its leaves.
        source: what the trees were read from, e.g. "xgboost 3.2.0, binary:logistic".
        tolerance: by route; see `Bundle.tolerance`.

    Raises: ModelError: the shape cannot be.
    """
    check_shape(shape, name)
    manifest = {"family": "forest", "name": name, "version": version, "inputs": describe_inputs(inputs)}
    manifest |= {"tolerance": dict(tolerance or TOLERANCE), "source": source, "less_equal": trees.less_equal} | shape.describe()
    held = tensors.written(trees, cover)
    for feature in shape.features:
        if feature.categories is not None:
            held |= words.tensors(feature.column, feature.categories)
    typed = golden.select(list(inputs)).cast(input_schema(inputs)).combine_chunks()
    start = 0
    for output in shape.outputs:
        part = np.ascontiguousarray(expected[:, start : start + output.width], np.float32)
        column = (
            pa.array(part[:, 0])
            if output.width == 1
            else pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), output.width)
        )
        typed = typed.append_column(EXPECTED + output.name, column)
        start += output.width
    return write(folder, manifest, held, typed)
