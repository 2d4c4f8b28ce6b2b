"""What the contract has to say of a slice beside rows at fault: warnings, keys, age, columns, and whom its rules cost."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from scoring.admit.contracts import time_column
from scoring.admit.mix import Mix, compared
from scoring.admit.row_keys import Keys, Newest
from scoring.admit.rules import Admitted, Rules, widened
from scoring.redact import are_plain
from scoring.settings import Contract
from scoring.types import Findings

_MOST_NAMES = 200  # of extra columns in a receipt


class Noted:
    """Of one slice: `add` windows in order, then `keys` and `findings`. Keys, age and warnings are those of good rows."""

    def __init__(self, contract: Contract) -> None:
        self.keys, self._newest = Keys(contract.unique), Newest(time_column(contract))
        self._mix = Mix(compared(contract.columns))
        self._warned: Counter[str] = Counter()
        self._columns: dict[str, set[str]] = {}

    def add(
        self,
        batch: pa.RecordBatch,
        positions: np.ndarray[Any, np.dtype[np.int64]],
        ignored: tuple[str, ...],
        admitted: Admitted,
        rules: Rules,
    ) -> None:
        """`positions` int64 (rows,) are places in the file; `ignored` are columns that the file has and nobody asked for."""
        self.keys.add(admitted.good)
        self._newest.add(admitted.good)
        self._mix.add(batch, positions, admitted.bad, admitted.reasons)
        self._warned.update(admitted.warned)
        extra = ignored if are_plain(ignored) else ("(names that may be data)",)
        for kind, names in (("extra", extra), ("widened", widened(batch.schema, rules))):
            if names:
                self._columns.setdefault(kind, set()).update(names)

    def findings(self) -> Findings:
        named = {kind: tuple(sorted(names)[:_MOST_NAMES]) for kind, names in self._columns.items()}
        return Findings(dict(self._warned), named, self._newest.value, None, self._mix.finished())
