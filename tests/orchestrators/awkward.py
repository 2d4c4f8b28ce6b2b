"""A user's own module that makes of a day what a test needs: rows of one kind kill its process, rows of another keep it waiting."""

import os
import signal
import time
from pathlib import Path

import torch
from torch import nn

KILLS, WAITS = 666.0, 777.0


class Awkward(nn.Module):
    def __init__(self, gate: str) -> None:
        super().__init__()
        self.gate = Path(gate)
        self.last = nn.Linear(2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool((x[:, 0] == KILLS).any()):
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
        while bool((x[:, 0] == WAITS).any()) and not self.gate.exists():
            time.sleep(0.02)
        return torch.sigmoid(self.last(torch.nan_to_num(x) % 600))
