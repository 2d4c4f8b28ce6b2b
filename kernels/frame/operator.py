"""From a kernel file to `torch.ops.scoring.<name>`: one operator for all devices, which chooses how it computes.

CUDA computes with Triton unless the kernel refuses the case, the CPU with the reference. SCORING_KERNELS=triton|torch forces one,
and so does `force`. Defined by `torch.library.Library`: `torch.library.custom_op` makes the same operator, but its first call
imports torch's compiler (2.2 s in every lane, 15 us a call against 9; torch 2.13), and `triton_op` breaks compilation on a host
without a GPU. Opaque to the compiler on purpose; under CUDA graphs nothing here synchronises or allocates on the host.
"""

import os
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal

import torch

Route = Literal["triton", "torch"]
LIBRARY = torch.library.Library("scoring", "DEF")
_forced: list[Route | None] = [None]


class KernelError(RuntimeError):
    """A kernel could not be compiled or launched here; the reference computes the same."""


def register(
    name: str,
    reference: Callable[..., Any],
    fused: Callable[..., Any],
    check: Callable[..., None],
    refuses: Callable[..., str | None],
    fake: Callable[..., Any],
) -> Any:
    """All functions take the same arguments; annotations of `reference` make the schema. Outputs are fresh tensors.

    `check` raises on what neither way can compute, `refuses` says why Triton cannot, `fake` gives empty outputs.
    """
    LIBRARY.define(name + torch.library.infer_schema(reference, mutates_args=()))

    def run(*given: Any, **named: Any) -> Any:
        check(*given, **named)
        device = _device(given)
        if route(name, device, refuses(*given, **named)) == "torch":
            return reference(*given, **named)
        try:
            with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
                return fused(*given, **named)
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "triton":
                raise
            raise KernelError(f"{name}: {type(error).__name__}: {error}") from error

    def shapes(*given: Any, **named: Any) -> Any:
        check(*given, **named)
        return fake(*given, **named)

    for key in ("CPU", "CUDA"):
        LIBRARY.impl(name, run, key)
    torch.library.register_fake(f"scoring::{name}", shapes, lib=LIBRARY)
    return getattr(torch.ops.scoring, name).default


def route(name: str, device: torch.device, refusal: str | None) -> Route:
    """Raises: NotImplementedError: Triton is forced and cannot. ValueError: SCORING_KERNELS holds another word."""
    wanted = _forced[0] or os.environ.get("SCORING_KERNELS") or ("triton" if device.type == "cuda" else "torch")
    if wanted not in ("triton", "torch"):
        raise ValueError(f"SCORING_KERNELS is {wanted!r}, expected triton or torch")
    if wanted == "torch" or refusal is None:
        return wanted  # type: ignore[return-value]
    if _forced[0] or os.environ.get("SCORING_KERNELS"):
        raise NotImplementedError(f"{name}: Triton is forced, but the kernel refuses: {refusal}")
    warnings.warn(f"{name}: computed by torch, the kernel refuses: {refusal}", RuntimeWarning, stacklevel=3)
    return "torch"


def force(way: Route | None) -> None:
    """Compute so from now on in this process, whatever the device; None: by device again."""
    _forced[0] = way


def forced() -> Route | None:
    return _forced[0]


def _device(given: tuple[Any, ...]) -> torch.device:
    first = given[0]
    found: torch.device = (first if isinstance(first, torch.Tensor) else first[0]).device
    return found
