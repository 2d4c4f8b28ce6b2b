"""Privacy in the pass: who is left out, and what becomes of personal columns on their way out. One object for a lane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa

from scoring.admit.keys import KeyRing, key_ring
from scoring.admit.rules import Admitted, Positions
from scoring.admit.suppression import Naming, Suppression
from scoring.admit.treatments import Treatments, needs_key, refuse
from scoring.settings import Contract


class Privacy:
    """`suppressed` are pseudonyms of people who are not to be scored. Thread-safe.

    Raises:
        ConfigError: the contract's tags or the key in this process's environment cannot work.
    """

    def __init__(self, contract: Contract, carry: Sequence[str], suppressed: frozenset[str] = frozenset()) -> None:
        refuse(contract, carry)
        ring = key_ring(contract.privacy) if needs_key(contract) else None
        self._treatments = Treatments(contract.columns, carry, ring)
        self._suppression: Suppression | None = None
        subject = contract.privacy.subject
        if suppressed and subject is not None and ring is not None:
            self._suppression = Suppression(naming(contract, ring), subject, suppressed)

    @property
    def treated(self) -> tuple[str, ...]:
        """Carried columns that leave otherwise than they came."""
        return self._treatments.names

    def listed(self, batch: pa.RecordBatch) -> Positions | None:
        """Rows of suppressed people, int64 positions; None for none. A file without the subject column has none to find: the
        contract declares it, so that such a file is refused as a whole.
        """
        if self._suppression is None or self._suppression.column not in batch.schema.names:
            return None
        mask = self._suppression.rows(batch)
        return None if mask is None else np.flatnonzero(mask)

    def listed_line(self, text: str) -> bool:
        return self._suppression is not None and self._suppression.line(text)

    def carried(self, raw: pa.RecordBatch, admitted: Admitted, failed: Positions) -> pa.RecordBatch:
        """What goes out beside the scores: the columns of `raw` (all rows of the window), for rows that were admitted and not
        among `failed` (positions among the admitted).
        """
        good, kept = admitted.good, admitted.kept
        if len(failed):
            alive = np.delete(np.arange(good.num_rows, dtype=np.int64), failed)
            good = good.select(self.treated).take(pa.array(alive, pa.int64())) if self.treated else good
            kept = alive if kept is None else kept[alive]
        plain = raw if kept is None else raw.take(pa.array(kept, pa.int64()))
        return self._treatments.apply(plain, good)


def naming(contract: Contract, ring: KeyRing) -> Naming:
    """How the contract's subject is written on a list."""
    return Naming(ring, contract.columns[cast(Any, contract.privacy.subject)].dtype, contract.coerce)
