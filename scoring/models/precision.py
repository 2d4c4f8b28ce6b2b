"""What a model computes in, by `model.precision`: which families have a choice, what it costs, which tolerance then holds.

`auto` is the family's own choice: float32 everywhere, but bfloat16 for texts on a GPU. With `bf16` products take factors of 16 bits
and add up in float32; what lies between products is bfloat16, too.
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path

import torch

from scoring.errors import ModelError
from scoring.models.bundle import Bundle
from scoring.settings import Precision

_FLAGS = ("amx_bf16", "avx512_bf16", "bf16")  # of x86 with tiles, with vectors, of ARM; as Linux names them
_CPUINFO = Path("/proc/cpuinfo")


def refuse(bundle: Bundle, asked: Precision, offered: Collection[str]) -> None:
    """Raises: ModelError: the bundle's family does not compute in what is asked for."""
    if asked != "auto" and asked not in offered:
        has = f"computes in {' or '.join(offered)} only" if offered else "computes as its class says"
        raise ModelError(
            f"Bundle {bundle.name}: model.precision is {asked}, but the {bundle.family} family {has}. "
            f"Say model.precision={'|'.join(('auto', *offered))}."
        )


def tolerance(limits: Mapping[str, float], on_gpu: bool, asked: Precision) -> float:
    """Of a bundle's limits by route the one that scores made so are held to: that of GPUs is meant for factors of 16 bits."""
    return limits["gpu" if on_gpu or asked == "bf16" else "cpu"]


def text_dtype(asked: Precision, device: torch.device) -> torch.dtype:
    """Of the encoder of a text model."""
    on_gpu = device.type != "cpu"
    return torch.bfloat16 if asked == "bf16" or (asked == "auto" and on_gpu) else torch.float32


@cache
def bf16_instruction() -> str:
    """The instruction of this machine's CPU that multiplies bfloat16, by its flag in /proc/cpuinfo; "" if it has none.

    torch says what it was built to use, and asks oneDNN at the first product; the flags are the one public account of a CPU.
    """
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return ""
    known = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split(":", 1)[1].split()}
    return next((flag for flag in _FLAGS if flag in known), "")


def slow_here(asked: Precision) -> tuple[str, ...]:
    """Why it does not pay on the CPU of this machine; nothing where it does."""
    if asked != "bf16" or bf16_instruction():
        return ()
    return (f"model.precision=bf16 on {platform.node()}: {without_bf16()}",)


def without_bf16() -> str:
    """What is said of a CPU without such an instruction."""
    return f"its CPU has none of {', '.join(_FLAGS)}, so that fp32 is several times faster"
