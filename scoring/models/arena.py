"""Tensors of a window side by side in one piece of memory: one copy takes them all to a GPU.

Slots begin at multiples of 128 bytes, what kernels load widest. Pinned memory comes from torch's caching allocator, which hands a
block out again only when the copies that were started from it are done; it keeps as many blocks as windows are on their way.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

_SLOT = 128


class Arena:
    """`memory` uint8 (bytes,) on the host, pinned where there is a GPU. Places are bytes from its beginning."""

    def __init__(self, given: Sequence[torch.Tensor]) -> None:
        """Copy contiguous tensors of any dtype, in order."""
        parts = [tensor.reshape(-1).view(torch.uint8) for tensor in given]
        self.places: list[int] = []
        end = 0
        for part in parts:
            self.places.append(end)
            end += -(-max(len(part), 1) // _SLOT) * _SLOT
        self.memory = torch.empty(end, dtype=torch.uint8, pin_memory=torch.cuda.is_available())
        for place, part in zip(self.places, parts, strict=True):
            self.memory[place : place + len(part)] = part


def taken(memory: torch.Tensor, place: int, dtype: torch.dtype, count: int) -> torch.Tensor:
    """The tensor (count,) that lies at `place`."""
    return memory[place : place + count * dtype.itemsize].view(dtype)
