"""A model may answer on a device only when it gives there the answers that its bundle promises (law 7)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from scoring.errors import ModelError
from scoring.models import Model
from scoring.models.bundle import EXPECTED, input_schema


def check_golden(model: Model, golden: pa.Table) -> None:
    """Score the golden inputs and compare.

    A score agrees when it is within tolerance x max(1, |expected|): absolute for probabilities, relative for large values.

    Raises:
        ModelError: a score does not agree (the worst one is named with row, column, difference and tolerance), or the model raised.
    """
    tolerance = model.tolerance["cpu" if model.device.type == "cpu" else "gpu"]
    try:
        found = scores(model, golden.select(list(model.inputs)))
    except (ModelError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except Exception as error:  # a user's module may raise anything
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"Bundle {model.name} raised on its golden rows: {type(error).__name__}: {reason}.") from error
    expected = np.column_stack([golden.column(EXPECTED + o).to_numpy() for o in model.outputs]).astype(np.float64)
    with np.errstate(invalid="ignore"):
        off = np.abs(found - expected) / np.maximum(1.0, np.abs(expected))
    off[np.isnan(off)] = np.inf
    row, place = np.unravel_index(int(off.argmax()), off.shape)
    if off[row, place] > tolerance:
        raise ModelError(
            f"Bundle {model.name} {model.version} does not give its golden scores on {model.device}: row {row}, column "
            f"{model.outputs[place]!r} is {found[row, place]:.9g}, expected {expected[row, place]:.9g}; "
            f"difference {off[row, place]:.3g}, tolerance {tolerance:.3g}. The bundle was altered or does not fit this machine."
        )


def scores(model: Model, table: pa.Table) -> np.ndarray[Any, Any]:
    """Float32 (rows, outputs) of a table that has the declared types."""
    batches = [b for b in table.to_batches() if b.num_rows]
    with torch.inference_mode():
        parts = [model.forward(model.encode(b).to(model.device)).cpu().numpy() for b in batches]
    return np.concatenate(parts) if parts else np.empty((0, len(model.outputs)), np.float32)


def score_table(model: Model, table: pa.Table) -> pa.Table:
    """Output columns for a table: cast to the declared types, score, name. Raises: ModelError: the inputs do not fit."""
    schema = input_schema(model.inputs)
    if lacking := [n for n in schema.names if n not in table.column_names]:
        raise ModelError(f"Input columns are missing: {', '.join(lacking)}.")
    try:
        typed = table.select(schema.names).cast(schema)
    except pa.ArrowException as error:
        raise ModelError(f"Input columns do not have the declared types: {error}.") from None
    return pa.table(dict(zip(model.outputs, scores(model, typed).T.copy(), strict=True)))
