"""How many training rows came to each node and leaf: what contributions are weighted with."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Cover:
    """`nodes` float64 [nodes] and `leaves` float64 [leaves]: weights of training rows that came there, as the library keeps them
    (LightGBM: rows; XGBoost: sums of hessians; scikit-learn: sums of sample weights).
    """

    nodes: torch.Tensor
    leaves: torch.Tensor
