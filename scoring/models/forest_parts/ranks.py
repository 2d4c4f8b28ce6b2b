"""Columns to ranks: how many thresholds of its feature lie below a value. Ranks take the branches of the values, exactly.

Whatever type a column has, its ranks are small integers, which trees compare fast, and which cross a bus in half the time of
float32 or a quarter of that of float64. The search is a binary one without branches, over a table padded to a power of two with
infinity, for many values at once (Schlegel, Gemulla & Lehner 2009, k-ary search on modern processors, DaMoN).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from scoring import ops
from scoring.models.buffers import bitmap, column, missing, values
from scoring.models.forest_parts.compiled import jit
from scoring.models.forest_parts.shape import Feature, ForestShape
from scoring.models.forest_parts.threads import spread
from scoring.models.rowwise import RowWise
from scoring.models.vocabulary import Vocabulary

_BLOCK = 512  # values searched at a time: places stay in the nearest cache


@dataclass(frozen=True)
class Ranks(RowWise):
    """`columns` int16 or int32 (features, rows): ranks and codes, the least integer where missing."""

    columns: torch.Tensor

    @property
    def rows(self) -> int:
        return self.columns.shape[1]

    def narrow(self, start: int, rows: int) -> Ranks:
        return Ranks(self.columns.narrow(1, start, rows))

    def to(self, device: torch.device) -> Ranks:
        return self if self.columns.device == device else Ranks(self.columns.to(device, non_blocking=True))


class Ranker:
    """Made once for a model from its shape and from a `Ranking` of its trees."""

    def __init__(self, shape: ForestShape, ranking: Any) -> None:
        self._dtype, self._shape = ranking.dtype, shape
        self._columns = [
            _Codes(feature) if cuts is None else _Search(feature, cuts.numpy(), ranking.less_equal, shape)
            for feature, cuts in zip(shape.features, ranking.cuts, strict=True)
        ]

    def ranks(self, batch: pa.RecordBatch) -> Ranks:
        """Pinned where there is a GPU. Raises: ModelError: a column is missing or of another type than declared."""
        found = torch.empty((len(self._columns), batch.num_rows), dtype=self._dtype, pin_memory=torch.cuda.is_available())
        rows: Any = found.numpy()
        spread(lambda start, stop: self._fill(batch, rows, range(start, stop)), len(self._columns), 1)
        return Ranks(found)

    def _fill(self, batch: pa.RecordBatch, rows: np.ndarray[Any, Any], places: Sequence[int]) -> None:
        least = np.iinfo(rows.dtype).min
        for place in places:
            one = self._columns[place]
            array = column(batch, one.name)
            one.fill(array, rows[place], least)


class _Search:
    """A number among the thresholds of its feature.

    `x < t` splits count thresholds that are not above a value, the others those below it. The first is what is left when those
    below are counted among the negatives.
    """

    def __init__(self, feature: Feature, cuts: np.ndarray[Any, Any], less_equal: bool, shape: ForestShape) -> None:
        self.name = feature.column
        self._rounded, self._smallest, self._negated = shape.rounded, shape.smallest, not less_equal
        self._cuts = -cuts[::-1] if self._negated else cuts
        narrow = ops.trees().directed(torch.from_numpy(self._cuts.copy()), True).numpy()
        self._narrow, self._wide = _padded(narrow), _padded(self._cuts)

    def fill(self, array: pa.Array[Any], out: np.ndarray[Any, Any], least: int) -> None:
        found = values(array, self.name)
        narrow = self._rounded or found.dtype.itemsize <= 2 or found.dtype == np.float32
        with np.errstate(over="ignore"):  # to infinity, as a library's cast does
            x = found.astype(np.float32 if narrow else np.float64, copy=False)
        known, bit = bitmap(array)
        table = self._narrow if narrow else self._wide
        _rank(x, known.numpy(), bit, table, len(self._cuts), self._negated, self._smallest, least, out)


class _Codes:
    """A category: its place in the vocabulary, else the integer itself, where all below 0 are -1."""

    def __init__(self, feature: Feature) -> None:
        self.name = feature.column
        self._vocabulary = None if feature.categories is None else Vocabulary(feature.categories)

    def fill(self, array: pa.Array[Any], out: np.ndarray[Any, Any], least: int) -> None:
        if self._vocabulary is None:
            np.copyto(out, np.clip(values(array, self.name), -1, np.iinfo(out.dtype).max), casting="unsafe")
            if (gone := missing(array)) is not None:
                out[gone] = least
            return
        codes = self._vocabulary.codes(array, self.name)
        one = codes.buffers
        slots = ops.arrow_codes()(
            [one.values.view(getattr(torch, one.dtype))], [one.bitmap], [one.bit], [codes.below], [codes.lookup]
        )[0].numpy()
        np.copyto(out, np.where(slots > 0, slots - 1, least), casting="unsafe")


def _padded(cuts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    table = np.full(1 << len(cuts).bit_length(), np.inf, cuts.dtype)
    table[: len(cuts)] = cuts
    return table


@jit
def _rank(x, bitmap, bit, table, count, negated, smallest, least, out):  # type: ignore[no-untyped-def]
    """`count` of the table are thresholds. Null, if there is a bitmap, and NaN become `least`."""
    place = np.zeros(_BLOCK, np.int32)
    near = np.zeros(_BLOCK, table.dtype)
    for start in range(0, len(x), _BLOCK):
        size = min(_BLOCK, len(x) - start)
        for r in range(size):
            value = x[start + r]
            value = table.dtype.type(0) if abs(value) <= smallest else value
            near[r] = -value if negated else value
            place[r] = 0
        half = np.int32(len(table) >> 1)
        while half > 0:
            for r in range(size):
                at = place[r]
                place[r] = at + (half if table[at + half - 1] < near[r] else np.int32(0))
            half >>= 1
        for r in range(size):
            rank = count - place[r] if negated else place[r]
            out[start + r] = least if near[r] != near[r] else rank
        if len(bitmap):
            for r in range(size):
                at = bit + start + r
                out[start + r] = out[start + r] if bitmap[at >> 3] >> (at & 7) & 1 else least
