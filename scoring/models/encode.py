"""Arrow columns to the two matrices of the tabular family, straight from Arrow's buffers, by the operators of kernels/.

On a CPU the operators read the buffers where they lie. For a GPU the buffers of a window are copied into one arena, go over in one
copy and are decoded there: bitmaps, types and dictionary codes cross the bus as Arrow has them, which is often a quarter of what
float32 and int32 matrices would take. There the summary's counts come from the same pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch

from scoring import ops
from scoring.models.arena import Arena, taken
from scoring.models.buffers import Buffers, buffers, column
from scoring.models.rowwise import RowWise
from scoring.models.vocabulary import Codes, Vocabulary
from scoring.watch.tally import Counted

CPU = torch.device("cpu")
EDGES = 7  # of every column, padded with its last one: kernels are compiled for a number of edges
_LARGEST = 2.0**63 - 1024  # a float64 that int64 holds


@dataclass(frozen=True)
class Numeric:
    """score input = (value, or `fill` where null, clipped to [`low`, `high`], - `mean`) / `scale`."""

    column: str
    fill: float = 0.0
    mean: float = 0.0
    scale: float = 1.0
    low: float = -math.inf
    high: float = math.inf

    def describe(self) -> dict[str, Any]:
        plain = {"column": self.column, "fill": self.fill, "mean": self.mean, "scale": self.scale}
        return plain | ({"clip": [self.low, self.high]} if self.low > -math.inf or self.high < math.inf else {})


@dataclass(frozen=True)
class Counts:
    """Where they were counted: int64 (C, EDGES + 4) and float64 (C, 2), for the columns named."""

    names: tuple[str, ...]
    edges: Mapping[str, tuple[float, ...]]
    found: torch.Tensor
    ends: torch.Tensor


@dataclass(frozen=True)
class Rows(RowWise):
    """`numbers` float32 (rows, C): filled, clipped, centred, scaled. `slots` int32 (K, rows): 0 is the unknown slot.
    `counts` are those of the window that the rows are; a part of one has none.
    """

    numbers: torch.Tensor
    slots: torch.Tensor
    counts: Counts | None = None

    @property
    def rows(self) -> int:
        return self.numbers.shape[0]

    def narrow(self, start: int, rows: int) -> Rows:
        return Rows(self.numbers.narrow(0, start, rows), self.slots.narrow(1, start, rows))

    def to(self, device: torch.device) -> Rows:
        if self.numbers.device == device:
            return self
        return Rows(self.numbers.to(device, non_blocking=True), self.slots.to(device, non_blocking=True), self.counts)

    def counted(self) -> dict[str, Counted]:
        """By column, what was counted while the window was decoded; waits for the device."""
        if (counts := self.counts) is None:
            return {}
        found = zip(counts.names, counts.found.tolist(), counts.ends.tolist(), strict=True)
        return {
            name: Counted(tuple(row[: len(counts.edges[name])]), *row[EDGES:], *ends)
            for name, row, ends in found
            if name in counts.edges
        }


@dataclass(frozen=True)
class _Read:
    """Buffers of a window: numbers with those of one type together, `order` their columns in the matrix."""

    numbers: tuple[Buffers, ...]
    order: tuple[int, ...]
    codes: tuple[Codes, ...]
    rows: int

    @property
    def kinds(self) -> tuple[int, ...]:
        return tuple(ops.kind(number.dtype) for number in self.numbers)

    def table(self, places: Sequence[int]) -> torch.Tensor:
        """For arrow_ingest; `places` are the bytes at which values and bitmap of each number begin, in turn."""
        facts = [
            [values, number.value_bit, bitmap if len(number.bitmap) else -1, number.bit, out, -1]
            for number, out, values, bitmap in zip(self.numbers, self.order, places[::2], places[1::2], strict=True)
        ]
        return torch.tensor(facts, dtype=torch.int64).view(-1, 6)


@dataclass(frozen=True)
class Packed(RowWise):
    """A window on its way to a GPU, where `to` makes it Rows. In the arena: table; values and bitmap of each number; values,
    bitmap and lookup of each category.
    """

    encoder: Encoder
    read: _Read
    arena: Arena

    @property
    def rows(self) -> int:
        return self.read.rows

    def to(self, device: torch.device) -> Rows:
        return self.encoder.unpacked(self.read, self.arena.places, self.arena.memory.to(device, non_blocking=True))

    def narrow(self, start: int, rows: int) -> Rows:
        """Decoded on the host: for windows that do not go over as a whole."""
        return self.to(CPU).narrow(start, rows)


class Encoder:
    """How the columns of a model are read; made once for a model."""

    def __init__(self, numeric: Sequence[Numeric], vocabularies: Mapping[str, Vocabulary]) -> None:
        self._numeric, self._vocabularies = tuple(numeric), dict(vocabularies)
        self._edges: dict[str, tuple[float, ...]] = {}
        self._constants: dict[Any, Any] = {}

    def count(self, edges: Mapping[str, tuple[float, ...]]) -> frozenset[str]:
        """Count the values of windows that go to a GPU from now on; returns the columns for which that can be done."""
        names = {n.column for n in self._numeric}
        self._edges = {name: own for name, own in edges.items() if name in names and 0 < len(own) <= EDGES}
        self._constants.clear()
        return frozenset(self._edges)

    def rows(self, batch: pa.RecordBatch) -> Rows:
        """Decoded here. Raises: ModelError: a column is missing or of another type than declared."""
        read = self._read(batch)
        apart = [part for number in read.numbers for part in (number.values, number.bitmap)]
        rules, _ = self._rules(read, CPU)
        numbers = _numbers(read, apart, read.table([0] * len(apart)), rules, None)[0]
        return Rows(numbers, _slots(read, [(c.buffers.values, c.buffers.bitmap, c.lookup) for c in read.codes], CPU))

    def packed(self, batch: pa.RecordBatch) -> Packed:
        """For a GPU. Raises: ModelError, as `rows`."""
        read = self._read(batch)
        table = torch.empty((len(read.numbers), 6), dtype=torch.int64)
        parts = [part for number in read.numbers for part in (number.values, number.bitmap)]
        parts += [
            part for c in read.codes for part in (c.buffers.values, c.buffers.bitmap, c.lookup[:0] if c.lasting else c.lookup)
        ]
        arena = Arena([table, *parts])
        filled = read.table(arena.places[1 : 1 + 2 * len(read.numbers)])
        taken(arena.memory, 0, torch.int64, filled.numel()).copy_(filled.flatten())
        return Packed(self, read, arena)

    def unpacked(self, read: _Read, places: Sequence[int], memory: torch.Tensor) -> Rows:
        """Decode an arena where it is. On a GPU everything is only started, on the current stream."""
        device, count = memory.device, len(read.numbers)
        rules, edges = self._rules(read, device)
        table = taken(memory, 0, torch.int64, 6 * count).view(-1, 6)
        numbers, counts, ends = _numbers(read, [memory], table, rules, edges)
        views = []
        for n, (codes, vocabulary) in enumerate(zip(read.codes, self._vocabularies, strict=True)):
            at = places[1 + 2 * count + 3 * n :]
            values = taken(memory, at[0], torch.uint8, len(codes.buffers.values))
            bitmap = taken(memory, at[1], torch.uint8, len(codes.buffers.bitmap))
            lookup = (
                self._lasting(vocabulary, codes, device) if codes.lasting else taken(memory, at[2], torch.int32, len(codes.lookup))
            )
            views.append((values, bitmap, lookup))
        names = tuple(self._numeric[place].column for place in read.order)
        found = Counts(names, self._edges, counts, ends) if edges is not None and names else None
        return Rows(numbers, _slots(read, views, device), found)

    def _read(self, batch: pa.RecordBatch) -> _Read:
        found = [buffers(column(batch, n.column), n.column) for n in self._numeric]
        order = sorted(range(len(found)), key=lambda place: ops.kind(found[place].dtype))
        codes = tuple(vocabulary.codes(column(batch, name), name) for name, vocabulary in self._vocabularies.items())
        return _Read(tuple(found[place] for place in order), tuple(order), codes, batch.num_rows)

    def _rules(self, read: _Read, device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None]:
        """In the order of this window's numbers, with the edges that are asked for."""
        key = (read.order, read.kinds, device)
        if key not in self._constants:
            own = [self._numeric[place] for place in read.order]
            rules = torch.tensor([[n.fill, n.low, n.high, n.mean, 1.0 / n.scale] for n in own], dtype=torch.float64).view(-1, 5)
            edges = [_edges(self._edges.get(n.column, ()), number.dtype) for n, number in zip(own, read.numbers, strict=True)]
            self._constants[key] = (rules.to(device), torch.stack(edges).to(device) if self._edges and edges else None)
        found: tuple[torch.Tensor, torch.Tensor | None] = self._constants[key]
        return found

    def _lasting(self, name: str, codes: Codes, device: torch.device) -> torch.Tensor:
        if (name, device) not in self._constants:
            self._constants[name, device] = codes.lookup.to(device)
        found: torch.Tensor = self._constants[name, device]
        return found


def _numbers(
    read: _Read, memory: list[torch.Tensor], table: torch.Tensor, rules: torch.Tensor, edges: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where Arrow has them: columns, as a CPU computes. From an arena: rows of a length that wide stores and products like."""
    if not (columns := len(read.numbers)):
        return torch.empty((read.rows, 0), device=table.device), torch.empty(0), torch.empty(0)
    if len(memory) > 1:
        matrix, *counts = ops.arrow_ingest()(memory, table, list(read.kinds), rules, edges, read.rows, columns, True, torch.float32)
        return matrix.t(), counts[0], counts[1]
    width = -(-columns // 8) * 8
    matrix, *counts = ops.arrow_ingest()(memory, table, list(read.kinds), rules, edges, read.rows, width, False, torch.float32)
    return matrix[:, :columns], counts[0], counts[1]


def _slots(read: _Read, views: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]], device: torch.device) -> torch.Tensor:
    if not views:
        return torch.empty((0, read.rows), dtype=torch.int32, device=device)
    return ops.arrow_codes()(
        [values.view(getattr(torch, c.buffers.dtype)) for c, (values, _, _) in zip(read.codes, views, strict=True)],
        [bitmap for _, bitmap, _ in views],
        [c.buffers.bit for c in read.codes],
        [c.below for c in read.codes],
        [lookup for _, _, lookup in views],
    )


def _edges(given: tuple[float, ...], dtype: str) -> torch.Tensor:
    """As arrow_ingest compares them: x <= 2.5 is x <= 2 for integers; edges of float32 are float32."""
    padded = [*given, *(given[-1:] or (0.0,)) * (EDGES - len(given))]
    if not dtype.startswith("float"):
        return torch.tensor([math.floor(min(max(edge, -(2.0**63)), _LARGEST)) for edge in padded], dtype=torch.int64)
    return torch.tensor(padded, dtype=getattr(torch, dtype)).double().view(torch.int64)
