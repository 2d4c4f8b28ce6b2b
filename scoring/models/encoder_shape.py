"""What an encoder of texts looks like: the keys of model.yaml that decide its tensors and its arithmetic, and what they must be.

T tokens of a sequence, H hidden width, I inner width of an MLP, V vocabulary, P positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from scoring.errors import ModelError
from scoring.models.bundle import Shapes
from scoring.models.manifest import Fields

Kind = Literal["bert", "modernbert"]
Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]
PoolingKind = Literal["mean", "cls", "max"]
KINDS: tuple[Kind, ...] = ("bert", "modernbert")
ACTIVATIONS: tuple[Activation, ...] = ("gelu", "gelu_tanh", "relu", "silu")
DENSE_ACTIVATIONS = (*ACTIVATIONS, "tanh", "sigmoid", "none")
POOLINGS: tuple[PoolingKind, ...] = ("mean", "cls", "max")
MOST_PROJECTIONS = 16


@dataclass(frozen=True)
class Shape:
    """One encoder.

    bert: norms after the residual, learned positions. modernbert: norms before, rotary positions, a gated MLP; layers 0,
    `global_every`, 2 * `global_every`, … see all tokens, the others `window` tokens to each side (so 2 * window + 1 in all);
    `theta` holds the rotary base of these and of those, 1 / theta ** (2 i / head_width) being computed in float32.
    """

    kind: Kind
    vocabulary: int
    hidden: int
    layers: int
    heads: int
    inner: int
    activation: Activation
    epsilon: float
    positions: int
    first_position: int = 0
    types: int = 0
    window: int = 0
    global_every: int = 1
    theta: tuple[float, float] = (10_000.0, 10_000.0)
    biases: bool = True

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence, special ones included."""
        return self.positions - self.first_position

    @property
    def head_width(self) -> int:
        return self.hidden // self.heads

    def sees_all(self, layer: int) -> bool:
        """Whether the layer attends to all tokens, however far."""
        return self.kind == "bert" or layer % self.global_every == 0

    def check(self, where: str) -> None:
        """Raises: ModelError: the numbers do not fit together."""
        if self.hidden % self.heads:
            raise ModelError(f"{where}: hidden {self.hidden} cannot be divided among {self.heads} heads.")
        if self.epsilon <= 0:
            raise ModelError(f"{where}: 'epsilon' must be above 0, not {self.epsilon}.")
        if self.longest < 1:
            raise ModelError(f"{where}: first_position {self.first_position} leaves none of {self.positions} positions.")
        if self.kind == "bert" and not self.biases:
            raise ModelError(f"{where}: an encoder of kind bert has biases; 'biases' must be true.")
        if self.kind == "modernbert" and self.head_width % 2:
            raise ModelError(f"{where}: rotary positions need heads of even width, not of {self.head_width} ({self.heads} heads).")
        if min(self.theta) <= 0:
            raise ModelError(f"{where}: 'theta' must be two numbers above 0, not {list(self.theta)}.")

    def describe(self) -> dict[str, Any]:
        """The `encoder` of model.yaml."""
        plain: dict[str, Any] = {"kind": self.kind, "vocabulary": self.vocabulary, "hidden": self.hidden, "layers": self.layers}
        plain |= {"heads": self.heads, "inner": self.inner, "activation": self.activation, "epsilon": self.epsilon}
        plain |= {"positions": self.positions}
        if self.kind == "bert":
            plain |= {"first_position": self.first_position, "types": self.types}
        else:
            plain |= {"window": self.window, "global_every": self.global_every, "theta": list(self.theta)}
        return plain | {"biases": self.biases}

    def tensors(self) -> Shapes:
        """Names, dtypes and shapes of the encoder's weights."""
        h, inner = self.hidden, self.inner
        sizes: dict[str, tuple[int, ...]] = {"embeddings.tokens": (self.vocabulary, h)}
        sizes |= {"embeddings.positions": (self.positions, h)} if self.kind == "bert" else {}
        sizes |= {"embeddings.types": (self.types, h)} if self.types else {}
        sizes |= self._affine("embeddings.norm", h)
        for n in range(self.layers):
            sizes |= self._affine(f"layers.{n}.qkv", 3 * h, h) | self._affine(f"layers.{n}.attention_out", h, h)
            sizes |= {} if self.kind == "modernbert" and n == 0 else self._affine(f"layers.{n}.attention_norm", h)
            sizes |= self._affine(f"layers.{n}.up", inner if self.kind == "bert" else 2 * inner, h)
            sizes |= self._affine(f"layers.{n}.down", h, inner) | self._affine(f"layers.{n}.output_norm", h)
        sizes |= self._affine("final_norm", h) if self.kind == "modernbert" else {}
        return _float32(sizes)

    def _affine(self, name: str, *size: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": size} | ({f"{name}.bias": size[:1]} if self.biases else {})


@dataclass(frozen=True)
class Pooling:
    """One vector (H,) of the last hidden state (T, H): mean, first row or maximum over all tokens, special ones included."""

    kind: PoolingKind = "mean"

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind}


@dataclass(frozen=True)
class Projection:
    """A dense layer after pooling: activation(W x + b), then LayerNorm with the encoder's epsilon where `norm` says so."""

    outputs: int
    activation: str = "none"
    bias: bool = True
    norm: bool = False

    def describe(self) -> dict[str, Any]:
        return {"activation": self.activation, "outputs": self.outputs, "bias": self.bias, "norm": self.norm}


def read_shape(fields: Fields) -> Shape:
    """The `encoder` of model.yaml. Raises: ModelError: an encoder that there is not."""
    kind = _one_of(fields, "kind", KINDS)
    plain: dict[str, Any] = {"kind": kind, "vocabulary": fields.integer("vocabulary", 1, 1 << 24)}
    plain |= {"hidden": fields.integer("hidden", 1, 1 << 16), "layers": fields.integer("layers", 1, 1024)}
    plain |= {"heads": fields.integer("heads", 1, 1 << 16), "inner": fields.integer("inner", 1, 1 << 20)}
    plain |= {"activation": _one_of(fields, "activation", ACTIVATIONS), "epsilon": fields.number("epsilon")}
    plain |= {"positions": fields.integer("positions", 1, 1 << 20)}
    if kind == "bert":
        plain |= {"first_position": fields.integer("first_position", 0, 1 << 20, 0), "types": fields.integer("types", 0, 1 << 16)}
    else:
        plain |= {"window": fields.integer("window", 0, 1 << 20), "global_every": fields.integer("global_every", 1, 1024)}
        plain["theta"] = _theta(fields)
    shape = Shape(**plain, biases=fields.flag("biases", True))
    fields.done()
    shape.check(fields.where)
    return shape


def read_pooling(fields: Fields) -> Pooling:
    """The `pooling` of model.yaml. Raises: ModelError: a way to pool that there is not."""
    pooling = Pooling(_one_of(fields, "kind", POOLINGS))
    fields.done()
    return pooling


def read_projections(body: Fields) -> tuple[Projection, ...]:
    """The `projections` of model.yaml, which may be an empty list. Raises: ModelError: a layer that cannot be."""
    found = []
    for item in body.items("projections"):
        activation = _one_of(item, "activation", DENSE_ACTIVATIONS)
        outputs = item.integer("outputs", 1, 1 << 16)
        found.append(Projection(outputs, activation, item.flag("bias", True), item.flag("norm", False)))
        item.done()
    if len(found) > MOST_PROJECTIONS:
        raise ModelError(f"{body.where}: {len(found)} projections; at most {MOST_PROJECTIONS} are read.")
    return tuple(found)


def vector_width(shape: Shape, projections: tuple[Projection, ...]) -> int:
    """Width of the vector after pooling and projections."""
    return projections[-1].outputs if projections else shape.hidden


def tensors_of(shape: Shape, projections: tuple[Projection, ...], logits: int) -> Shapes:
    """All tensors of weights.safetensors; `logits` of the classifier, 0: none. Norms of projections always have biases."""
    sizes: dict[str, tuple[int, ...]] = {}
    width = shape.hidden
    for k, one in enumerate(projections):
        sizes[f"projections.{k}.weight"] = (one.outputs, width)
        sizes |= {f"projections.{k}.bias": (one.outputs,)} if one.bias else {}
        sizes |= {f"projections.{k}.norm.{part}": (one.outputs,) for part in ("weight", "bias")} if one.norm else {}
        width = one.outputs
    sizes |= {"classifier.weight": (logits, width), "classifier.bias": (logits,)} if logits else {}
    return shape.tensors() | _float32(sizes)


def _theta(fields: Fields) -> tuple[float, float]:
    value = fields.anything("theta")
    if not isinstance(value, list) or len(value) != 2 or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in value):
        fields.wrong("theta", "a list of two numbers (of global and of local layers)", value)
    return float(value[0]), float(value[1])


def _one_of(fields: Fields, key: str, known: tuple[Any, ...]) -> Any:
    if (value := fields.text(key)) not in known:
        fields.wrong(key, f"{', '.join(known[:-1])} or {known[-1]}", value)
    return value


def _float32(sizes: dict[str, tuple[int, ...]]) -> Shapes:
    return {name: (torch.float32, size) for name, size in sizes.items()}
