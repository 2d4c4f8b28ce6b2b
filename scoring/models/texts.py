"""Tokenised texts of a window without padding: sequences one behind the other, each different text once, longest first.

Longest first, so that a batch holds texts of like length (an attention kernel works as long as its longest sequence) and the first
batch, not the last, shows whether memory is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from scoring.watch.tally import Counted


@dataclass(frozen=True)
class Texts:
    """An Encoded whose items are the different texts of a window; the sequences of an item lie together.

    `ids` int32 (tokens,) holds the token ids of all sequences, special ones included; `types` int32 (tokens,) their token types, or
    None where all are 0. `offsets` int32 (sequences + 1,) says where sequences begin in `ids`. `first` int64 (items + 1,), always
    on the host, is the first sequence of each item, `starts` int64 (items + 1,) its first token. `order` int64 (rows,) is the item
    that answers for each row of the window, None: item n for row n. `facts` say what was done for the window; a part has none.
    """

    ids: torch.Tensor
    types: torch.Tensor | None
    offsets: torch.Tensor
    first: torch.Tensor
    starts: np.ndarray[Any, np.dtype[np.int64]]
    order: np.ndarray[Any, np.dtype[np.int64]] | None = None
    facts: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        return len(self.starts) - 1

    def cost(self, start: int, count: int) -> int:
        """Tokens of these items."""
        return int(self.starts[start + count] - self.starts[start])

    def fit(self, start: int, budget: int) -> int:
        """How many items from `start` on have at most `budget` tokens together; at least 1, none beyond the end."""
        end = int(np.searchsorted(self.starts, self.starts[start] + budget, side="right")) - 1
        return min(max(end - start, 1), self.rows - start)

    def narrow(self, start: int, rows: int) -> Texts:
        """These items alone: what it holds begins at 0, and answers for no row of the window."""
        token, last = int(self.starts[start]), int(self.starts[start + rows])
        sequence, end = int(self.first[start]), int(self.first[start + rows])
        return Texts(
            self.ids[token:last],
            None if self.types is None else self.types[token:last],
            self.offsets[sequence : end + 1] - token,
            self.first[start : start + rows + 1] - sequence,
            self.starts[start : start + rows + 1] - token,
        )

    def to(self, device: torch.device) -> Texts:
        if self.ids.device == device:
            return self
        types = None if self.types is None else self.types.to(device, non_blocking=True)
        ids, offsets = (tensor.to(device, non_blocking=True) for tensor in (self.ids, self.offsets))
        return replace(self, ids=ids, types=types, offsets=offsets)

    def counted(self) -> dict[str, Counted]:
        return {}

    def work(self) -> dict[str, int]:
        """What was done for the window, summed into receipts and the run record."""
        return dict(self.facts)
