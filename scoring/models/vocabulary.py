"""Values of a category to slots of its embedding table: 1 to size in vocabulary order, 0 for anything else and for null."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from scoring.errors import ModelError
from scoring.models.buffers import NO_BITS, Buffers, buffers, missing, values

UNKNOWN = 0  # slot of a category: values outside the vocabulary, and null
_DENSE_SPAN = 65_536  # integer vocabularies up to this span, or 32 times their size, become a table
_READY = torch.empty(0, dtype=torch.int32)


@dataclass(frozen=True)
class Codes:
    """Integers of a column and how they become slots: lookup[clip(value - below)], or as they are without a lookup; null is 0.
    `lasting`: the lookup is the vocabulary's own and the same for every window.
    """

    buffers: Buffers
    below: int = 0
    lookup: torch.Tensor = _READY
    lasting: bool = False


class Vocabulary:
    """Of integers or strings."""

    def __init__(self, known: pa.Array[Any]) -> None:
        """Raises: ModelError: nulls or repeated values."""
        if known.null_count or len(pc.unique(known)) != len(known):
            raise ModelError("A vocabulary may hold neither null nor a value twice.")
        self.known = known
        self._integers = None if pa.types.is_string(known.type) else _Integers(known.cast(pa.int64()).to_numpy())

    def codes(self, array: pa.Array[Any], name: str) -> Codes:
        """Strings may come plain or as a dictionary. Raises: ModelError: neither fits the vocabulary."""
        if isinstance(array, pa.DictionaryArray):
            by_code = np.zeros(max(len(array.dictionary), 1), np.int32)
            by_code[: len(array.dictionary)] = self._slots(array.dictionary, name)
            return Codes(buffers(array.indices, name), 0, torch.from_numpy(by_code))
        if self._integers is not None and self._integers.table is not None and pa.types.is_integer(array.type):
            return Codes(buffers(array, name), self._integers.below, self._integers.table, lasting=True)
        slots = self._slots(array, name)
        return Codes(Buffers(torch.from_numpy(slots.view(np.uint8)), "int32", 0, NO_BITS, 0, array))

    def _slots(self, array: pa.Array[Any], name: str) -> np.ndarray[Any, Any]:
        """Int32 slots, made on the host."""
        if self._integers is None:
            return self._strings(array, name)
        slots = self._integers.slots(values(array, name))
        if (gone := missing(array)) is not None:
            slots[gone] = UNKNOWN
        return slots

    def _strings(self, array: pa.Array[Any], name: str) -> np.ndarray[Any, Any]:
        if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type)):
            raise ModelError(f"Input column {name!r} is {array.type}, expected string.")
        found = pc.index_in(array if array.type == pa.string() else array.cast(pa.string()), value_set=self.known)
        places = values(found, name).astype(np.int32)
        places += 1
        if (gone := missing(found)) is not None:
            places[gone] = UNKNOWN
        return places


class _Integers:
    """One table look-up where values lie close together, else a binary search."""

    def __init__(self, known: np.ndarray[Any, Any]) -> None:
        self._order = np.argsort(known, kind="stable")
        self._sorted = known[self._order]
        low, high = (int(self._sorted[0]), int(self._sorted[-1])) if len(known) else (0, 0)
        self.below = low - 1
        self.table: torch.Tensor | None = None
        if self.below >= np.iinfo(np.int64).min and high - low <= max(_DENSE_SPAN, 32 * len(known)):
            places = np.zeros(high - low + 3, np.int32)  # both ends stay unknown: out-of-range values are clipped to them
            places[known - self.below] = np.arange(1, len(known) + 1, dtype=np.int32)
            self.table = torch.from_numpy(places)

    def slots(self, found: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """A difference that wraps around is outside the table too, so that extreme values are safe."""
        if found.dtype.kind not in "iub":
            raise ModelError(f"A category column with an integer vocabulary came as {found.dtype}.")
        if self.table is not None:
            places: np.ndarray[Any, Any] = np.subtract(found, self.below, dtype=np.int64)
            known: np.ndarray[Any, Any] = self.table.numpy()
            return known.take(places, mode="clip")
        wide = found.astype(np.int64, copy=False)
        place = np.minimum(np.searchsorted(self._sorted, wide), len(self._sorted) - 1)
        return np.where(self._sorted[place] == wide, self._order[place] + 1, UNKNOWN).astype(np.int32)
