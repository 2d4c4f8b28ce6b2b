"""A user's own module that will not have certain rows: it raises on one kind and has no score for another."""

import torch
from torch import nn


class Fussy(nn.Module):
    """`poison` and `empty` are values of x0: the first makes the whole batch raise, the second makes NaN of one row."""

    def __init__(self, poison: float, empty: float) -> None:
        super().__init__()
        self.poison, self.empty = poison, empty
        self.first = nn.Linear(3, 8)
        self.last = nn.Linear(8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool((x[:, 0] == self.poison).any()):
            raise ValueError("there is poison in this batch")
        score = torch.sigmoid(self.last(torch.relu(self.first(torch.nan_to_num(x)))))
        return torch.where(x[:, :1] == self.empty, torch.nan, score)
