"""A bundle on disk as a function on tensors. One file per family; nothing here knows slices, lanes or files of rows.

No code comes from a bundle: weights are safetensors, the rest is YAML and Parquet, and the family (or, for `module`, the user's
config) says which class is built. Runs with torch, numpy and pyarrow alone.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import pyarrow as pa
import torch

from scoring.settings import Column
from scoring.watch.tally import Counted


class Encoded(Protocol):
    """Some rows on the host, ready for the device, or on it. `counted` is what was counted on the way there, by column."""

    @property
    def rows(self) -> int: ...

    def narrow(self, start: int, rows: int) -> "Encoded": ...

    def to(self, device: torch.device) -> "Encoded": ...

    def counted(self) -> Mapping[str, Counted]: ...


class Model(Protocol):
    """What a module `scoring/models/<family>.py` makes with `load(bundle, device)`.

    `inputs` are the declared columns (admit holds rows to them). `outputs` are float32 columns in the order of `forward`.
    `count` asks for counts of numeric columns by bin edges and returns those that `encode` and `to` will count on the way to a GPU.
    `encode` takes admitted, correctly typed rows; `forward` returns float32 (rows, len(outputs)) on the model's device, and may run
    in several threads at once if the model is `reentrant`.
    """

    name: str
    version: str
    digest: str
    inputs: dict[str, Column]
    outputs: tuple[str, ...]
    tolerance: dict[str, float]
    device: torch.device
    reentrant: bool

    def count(self, edges: Mapping[str, tuple[float, ...]]) -> frozenset[str]: ...

    def encode(self, batch: pa.RecordBatch) -> Encoded: ...

    def forward(self, encoded: Any) -> torch.Tensor: ...

    def score(self, table: pa.Table) -> pa.Table: ...
