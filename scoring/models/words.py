"""Known values of a column as tensors of a bundle: int64, or the UTF-8 bytes of strings and where each begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from scoring.errors import ModelError
from scoring.models.bundle import Bundle, Shapes

PREFIX = "vocabulary."


def tensors(column: str, known: pa.Array[Any]) -> dict[str, torch.Tensor]:
    if not pa.types.is_string(known.type):
        return {PREFIX + column: torch.from_numpy(known.cast(pa.int64()).to_numpy().copy())}
    words = [str(w).encode() for w in known.to_pylist()]
    offsets = np.cumsum([0] + [len(w) for w in words]).astype(np.int32)
    text = np.frombuffer(b"".join(words), np.uint8).copy()
    return {f"{PREFIX}{column}.bytes": torch.from_numpy(text), f"{PREFIX}{column}.offsets": torch.from_numpy(offsets)}


def shapes(bundle: Bundle, sizes: Mapping[str, int]) -> Shapes:
    """What the tensors of these columns must look like; the length of all words together is only known to the file."""
    wanted: Shapes = {}
    found = None
    for column, size in sizes.items():
        if bundle.inputs[column].dtype != "string":
            wanted[PREFIX + column] = (torch.int64, (size,))
            continue
        found = bundle.shapes() if found is None else found
        length = found.get(f"{PREFIX}{column}.bytes", (torch.uint8, (0,)))[1]
        wanted[f"{PREFIX}{column}.bytes"] = (torch.uint8, (length[0] if len(length) == 1 else 0,))
        wanted[f"{PREFIX}{column}.offsets"] = (torch.int32, (size + 1,))
    return wanted


def values(column: str, held: Mapping[str, torch.Tensor]) -> pa.Array[Any]:
    """Raises: ModelError: bytes and offsets that are no strings."""
    if (integers := held.get(PREFIX + column)) is not None:
        found: pa.Array[Any] = pa.array(integers.numpy())
        return found
    text, offsets = (held[f"{PREFIX}{column}.{part}"].numpy() for part in ("bytes", "offsets"))
    try:
        if offsets[0] != 0 or offsets[-1] != len(text) or (np.diff(offsets) < 0).any():
            raise ModelError("its offsets do not fit its bytes.")
        known: pa.Array[Any] = pa.StringArray.from_buffers(
            len(offsets) - 1, pa.py_buffer(offsets.tobytes()), pa.py_buffer(text.tobytes())
        )
        known.validate(full=True)
    except (pa.ArrowException, ModelError) as error:
        raise ModelError(f"weights.safetensors: the vocabulary of {column!r} is broken: {error}") from None
    return known
