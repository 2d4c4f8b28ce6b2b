"""The networks of the tabular family as plain modules: the meaning that faster paths are tested against.

B rows, C numeric columns, K categorical columns, d embedding width, F features after the inputs are joined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import nn

from scoring.models.manifest import Fields

Kind = Literal["mlp", "dcn-v2", "dlrm"]


@dataclass(frozen=True)
class Architecture:
    """`hidden`: widths of the top MLP. `cross_layers`: dcn-v2 only. `bottom`: hidden widths of dlrm's MLP over the numbers."""

    kind: Kind = "mlp"
    hidden: tuple[int, ...] = (128, 64)
    cross_layers: int = 0
    bottom: tuple[int, ...] = ()

    def describe(self) -> dict[str, Any]:
        plain: dict[str, Any] = {"kind": self.kind, "hidden": list(self.hidden)}
        if self.kind == "dcn-v2":
            plain["cross_layers"] = self.cross_layers
        return plain | ({"bottom": list(self.bottom)} if self.kind == "dlrm" else {})


def read_architecture(fields: Fields) -> Architecture:
    """Raises: ModelError: an architecture that there is not."""
    kind = fields.text("kind")
    if kind not in ("mlp", "dcn-v2", "dlrm"):
        fields.wrong("kind", "mlp, dcn-v2 or dlrm", kind)
    hidden = fields.integers("hidden", 1, 65_536)
    cross = fields.integer("cross_layers", 1, 64) if kind == "dcn-v2" else 0
    bottom = fields.integers("bottom", 1, 65_536) if kind == "dlrm" else ()
    fields.done()
    return Architecture(kind, hidden, cross, bottom)  # type: ignore[arg-type]


class Net(nn.Module):
    """Standardised numbers (B, C) and slots (K, B) to logits (B, outputs)."""

    def __init__(self, numbers: int, tables: list[tuple[int, int]], shape: Architecture, logits: int) -> None:
        super().__init__()
        self.shape, self.numbers = shape, numbers
        self.embeddings = nn.ModuleList(embedding(size, width) for size, width in tables)
        widths = [width for _, width in tables]
        if shape.kind == "dlrm":
            self.bottom = mlp(numbers, (*shape.bottom, widths[0])) if numbers else None
            vectors = len(tables) + bool(numbers)
            features = vectors * (vectors - 1) // 2 + (widths[0] if numbers else 0)
        else:
            features = numbers + sum(widths)
            self.cross = nn.ModuleList(nn.Linear(features, features) for _ in range(shape.cross_layers))
        self.top = mlp(features, (*shape.hidden, logits), last_relu=False)

    def crossing(self) -> list[nn.Linear]:
        return cast(list[nn.Linear], list(self.cross))

    def tables(self) -> list[nn.Embedding]:
        return cast(list[nn.Embedding], list(self.embeddings))

    def forward(self, dense: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
        vectors = [table(slots[k]) for k, table in enumerate(self.embeddings)]  # K x (B, d)
        logits: torch.Tensor = self.top(self._interact(dense, vectors) if self.shape.kind == "dlrm" else self._join(dense, vectors))
        return logits

    def _join(self, dense: torch.Tensor, vectors: list[torch.Tensor]) -> torch.Tensor:
        """Concatenation, then the cross network of Wang et al. 2021 (DCN V2, eq. 1): x0 * (W x + b) + x."""
        first = torch.cat([dense, *vectors], 1)  # (B, F)
        crossed = first
        for layer in self.cross:
            crossed = first * layer(crossed) + crossed
        return crossed

    def _interact(self, dense: torch.Tensor, vectors: list[torch.Tensor]) -> torch.Tensor:
        """Dot products of all pairs of vectors, beside the bottom MLP's vector (Naumov et al. 2019, DLRM)."""
        kept = []
        if self.bottom is not None:
            kept = [self.bottom(dense)]
        stacked = torch.stack([*kept, *vectors], 1)  # (B, V, d)
        above = torch.triu_indices(stacked.shape[1], stacked.shape[1], 1, device=stacked.device)
        dots = (stacked[:, above[0]] * stacked[:, above[1]]).sum(2)  # (B, pairs)
        return torch.cat([*kept, dots], 1)


def embedding(size: int, width: int) -> nn.Embedding:
    """Normal as `nn.Embedding` makes it, but nothing is drawn on "meta": that would import all of torch's compiler (1.5 s)."""
    weight = torch.empty(size, width)
    if weight.device.type != "meta":
        nn.init.normal_(weight)
    return nn.Embedding(size, width, _weight=weight)


def mlp(inputs: int, widths: tuple[int, ...], last_relu: bool = True) -> nn.Sequential:
    """Linear layers with ReLU between them; "0", "2", … in the state dict are the linear ones."""
    layers: list[nn.Module] = []
    for place, width in enumerate(widths):
        layers.append(nn.Linear(inputs, width))
        if last_relu or place < len(widths) - 1:
            layers.append(nn.ReLU())
        inputs = width
    return nn.Sequential(*layers)
