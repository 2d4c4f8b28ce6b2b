"""The meaning of a text bundle: one sequence at a time, in float64, without padding or any fast path. Others are tested against it.

T tokens, H hidden width, A heads of width D, W width of the vector at the end. Devlin et al. 2019 (BERT), Warner et al. 2024
(ModernBERT); rotary positions are eq. 34 of Su et al. 2021 (RoFormer), but number i of a head is paired with number i + D / 2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional

from scoring.models import heads as head
from scoring.models.encoder_shape import Pooling, Projection, Shape

Sequences = Sequence[tuple[Sequence[int], Sequence[int] | None]]  # of one text: (token ids, token types or None for all 0)

ACTIVATE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
    "silu": functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "none": lambda x: x,
}


@dataclass(frozen=True)
class PlainEncoder:
    """`tensors` as in weights.safetensors; `heads` are empty for an embedding, which is of unit length where `unit` says so."""

    shape: Shape
    pooling: Pooling
    projections: tuple[Projection, ...]
    unit: bool
    heads: tuple[head.Head, ...]
    tensors: Mapping[str, torch.Tensor]

    @torch.inference_mode()
    def outputs(self, sequences: Sequences) -> torch.Tensor:
        """What the bundle gives for one text: its embedding (W,) or the calibrated outputs of the heads (logits,), float64."""
        if not self.heads:
            vector = self.vector(sequences)
            return functional.normalize(vector, dim=0, eps=1e-12) if self.unit else vector
        slope, intercept = (c.double() for c in head.affine(self.heads))
        return head.activate(self.heads, (self.logits(sequences) * slope + intercept)[None])[0]

    @torch.inference_mode()
    def logits(self, sequences: Sequences) -> torch.Tensor:
        """What the last layer gives before calibration and activation: float64 (logits,)."""
        return self._linear("classifier", self.vector(sequences))

    @torch.inference_mode()
    def vector(self, sequences: Sequences) -> torch.Tensor:
        """Sequences of one text, each pooled, are averaged by their tokens; then come the projections: float64 (W,)."""
        pooled = torch.stack([self.pooled(ids, types) for ids, types in sequences])
        weight = torch.tensor([len(ids) for ids, _ in sequences], dtype=torch.float64)
        vector = (pooled * weight[:, None]).sum(0) / weight.sum()
        for k, one in enumerate(self.projections):
            vector = ACTIVATE[one.activation](self._linear(f"projections.{k}", vector))
            vector = self._norm(f"projections.{k}.norm", vector) if one.norm else vector
        return vector

    @torch.inference_mode()
    def pooled(self, ids: Sequence[int], types: Sequence[int] | None = None) -> torch.Tensor:
        """One sequence to float64 (H,)."""
        states = self.states(ids, types)
        if self.pooling.kind == "cls":
            return states[0]
        return states.amax(0) if self.pooling.kind == "max" else states.mean(0)

    @torch.inference_mode()
    def states(self, ids: Sequence[int], types: Sequence[int] | None = None) -> torch.Tensor:
        """The last hidden state of one sequence: float64 (T, H)."""
        x = self._embedded(torch.tensor(ids), torch.tensor(types if types is not None else [0] * len(ids)))
        for n in range(self.shape.layers):
            x = self._post_norm(n, x) if self.shape.kind == "bert" else self._pre_norm(n, x)
        return x if self.shape.kind == "bert" else self._norm("final_norm", x)

    def _embedded(self, ids: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        x = self._rows("embeddings.tokens", ids)
        if self.shape.types:
            x = x + self._rows("embeddings.types", types)
        if self.shape.kind == "bert":
            x = x + self._rows("embeddings.positions", self.shape.first_position + torch.arange(len(ids)))
        return self._norm("embeddings.norm", x)

    def _post_norm(self, n: int, x: torch.Tensor) -> torch.Tensor:
        x = self._norm(f"layers.{n}.attention_norm", x + self._attention(n, x))
        inner = ACTIVATE[self.shape.activation](self._linear(f"layers.{n}.up", x))
        return self._norm(f"layers.{n}.output_norm", x + self._linear(f"layers.{n}.down", inner))

    def _pre_norm(self, n: int, x: torch.Tensor) -> torch.Tensor:
        x = x + self._attention(n, self._norm(f"layers.{n}.attention_norm", x) if n else x)
        inner, gate = self._linear(f"layers.{n}.up", self._norm(f"layers.{n}.output_norm", x)).chunk(2, -1)
        return x + self._linear(f"layers.{n}.down", ACTIVATE[self.shape.activation](inner) * gate)

    def _attention(self, n: int, x: torch.Tensor) -> torch.Tensor:
        heads, width = self.shape.heads, self.shape.head_width
        q, k, v = self._linear(f"layers.{n}.qkv", x).view(len(x), 3, heads, width).permute(1, 2, 0, 3)  # each (A, T, D)
        if self.shape.kind == "modernbert":
            angles = self._angles(n, len(x))
            q, k = rotated(q, angles), rotated(k, angles)
        weights = q @ k.transpose(1, 2) / width**0.5
        if not self.shape.sees_all(n):
            place = torch.arange(len(x))
            weights = weights.masked_fill((place[:, None] - place).abs() > self.shape.window, float("-inf"))
        mixed = (torch.softmax(weights, -1) @ v).transpose(0, 1).reshape(len(x), -1)
        return self._linear(f"layers.{n}.attention_out", mixed)

    def _angles(self, n: int, tokens: int) -> torch.Tensor:
        """(T, D / 2). The frequencies are float32 numbers: so they were when the models were trained."""
        theta, width = self.shape.theta[0 if self.shape.sees_all(n) else 1], self.shape.head_width
        frequency = 1.0 / theta ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
        return torch.arange(tokens, dtype=torch.float64)[:, None] * frequency.double()

    def _rows(self, name: str, index: torch.Tensor) -> torch.Tensor:
        return self.tensors[name][index].double()

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self._wide(f"{name}.weight"), self._wide(f"{name}.bias"))  # type: ignore[arg-type]

    def _norm(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, x.shape[-1:], self._wide(f"{name}.weight"), self._wide(f"{name}.bias"), self.shape.epsilon)

    def _wide(self, name: str) -> torch.Tensor | None:
        found = self.tensors.get(name)
        return None if found is None else found.double()


def rotated(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    """(A, T, D) by angles (T, D / 2): number i of a head is paired with number i + D / 2."""
    one, other = x.chunk(2, -1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([one * cos - other * sin, other * cos + one * sin], -1)
