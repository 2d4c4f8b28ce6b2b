"""A transformer encoder on a packed stream of tokens: no padding from the first embedding to the pooled vector.

The same steps on every device, through the operators of kernels/: matrix products of all tokens at once, attention that knows where
sequences begin. What the numbers mean is written down, slowly and in float64, in `plain_encoder`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from scoring import ops
from scoring.models.encoder_shape import Pooling, Shape
from scoring.models.plain_encoder import ACTIVATE

# Rows of products are a multiple: MKL takes another kernel for a last strip of 1 to 3, torch one of scalars for a last 31 numbers.
STRIP = 32
# oneDNN chooses how to share out and add up a product of bfloat16 by its rows: on a CPU all have so many, or so many at a time.
BF16_ROWS = 1024


class Encoder:
    """Weights of an encoder on `device` in `dtype`; norms compute in float32 within. Without state: threads may share it."""

    def __init__(self, shape: Shape, tensors: Mapping[str, torch.Tensor], device: torch.device, dtype: torch.dtype) -> None:
        self._shape, self._dtype, self._activate = shape, dtype, ACTIVATE[shape.activation]
        self._rows = BF16_ROWS if device.type == "cpu" and dtype == torch.bfloat16 else STRIP
        names = shape.tensors()
        self._weights = {name: tensors[name].to(device, dtype) for name in names}
        if shape.kind == "bert":  # added once, before the first rounding
            self._weights |= {n: tensors[n].to(device) for n in names if n.startswith("embeddings.") and ".norm." not in n}
        self._packed = _packed(self._weights) if self._rows == BF16_ROWS else {}
        self._zeros = torch.zeros(shape.hidden, device=device, dtype=dtype)  # where there is no bias, or nothing to add
        self._rotary = [_rotary(shape, theta, device) if shape.kind == "modernbert" else (None, None) for theta in shape.theta]

    def vectors(
        self, ids: torch.Tensor, types: torch.Tensor | None, offsets: torch.Tensor, pooling: Pooling, unit: bool
    ) -> torch.Tensor:
        """`ids`, `types` int32 (tokens,), `offsets` int32 (sequences + 1,), on the encoder's device, to float32 (sequences, H)."""
        sequences, tokens, more = len(offsets) - 1, len(ids), -len(ids) % self._rows
        if more:  # short sequences of their own, which nobody sees and nobody keeps
            ids, types = F.pad(ids, (0, more)), None if types is None else F.pad(types, (0, more))
            ends = torch.arange(more % STRIP or STRIP, more + 1, STRIP, dtype=offsets.dtype, device=offsets.device)
            offsets = torch.cat((offsets, offsets[-1:] + ends))
        segments = ops.segments(offsets, tokens + more)
        states = self._states(ids, types, offsets, segments)
        pooled = ops.pool_normalize()(states, offsets, pooling.kind, None, None, self._shape.epsilon, unit, torch.float32)
        return pooled[:sequences]

    def _states(self, ids: torch.Tensor, types: torch.Tensor | None, offsets: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
        """The last hidden states (tokens, H)."""
        x = self._embedded(ids, types, offsets, segments)
        if self._shape.kind == "bert":
            for n in range(self._shape.layers):
                x = self._after(x, n, offsets, segments)
            return x
        return self._before(x, offsets, segments)

    def _embedded(
        self, ids: torch.Tensor, types: torch.Tensor | None, offsets: torch.Tensor, segments: torch.Tensor
    ) -> torch.Tensor:
        x = F.embedding(ids, self._weights["embeddings.tokens"])
        if self._shape.kind == "bert":
            place = torch.arange(len(ids), dtype=torch.int32, device=ids.device) - offsets.index_select(0, segments)
            x += F.embedding(place + self._shape.first_position, self._weights["embeddings.positions"])
        if self._shape.types:
            table = self._weights["embeddings.types"]
            x += table[0] if types is None else F.embedding(types, table)
        return self._norm("embeddings.norm", x.to(self._dtype), None)[0]

    def _after(self, x: torch.Tensor, n: int, offsets: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
        """A layer whose norms come after the sums (Vaswani et al. 2017, arXiv:1706.03762, 3.1)."""
        x = self._norm(f"layers.{n}.attention_norm", self._attention(x, n, offsets, segments), x)[0]
        inner = self._activate(self._linear(f"layers.{n}.up", x))
        return self._norm(f"layers.{n}.output_norm", self._linear(f"layers.{n}.down", inner), x)[0]

    def _before(self, x: torch.Tensor, offsets: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
        """All layers of ModernBERT (Warner et al. 2024, arXiv:2412.13663): norms before each part, the sum goes on beside them."""
        normed = total = x  # the first layer takes what the embeddings' norm gave
        for n in range(self._shape.layers):
            out = self._attention(normed, n, offsets, segments)
            normed, total = self._norm(f"layers.{n}.output_norm", out, total, keep_sum=True)
            part, gate = self._linear(f"layers.{n}.up", normed).chunk(2, 1)
            out = self._linear(f"layers.{n}.down", self._activate(part) * gate)
            following = f"layers.{n + 1}.attention_norm" if n + 1 < self._shape.layers else "final_norm"
            normed, total = self._norm(following, out, total, keep_sum=True)
        return normed

    def _attention(self, x: torch.Tensor, n: int, offsets: torch.Tensor, segments: torch.Tensor) -> torch.Tensor:
        shape = self._shape
        qkv = self._linear(f"layers.{n}.qkv", x).view(len(x), 3, shape.heads, shape.head_width)
        everything = shape.sees_all(n)
        cos, sin = self._rotary[0 if everything else 1]
        scale = 1 / math.sqrt(shape.head_width)
        seen = ops.packed_attention()(qkv, offsets, segments, scale, -1 if everything else shape.window, cos, sin, None)
        return self._linear(f"layers.{n}.attention_out", seen.view(len(x), shape.hidden))

    def _linear(self, name: str, x: torch.Tensor) -> torch.Tensor:
        if self._rows == STRIP or len(x) <= self._rows:
            return self._product(name, x)
        return torch.cat([self._product(name, part) for part in torch.split(x, self._rows)])

    def _product(self, name: str, x: torch.Tensor) -> torch.Tensor:
        bias, packed = self._weights.get(f"{name}.bias"), self._packed.get(f"{name}.weight")
        if packed is None:
            return F.linear(x, self._weights[f"{name}.weight"], bias)
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
        return product

    def _norm(
        self, name: str, x: torch.Tensor, residual: torch.Tensor | None, keep_sum: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        weight, bias = self._weights[f"{name}.weight"], self._weights.get(f"{name}.bias", self._zeros)
        if residual is None:
            return F.layer_norm(x, x.shape[1:], weight, bias, self._shape.epsilon), x
        return ops.add_norm()(x, residual, weight, bias, self._shape.epsilon, keep_sum)


def _packed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Factors of products in the order in which oneDNN reads them, taken out of `weights`; F.linear orders them at each call, which
    takes a tenth of the time and gives the same bits. None where oneDNN does not multiply bfloat16. torch.compile uses them, too.
    """
    if not (torch._C._has_mkldnn and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return {}
    factors = [name for name, weight in weights.items() if name.startswith("layers.") and weight.ndim == 2]
    return {name: torch.ops.mkldnn._reorder_linear_weight(weights.pop(name), BF16_ROWS) for name in factors}


def _rotary(shape: Shape, theta: float, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """cos and sin float32 (positions, head_width / 2) of rotary positions (Su et al. 2021, arXiv:2104.09864)."""
    powers = torch.arange(0, shape.head_width, 2, dtype=torch.float32) / shape.head_width
    angles = torch.arange(shape.positions, dtype=torch.float32)[:, None] / theta**powers
    return angles.cos().to(device), angles.sin().to(device)
