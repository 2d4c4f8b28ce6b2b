"""A model may answer on a device only when it gives there the answers that its bundle promises (law 7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from scoring import columns
from scoring.errors import ModelError, told, unseen
from scoring.models import Encoded, Model
from scoring.models.bundle import EXPECTED, input_schema
from scoring.types import Output

TOKENS = 16_384  # scored at once of models whose cost is tokens
Some = TypeVar("Some", bound=Encoded)


@dataclass(frozen=True)
class Deviation:
    """The golden score that is farthest off: `most` = |found - expected| / max(1, |expected|)."""

    most: float
    row: int
    column: str
    found: float
    expected: float


def check_golden(model: Model, golden: pa.Table, tolerance: float) -> None:
    """Score the golden inputs and compare.

    A score agrees when it is within `tolerance` x max(1, |expected|): absolute for probabilities, relative for large values.

    Raises:
        ModelError: a score does not agree (the worst one is named with row, column, difference and tolerance), or the model raised.
    """
    try:
        off = deviation(model, golden)
    except (ModelError, MemoryError, torch.OutOfMemoryError, torch.AcceleratorError):
        raise
    except Exception as error:  # a user's module may raise anything, and golden rows were people's once
        raise ModelError(f"Bundle {model.name} raised on its golden rows: {unseen(error)}.") from error
    if off.most > tolerance:
        raise ModelError(
            f"Bundle {model.name} {model.version} does not give its golden scores on {model.device}: row {off.row}, column "
            f"{off.column} is {off.found:.9g}, expected {off.expected:.9g}; "
            f"difference {off.most:.3g}, tolerance {tolerance:.3g}. The bundle was altered or does not fit this machine."
        )


def deviation(model: Model, golden: pa.Table) -> Deviation:
    """How far the scores of the golden inputs are off. Raises: whatever the model raises."""
    found = scores(model, golden.select(list(model.inputs)))
    expected = np.column_stack([_numbers(golden.column(EXPECTED + o.name), o.width) for o in model.outputs]).astype(np.float64)
    with np.errstate(invalid="ignore"):
        off = np.abs(found - expected) / np.maximum(1.0, np.abs(expected))
    off[np.isnan(off)] = np.inf
    row, place = np.unravel_index(int(off.argmax()), off.shape)
    worst = (float(off[row, place]), int(row), _named(model.outputs, int(place)))
    return Deviation(*worst, float(found[row, place]), float(expected[row, place]))


def scores(model: Model, table: pa.Table) -> np.ndarray[Any, Any]:
    """Float32 (rows, sum of widths) of a table that has the declared types."""
    parts = [_scores(model, batch) for batch in table.to_batches() if batch.num_rows]
    return np.concatenate(parts) if parts else np.empty((0, columns.width(model.outputs)), np.float32)


def score_table(model: Model, table: pa.Table) -> pa.Table:
    """Output columns for a table: cast to the declared types, score, name. Raises: ModelError: the inputs do not fit."""
    schema = input_schema(model.inputs)
    if lacking := [n for n in schema.names if n not in table.column_names]:
        raise ModelError(f"Input columns are missing: {', '.join(lacking)}.")
    try:
        typed = table.select(schema.names).cast(schema)
    except pa.ArrowException as error:
        raise ModelError(f"Input columns do not have the declared types: {told(error)}.") from None
    return pa.Table.from_arrays(columns.arrays(model.outputs, scores(model, typed)), schema=columns.schema(model.outputs))


def _scores(model: Model, batch: pa.RecordBatch) -> np.ndarray[Any, Any]:
    """In pieces where memory grows with what is in a row, not with rows."""
    encoded = model.encode(batch).to(model.device)
    at_once = encoded.rows if model.unit == "rows" else TOKENS
    with torch.inference_mode():
        found = np.concatenate([model.forward(piece).cpu().numpy() for piece in pieces(encoded, at_once)])
    return found if encoded.order is None else found[encoded.order]


def pieces(encoded: Some, budget: int) -> Iterator[Some]:
    """All items in order, as many at a time as `budget` allows."""
    start = 0
    while start < encoded.rows:
        count = encoded.fit(start, budget)
        yield encoded if count == encoded.rows else cast(Some, encoded.narrow(start, count))
        start += count


def _numbers(column: pa.ChunkedArray[Any], width: int) -> np.ndarray[Any, Any]:
    """Float32 (rows, width); null is NaN."""
    flat: Any = column if width == 1 else pc.list_flatten(column)
    return np.asarray(flat.to_numpy()).reshape(-1, width)


def _named(outputs: tuple[Output, ...], place: int) -> str:
    """The output that a number belongs to, and its position if that is a vector."""
    for output in outputs:
        if place < output.width:
            return repr(output.name) if output.width == 1 else f"{output.name!r} at position {place}"
        place -= output.width
    raise AssertionError(f"No output has a number {place} places behind the last. This is a bug.")
