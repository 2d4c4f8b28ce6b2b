"""All kernel files, their cases, and how a result is held against the truth. A new file under kernels/ is found here by itself."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

KERNELS = Path(__file__).parents[2] / "kernels"
NAMES = sorted(path.stem for path in KERNELS.glob("*.py"))


def kernel(name: str) -> ModuleType:
    return import_module(f"scoring.kernels.{name}")


def most_configs(module: ModuleType) -> int:
    return max((len(configs) for configs in module.CONFIGS.values()), default=1)


def small_cases() -> Iterator[tuple[str, Any]]:
    for name in NAMES:
        yield from ((name, case) for case in kernel(name).cases() if case.size == "small")


def exact(value: Any) -> Any:
    """Arguments for the reference in float64: floating tensors widened, a floating dtype that is asked for too."""
    if isinstance(value, torch.Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, torch.dtype) and value.is_floating_point:
        return torch.float64
    if isinstance(value, list):
        return [exact(item) for item in value]
    return value


def tensors(found: Any) -> tuple[torch.Tensor, ...]:
    return (found,) if isinstance(found, torch.Tensor) else tuple(found)


def same(one: Any, other: Any) -> bool:
    """Equal to the bit."""
    pairs = list(zip(tensors(one), tensors(other), strict=True))
    return all(a.shape == b.shape and torch.equal(a.flatten().view(torch.uint8), b.flatten().view(torch.uint8)) for a, b in pairs)


def poisoned(compute: Any, **arguments: Any) -> tuple[torch.Tensor, ...]:
    """Run with every uninitialised tensor full of NaN, or of the largest integer: what is not written shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        return tensors(compute(**arguments))
    finally:
        torch.use_deterministic_algorithms(before)


def proven(module: ModuleType, arguments: dict[str, Any], tolerance: Any = None) -> tuple[torch.Tensor, ...]:
    """Hold the kernel against the float64 reference; returns what the kernel gave.

    Integers and booleans must be equal, floats within the tolerance that the file states for their dtype; NaN where the truth is
    NaN and nowhere else, infinities likewise. What a file says to follow from other outputs (`consequences`) must follow from those
    that the kernel gave, to the bit: of a score within its tolerance of an edge, float64 may say that it lies beyond.
    """
    found = poisoned(module.fused, **arguments)
    following: dict[int, torch.Tensor] = module.consequences(found, arguments) if hasattr(module, "consequences") else {}
    truth = tensors(module.reference(**{name: exact(value) for name, value in arguments.items()}))
    assert len(found) == len(truth)
    for place, (got, want) in enumerate(zip(found, truth, strict=True)):
        assert got.shape == want.shape, f"output {place}"
        if place in following:
            assert same(got, following[place]), f"output {place} does not follow from the others: {got} is not {following[place]}"
            continue
        if not got.is_floating_point():
            assert torch.equal(got.to(want.dtype), want), f"output {place}: {(got != want).sum()} of {got.numel()} differ"
            continue
        allowed = tolerance or module.TOLERANCES[got.dtype]
        torch.testing.assert_close(
            got.double(), want.double(), atol=allowed.absolute, rtol=allowed.relative, equal_nan=True,
            msg=lambda text, place=place: f"output {place}: {text}",
        )  # fmt: skip
    return found
