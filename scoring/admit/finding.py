"""A person found again in what was written: by the id as it was read, or by any pseudonym that could have been made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoring.admit.coerce import Array, Mask, mask_of
from scoring.admit.keys import KeyRing
from scoring.admit.pseudonyms import Pseudonyms
from scoring.admit.suppression import Naming, fields

LINE = "_line"  # of the quarantine: lines that were no rows


class Finder:
    """`described` says how people are identified (`treatments.described`), each way that was ever used; `subject` is the raw id."""

    def __init__(self, described: Iterable[Mapping[str, str]], subject: str, ring: KeyRing) -> None:
        self._columns: dict[str, list[Naming]] = {}
        self._spelled = pa.array([subject], pa.string())
        self.names: set[str] = set()  # on the suppression list
        looks = {subject}
        for one in described:
            naming = Naming(ring, one["dtype"], True)
            plain = naming.plain(self._spelled)
            self._columns.setdefault(one["column"], []).append(naming)
            self.names.add(naming.names(plain, ring.current)[0].as_py())
            looks.add(str(plain[0].as_py()))
            if "purpose" in one:
                looks |= {Pseudonyms(ring, k, one["purpose"], one["column"])(plain)[0].as_py() for k in ring.ids}
        self._looks = pa.array(sorted(looks), pa.string())
        self._raw = {subject, subject.strip()}

    def columns(self, names: Sequence[str]) -> list[str]:
        """The columns of a file that can tell."""
        return [name for name in names if name in self._columns or name == LINE]

    def hits(self, rows: pa.Table | pa.RecordBatch) -> Mask:
        """bool (rows,): which rows are about the person. Only the columns that can tell are looked at."""
        found = np.zeros(rows.num_rows, np.bool_)
        for name in self.columns(rows.schema.names):
            column: Any = rows.column(name)
            values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
            found |= self._lines(values) if name == LINE else self._values(values, self._columns[name])
        return found

    def _values(self, values: Array, namings: Sequence[Naming]) -> Mask:
        if isinstance(values, pa.DictionaryArray):
            values = values.dictionary_decode()
        found = np.zeros(len(values), np.bool_)
        for naming in namings:
            found |= mask_of(pc.is_in(naming.plain(values), value_set=self._looks))
        return found

    def _lines(self, values: Array) -> Mask:
        return np.array([bool(self._raw & fields(str(line))) for line in values.to_pylist()], np.bool_)
