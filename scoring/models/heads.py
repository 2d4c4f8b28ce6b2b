"""What the last layer's numbers mean: regression, probability, class probabilities; calibrated, and named as output columns.

Calibration: temperature scaling divides logits by T (Guo et al. 2017, "On Calibration of Modern Neural Networks", eq. 9); Platt
scaling is sigmoid(slope * logit + intercept) (Platt 1999; slope = -A, intercept = -B there). Both are affine in the logits, so a
head is one affine map and one activation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from scoring import ops
from scoring.models.bundle import check_outputs
from scoring.models.manifest import Fields
from scoring.types import Output

Kind = Literal["regression", "binary", "multiclass"]


@dataclass(frozen=True)
class Head:
    """`slope` and `intercept` are the calibration: probability = activation(slope * logit + intercept)."""

    name: str
    kind: Kind
    classes: tuple[str, ...] = ()
    slope: float = 1.0
    intercept: float = 0.0

    @property
    def width(self) -> int:
        return len(self.classes) if self.kind == "multiclass" else 1

    def activate(self, logits: torch.Tensor) -> torch.Tensor:
        """Calibrated float32 (rows, width) to outputs of the same shape."""
        if self.kind == "binary":
            return torch.sigmoid(logits)
        return torch.softmax(logits, 1) if self.kind == "multiclass" else logits

    def describe(self) -> dict[str, Any]:
        plain: dict[str, Any] = {"name": self.name, "kind": self.kind}
        plain |= {"classes": list(self.classes)} if self.classes else {}
        if self.intercept != 0.0 or self.slope <= 0.0:
            return plain | {"calibration": {"kind": "platt", "slope": self.slope, "intercept": self.intercept}}
        return plain | ({"calibration": {"kind": "temperature", "temperature": 1 / self.slope}} if self.slope != 1.0 else {})


def read_heads(body: Fields) -> tuple[Head, ...]:
    """Raises: ModelError: a head that cannot be."""
    heads = tuple(_head(item) for item in body.items("heads"))
    output_names(heads, body.where)
    return heads


def _head(item: Fields) -> Head:
    name, kind = item.text("name"), item.text("kind")
    if kind not in ("regression", "binary", "multiclass"):
        item.wrong("kind", "regression, binary or multiclass", kind)
    classes = item.texts("classes") if kind == "multiclass" else ()
    if kind == "multiclass" and len(classes) < 2:
        item.wrong("classes", "at least two names", list(classes))
    slope, intercept = _calibration(item, kind) if item.has("calibration") else (1.0, 0.0)
    item.done()
    return Head(name, kind, classes, slope, intercept)  # type: ignore[arg-type]


def _calibration(item: Fields, kind: str) -> tuple[float, float]:
    fields = item.fields("calibration")
    how = fields.text("kind")
    if (how, kind) not in (("temperature", "binary"), ("temperature", "multiclass"), ("platt", "binary")):
        fields.wrong("kind", "temperature (binary, multiclass) or platt (binary)", f"{how} for {kind}")
    if how == "platt":
        slope, intercept = fields.number("slope"), fields.number("intercept")
    else:
        temperature = fields.number("temperature")
        if temperature <= 0:
            fields.wrong("temperature", "above 0", temperature)
        slope, intercept = 1 / temperature, 0.0
    fields.done()
    return slope, intercept


def output_names(heads: tuple[Head, ...], where: str = "model.yaml") -> tuple[str, ...]:
    """`score` for a single one-column head; else the head's name, or <head>_<class> for each class."""
    if len(heads) == 1 and heads[0].width == 1:
        return ("score",)
    names = (f"{h.name}_{c}" if c else h.name for h in heads for c in h.classes or ("",))
    return check_outputs(tuple(names), where)


def outputs(heads: tuple[Head, ...]) -> tuple[Output, ...]:
    """One for each name of `output_names`."""
    return tuple(Output(name) for name in output_names(heads))


def affine(heads: tuple[Head, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Calibration of all logits as float32 (logits,) factors and summands."""
    slopes = [h.slope for h in heads for _ in range(h.width)]
    intercepts = [h.intercept for h in heads for _ in range(h.width)]
    return torch.tensor(slopes, dtype=torch.float32), torch.tensor(intercepts, dtype=torch.float32)


_ACTIVATION = {"regression": "none", "binary": "sigmoid", "multiclass": "softmax"}


class Activation:
    """The heads of a model on its device."""

    def __init__(self, heads: tuple[Head, ...], device: torch.device) -> None:
        slope, intercept = (constant.to(device) for constant in affine(heads))
        widths = [h.width for h in heads]
        self._heads = list(zip(heads, _split(slope, widths), _split(intercept, widths), strict=True))
        self._widths = widths

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits (rows, logits) to float32 scores of the same shape."""
        found = [
            ops.score_head()(part, slope, intercept, _ACTIVATION[h.kind], 0, False, None, [])[0]
            for part, (h, slope, intercept) in zip(_split(logits, self._widths), self._heads, strict=True)
        ]
        return found[0] if len(found) == 1 else torch.cat(found, 1)


def _split(given: torch.Tensor, widths: list[int]) -> tuple[torch.Tensor, ...]:
    return torch.split(given, widths, -1)


def activate(heads: tuple[Head, ...], logits: torch.Tensor) -> torch.Tensor:
    """Calibrated logits (rows, logits) to outputs of the same shape."""
    if len(heads) == 1:
        return heads[0].activate(logits)
    parts = torch.split(logits, [h.width for h in heads], dim=1)
    return torch.cat([h.activate(p) for h, p in zip(heads, parts, strict=True)], 1)
