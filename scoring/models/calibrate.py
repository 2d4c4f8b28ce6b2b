"""Fit calibration on held-out logits: two numbers for a binary head, one for a multiclass head.

Temperature: Guo et al. 2017, section 4.2, minimise the negative log likelihood over T. Platt: Platt 1999, sigmoid(a * logit + b)
with his smoothed targets (N+ + 1) / (N+ + 2) and 1 / (N- + 2), so that separable data do not drive a to infinity.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name


def platt(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """(slope, intercept) for float (rows,) logits and 0/1 labels."""
    positive = labels.bool()
    yes, no = int(positive.sum()), int((~positive).sum())
    targets = torch.where(positive, (yes + 1) / (yes + 2), 1 / (no + 2)).double()
    found = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    wide = logits.double()
    _minimise(found, lambda: F.binary_cross_entropy_with_logits(found[0] * wide + found[1], targets))
    slope, intercept = found.detach().tolist()
    return slope, intercept


def temperature(logits: torch.Tensor, classes: torch.Tensor) -> float:
    """T for float (rows, classes) logits and int64 (rows,) classes; between 0.05 and 20."""
    log_t = torch.zeros(1, dtype=torch.float64, requires_grad=True)  # T = exp(log_t) stays positive
    wide = logits.double()
    _minimise(log_t, lambda: F.cross_entropy(wide * torch.exp(-log_t), classes))
    return float(torch.exp(log_t.detach()).clamp(0.05, 20.0))


def _minimise(parameters: torch.Tensor, loss: Callable[[], torch.Tensor]) -> None:
    search = torch.optim.LBFGS([parameters], max_iter=100, line_search_fn="strong_wolfe")

    def step() -> torch.Tensor:
        search.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    search.step(step)  # type: ignore[no-untyped-call]
