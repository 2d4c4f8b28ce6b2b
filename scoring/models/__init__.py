"""A bundle on disk as a function on tensors. One file per family; nothing here knows slices, lanes or files of rows.

No code comes from a bundle: weights are safetensors, the rest is YAML and Parquet, and the family (or, for `module`, the user's
config) says which class is built. Runs with torch, numpy and pyarrow alone; texts take tokenizers, too.
"""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import torch

from scoring.settings import Column
from scoring.types import Output
from scoring.watch.tally import Counted


class Encoded(Protocol):
    """A window on the host, ready for the device, or on it: a sequence of items, scored in any grouping.

    `rows` counts items. `order` int64 (rows of the window,) is the item that answers for each row; None: item n for row n.
    Cost units are the model's `unit`: `cost` is that of some items, `fit` how many from `start` on cost no more than `budget`, at
    least 1, never beyond the end. `counted` is what was counted on the way to the device, by column; `work` what was done for
    the window, in whole numbers that can be added up, asked for before it goes there. `to` keeps order and cost; `narrow` drops
    all but items and their cost.
    """

    @property
    def rows(self) -> int: ...

    @property
    def order(self) -> np.ndarray[Any, np.dtype[np.int64]] | None: ...

    def fit(self, start: int, budget: int) -> int: ...

    def cost(self, start: int, count: int) -> int: ...

    def work(self) -> dict[str, int]: ...

    def narrow(self, start: int, rows: int) -> "Encoded": ...

    def to(self, device: torch.device) -> "Encoded": ...

    def counted(self) -> Mapping[str, Counted]: ...


class Model(Protocol):
    """What a module `scoring/models/<family>.py` makes for `load(bundle, device, module, precision)`.

    `inputs` are the declared columns (admit holds rows to them). `outputs` are side by side in what `forward` returns.
    `count` asks for counts of numeric columns by bin edges and returns those that `encode` and `to` will count on the way to a GPU.
    `encode` takes admitted, correctly typed rows; `forward` returns float32 (items, sum of widths) on the model's device, and may
    run in several threads at once if the model is `reentrant`.
    """

    name: str
    version: str
    digest: str
    inputs: dict[str, Column]
    outputs: tuple[Output, ...]
    unit: Literal["rows", "tokens"]
    tolerance: dict[str, float]
    device: torch.device
    reentrant: bool

    def count(self, edges: Mapping[str, tuple[float, ...]]) -> frozenset[str]: ...

    def encode(self, batch: pa.RecordBatch) -> Encoded: ...

    def forward(self, encoded: Any) -> torch.Tensor: ...

    def score(self, table: pa.Table) -> pa.Table: ...
