"""A user's own module that waits where it is told to: a test decides how far a run gets, and when."""

import time
from pathlib import Path

import torch
from torch import nn


class Waits(nn.Module):
    """Rows with x0 = n >= 1000 wait for a file named n in the folder `gates`."""

    def __init__(self, gates: str) -> None:
        super().__init__()
        self.gates = Path(gates)
        self.last = nn.Linear(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number in {int(value) for value in x[:, 0].tolist() if value >= 1000}:
            while not (self.gates / str(number)).exists():
                time.sleep(0.02)
        return torch.sigmoid(self.last(torch.nan_to_num(x) % 1000))
