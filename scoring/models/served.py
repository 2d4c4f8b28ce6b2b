"""A trained network as it is served: embeddings are looked up straight into rows of the first product.

Computes what `Net` means, by the operators of kernels/. Rows are padded with zeros to a multiple of 8 numbers, which wide loads and
products like, and so are the weights that meet them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn

from scoring import ops
from scoring.models.blocks import widen
from scoring.models.net import Net


class Served:
    """`compute` takes numbers (B, C) and slots (K, B), and gives logits (B, outputs)."""

    def __init__(self, net: Net, device: torch.device) -> None:
        net = net.to(device)
        self._dlrm = net.shape.kind == "dlrm"
        self._bottom = net.bottom if self._dlrm else None
        tables = [table.weight.detach() for table in net.tables()]
        self._weights = ops.packed_tables(tables)
        self._sizes, self._dims = [len(table) for table in tables], [table.shape[1] for table in tables]
        inner = next(layer.in_features for layer in net.top if isinstance(layer, nn.Linear))
        self._width = _multiple(inner)
        dense = net.numbers if not self._dlrm else self._dims[0] if self._bottom is not None else 0
        self._joined = _multiple(dense + sum(self._dims))
        self._cross = [] if self._dlrm else [_padded(layer, self._width, self._width) for layer in net.crossing()]
        self._top = nn.Sequential(*(_padded(layer, self._width) if n == 0 else layer for n, layer in enumerate(net.top)))
        if device.type == "cpu":
            for module in (self._top, *self._cross, *([] if self._bottom is None else [self._bottom])):
                widen(module)

    def compute(self, numbers: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        first = self._interacted(numbers, slots) if self._dlrm else self._concat(numbers, slots)
        crossed = first
        for layer in self._cross:
            crossed = torch.addcmul(crossed, first, layer(crossed))
        logits: torch.Tensor = self._top(crossed)
        return logits

    def _interacted(self, numbers: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        """Vectors of one width side by side are what the interaction takes."""
        dense = numbers[:, :0] if self._bottom is None else self._bottom(numbers)
        vectors = self._concat(dense, slots)[:, : dense.shape[1] + sum(self._dims)]
        stacked = vectors.reshape(len(vectors), -1, self._dims[0])  # (B, V, d)
        return ops.pair_interaction()(stacked, self._bottom is not None, self._width)

    def _concat(self, dense: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        if not self._dims and dense.shape[1] == self._joined:
            return dense
        return ops.embedding_concat()(
            dense, slots, self._weights, self._sizes, self._dims, None, None, "sum", self._joined, torch.float32
        )


def _multiple(width: int) -> int:
    return -(-width // 8) * 8


def _padded(layer: nn.Module, inputs: int, outputs: int = 0) -> nn.Module:
    """A linear layer that takes more inputs, and gives more outputs, all of them zero."""
    assert isinstance(layer, nn.Linear)
    more = max(outputs - layer.out_features, 0)
    wide = nn.Linear(inputs, layer.out_features + more, device="meta")
    wide.weight = nn.Parameter(F.pad(layer.weight.detach(), (0, inputs - layer.in_features, 0, more)), requires_grad=False)
    wide.bias = nn.Parameter(F.pad(layer.bias.detach(), (0, more)), requires_grad=False)
    return wide
