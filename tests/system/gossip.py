"""A user's own module that says more than it should: on one value of x0 it raises with that value in its message."""

import torch
from torch import nn


class Gossip(nn.Module):
    def __init__(self, secret: float) -> None:
        super().__init__()
        self.secret = secret
        self.last = nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for value in x[:, 0].tolist():
            if value == self.secret:
                raise ValueError(f"who would score {value:.2f} of all numbers")
        return torch.sigmoid(self.last(torch.nan_to_num(x)))
