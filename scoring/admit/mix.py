"""Whom a rule costs: how the rows it loses are spread over the values of a column, beside how all rows are.

A column is compared if it is text, bool or a number from a list, is no id, time or carried column, and has few values; a column in
which more turn up is dropped, and a value that too few rows share goes by a stand-in, so that no free text leaves and nobody's
name. All rows are an estimate: the first 4,096 of a file and every 64th after them, which stands for 64; lost rows are all counted.
Both depend on places in files alone, not on slices or windows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoring.admit.coerce import Array
from scoring.redact import veiled
from scoring.settings import Column

ALL = ""  # the name under which all rows stand, beside those of reasons
MOST_COLUMNS, MOST_VALUES, MOST_REASONS = 8, 16, 24
LEAST_ROWS = 10  # of a slice that share a value, for it to be named
_WHOLE, _STRIDE = 4_096, 64
Rows = np.ndarray[Any, np.dtype[np.int64]]


def compared(columns: Mapping[str, Column]) -> tuple[str, ...]:
    """The columns worth comparing, as far as the contract tells. No personal ones: their values must not reach a receipt."""
    said = {name: column for name, column in columns.items() if column.pii is None and column.treatment in (None, "pass")}
    texts = [n for n, c in said.items() if c.dtype in ("string", "bool") or c.allowed is not None]
    return tuple(n for n in texts if columns[n].role in (None, "feature") and columns[n].pattern is None)[:MOST_COLUMNS]


class Mix:
    """Of one slice: `add` windows, then `finished`."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self._columns = list(columns)
        self._counts: dict[str, dict[str, Counter[str]]] = {}
        self._seen: dict[str, Counter[str]] = {}  # rows that were looked at, by column and value

    def add(self, batch: pa.RecordBatch, positions: Rows, bad: Rows, reasons: list[tuple[str, ...]]) -> None:
        """`positions` int64 (rows,) are places in the file, `bad` int64 places in the batch, `reasons` of each bad row."""
        if not self._columns:
            return
        first = int(np.searchsorted(positions, _WHOLE))
        if first:
            self._count((ALL,), batch.slice(0, first), 1)
        rest: Rows = first + np.flatnonzero(positions[first:] % _STRIDE == 0)
        if len(rest):
            self._count((ALL,), self._taken(batch, rest), _STRIDE)
        for names, rows in _grouped(bad, reasons).items():
            self._count(names, self._taken(batch, np.array(rows)), 1)

    def finished(self) -> dict[str, dict[str, dict[str, int]]]:
        """Rows by reason, column and value, the most frequent reasons only; as a receipt holds them."""
        lost = {name: sum(sum(c.values()) for c in by.values()) for name, by in self._counts.items()}
        kept = sorted(lost, key=lambda name: (name != ALL, -lost[name], name))[: MOST_REASONS + 1]
        return {name: {c: self._named(c, n) for c, n in self._counts[name].items() if c in self._columns} for name in kept}

    def _named(self, column: str, counts: Mapping[str, int]) -> dict[str, int]:
        seen = self._seen.get(column, Counter())
        return {v if seen[v] >= LEAST_ROWS and not v.startswith("#") else veiled(v): n for v, n in counts.items()}

    def _taken(self, batch: pa.RecordBatch, rows: Rows) -> pa.RecordBatch:
        return batch.select(self._columns).take(pa.array(rows, pa.int64()))

    def _count(self, names: tuple[str, ...], rows: pa.RecordBatch, weight: int) -> None:
        for column in list(self._columns):
            found = _values(rows.column(column))
            if ALL in names:
                self._seen.setdefault(column, Counter()).update(found)
            for name in names:
                counts = self._counts.setdefault(name, {}).setdefault(column, Counter())
                counts.update({value: n * weight for value, n in found.items()})
                if len(counts) > MOST_VALUES and column in self._columns:
                    self._columns.remove(column)


def _grouped(bad: Rows, reasons: list[tuple[str, ...]]) -> dict[tuple[str, ...], list[int]]:
    groups: dict[tuple[str, ...], list[int]] = {}
    for row, names in zip(bad.tolist(), reasons, strict=True):
        groups.setdefault(names, []).append(row)
    return groups


def _values(column: Array) -> dict[str, int]:
    """Rows by value as text. Beyond the bound, as many as show that there are too many."""
    counted = pc.value_counts(column)
    counts = zip(counted.field(0)[: MOST_VALUES + 1].to_pylist(), counted.field(1)[: MOST_VALUES + 1].to_pylist(), strict=True)
    return {_shown(value): n or 0 for value, n in counts}


def _shown(value: Any) -> str:
    return "(null)" if value is None else value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
