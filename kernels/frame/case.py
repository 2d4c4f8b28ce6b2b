"""What a kernel file says of itself beside its code: cases to prove and time it on, what they must move, how exact it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """`make(generator, device)` gives the arguments of the operator, by name.

    `size`: "small" runs in the interpreter (some 300 programs at most) and is compiled ahead; "large" is several times the L2
    cache of an H100 (50 MB) and is timed on a GPU only.
    """

    name: str
    make: Callable[[torch.Generator, torch.device], Arguments]
    size: Literal["small", "large"] = "small"

    def arguments(self, device: torch.device | str = "cpu", seed: int = 0) -> Arguments:
        """The same values on every device: they are drawn on the CPU."""
        return self.make(torch.Generator().manual_seed(seed), torch.device(device))


@dataclass(frozen=True)
class Traffic:
    """The floor of a case: bytes that must cross HBM once, and floating-point operations that must be done."""

    bytes: int
    flops: int = 0


@dataclass(frozen=True)
class Tolerance:
    """|found - exact| <= absolute + relative x |exact|, against the reference computed in float64."""

    absolute: float
    relative: float = 0.0


Tolerances = Mapping[torch.dtype, Tolerance]
