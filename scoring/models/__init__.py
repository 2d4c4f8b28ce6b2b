"""A bundle on disk as a function on tensors. One file per family; nothing here knows slices, lanes or files of rows.

No code comes from a bundle: weights are safetensors, the rest is YAML and Parquet, and the family (or, for `module`, the user's
config) says which class is built. Runs with torch, numpy and pyarrow alone.
"""

from typing import Any, Protocol

import pyarrow as pa
import torch

from scoring.settings import Column


class Encoded(Protocol):
    """Host tensors of some rows, ready for the device."""

    @property
    def rows(self) -> int: ...

    def narrow(self, start: int, rows: int) -> "Encoded": ...

    def to(self, device: torch.device) -> "Encoded": ...

    def pin(self) -> "Encoded": ...


class Model(Protocol):
    """What a module `scoring/models/<family>.py` makes with `load(bundle, device)`.

    `inputs` are the declared columns (admit holds rows to them). `outputs` are float32 columns in the order of `forward`.
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

    def encode(self, batch: pa.RecordBatch) -> Encoded: ...

    def forward(self, encoded: Any) -> torch.Tensor: ...

    def score(self, table: pa.Table) -> pa.Table: ...
