"""From sums of leaves to scores: what the objective of a forest says they mean."""

from __future__ import annotations

from collections.abc import Callable

import torch

from scoring.models.forest_parts.shape import ForestShape


def scores(shape: ForestShape, margins: torch.Tensor) -> torch.Tensor:
    """Float64 (rows, margins) to float64 scores of the same shape."""
    return _LINKS[shape.link](margins, shape.alpha)


def decided(margins: torch.Tensor) -> torch.Tensor:
    """int64 (rows,): the class of the largest margin, the first of equals. Every link of classes keeps their order."""
    return margins.argmax(1)


_LINKS: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "identity": lambda x, alpha: x,
    "sigmoid": lambda x, alpha: torch.sigmoid(alpha * x),
    "hinge": lambda x, alpha: (x > 0).to(x.dtype),
    "exponential": lambda x, alpha: x.exp(),
    "signed_square": lambda x, alpha: x * x.abs(),
    "log1p_exp": lambda x, alpha: torch.logaddexp(x, torch.zeros_like(x)),
    "anomaly": lambda x, alpha: torch.exp2(-x / alpha),
    "softmax": lambda x, alpha: torch.softmax(x, 1),
    "one_vs_all": lambda x, alpha: torch.sigmoid(alpha * x),
    "probabilities": lambda x, alpha: x,
}
