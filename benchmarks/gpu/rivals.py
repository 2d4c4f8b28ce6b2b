"""What libraries offer beside our kernels, where it is installed: name -> a function without arguments that does the same work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from gpu.place import Place
from gpu.record import one_line

from scoring.kernels.frame.case import Arguments, Case

Works = dict[str, Callable[[], Any]]
MOST_PADDED_BYTES = 16 << 30


def of(module: ModuleType, arguments: Arguments) -> tuple[Works, dict[str, str]]:
    """Contenders that can be set up, and why others cannot."""
    makers: dict[str, Callable[[], Callable[[], Any]]] = {}
    missing: dict[str, str] = {}
    if module.NAME == "packed_attention":
        makers = {"varlen_attn": lambda: varlen(arguments), "padded SDPA": lambda: padded(arguments)}
    works: Works = {}
    try:
        works |= module.rivals(arguments) if hasattr(module, "rivals") else {}
    except Exception as error:
        missing["of the kernel file"] = one_line(error)
    for name, make in makers.items():
        try:
            works[name] = make()
        except Exception as error:  # not installed, another dtype, no room: a rival that is not there is no failure of ours
            missing[name] = one_line(error)
    return works, missing


def varlen(arguments: Arguments) -> Callable[[], torch.Tensor]:
    """FlashAttention-2 as torch ships it, on the same packed tokens."""
    from torch.nn.attention.varlen import varlen_attn

    qkv, offsets, window = arguments["qkv"], arguments["offsets"], arguments["window"]
    _plain(arguments)
    if qkv.device.type != "cuda" or qkv.dtype not in (torch.bfloat16, torch.float16):
        raise ValueError(f"varlen_attn takes bfloat16 or float16 on CUDA, not {qkv.dtype} on {qkv.device.type}")
    q, k, v = qkv.unbind(1)
    longest = int(offsets.diff().max())
    reach = (window, window) if window >= 0 else (-1, -1)
    return lambda: varlen_attn(q, k, v, offsets, offsets, longest, longest, scale=arguments["scale"], window_size=reach)


def padded(arguments: Arguments) -> Callable[[], torch.Tensor]:
    """scaled_dot_product_attention on [sequences, heads, longest, D] that lie padded already; a mask only where lengths differ."""
    qkv, offsets = arguments["qkv"], arguments["offsets"]
    _plain(arguments)
    if arguments["window"] >= 0:
        raise ValueError("a window would need a mask of every pair")
    lengths = offsets.diff().long()
    lengths = lengths[lengths > 0]
    longest = int(lengths.max())
    if (size := len(lengths) * longest * qkv[0].numel() * qkv.element_size()) > MOST_PADDED_BYTES:
        raise ValueError(f"padded to {longest} tokens it would take {size / 1e9:.0f} GB")
    there = torch.arange(longest, device=qkv.device) < lengths[:, None]
    wide = qkv.new_zeros((len(lengths), longest, *qkv.shape[1:]))
    wide[there] = qkv
    q, k, v = (part.transpose(1, 2).contiguous() for part in wide.unbind(2))
    mask = None if bool(there.all()) else there[:, None, None, :]
    return lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=arguments["scale"])


def more_cases(module: ModuleType, place: Place) -> list[Any]:
    """Lengths that the file of the kernel does not have: most texts short, a few long, as they are; a forest of so few rows
    that torch is done with them in a second; a table that is not counted, and one that stays by column.
    """
    if module.NAME == "forest" and not place.rehearsal:
        case = next(case for case in module.cases() if case.name == "500x6-float32")
        return [replace(case, name="500x6-float32-65536", make=partial(_first_rows, case, 1 << 16))]
    if module.NAME == "arrow_ingest" and not place.rehearsal:  # what of its time is counting, and what is storing rows
        kinds, rows = ["float32"] * 64, 1 << 20
        uncounted = module.case(f"{rows}x64-float32-uncounted", kinds, rows, size="large")
        return [uncounted, module.case(f"{rows}x64-float32-by-column", kinds, rows, edges=7, by_column=True, size="large")]
    if module.NAME != "packed_attention" or place.rehearsal:
        return []

    def skewed(draw: torch.Generator, device: torch.device) -> Arguments:
        lengths = torch.randn(2048, generator=draw).mul_(0.9).exp_().mul_(64).long().clamp_(2, 1024)
        return packed(module, lengths.tolist(), 12, 32, torch.bfloat16, draw, device)

    def middle(draw: torch.Generator, device: torch.device) -> Arguments:
        lengths = torch.randint(256, 513, (512,), generator=draw)
        return packed(module, lengths.tolist(), 12, 64, torch.bfloat16, draw, device)

    return [Case("skewed-12x32-bfloat16", skewed, "large"), Case("256-to-512-12x64-bfloat16", middle, "large")]


def _first_rows(case: Case, rows: int, draw: torch.Generator, device: torch.device) -> Arguments:
    arguments = case.make(draw, device)
    return arguments | {"columns": arguments["columns"][:, :rows].contiguous()}


def packed(
    module: ModuleType, lengths: list[int], heads: int, width: int, dtype: torch.dtype, draw: torch.Generator, device: torch.device
) -> Arguments:
    offsets = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32).to(device)
    qkv = torch.randn(sum(lengths), 3, heads, width, generator=draw).to(dtype).to(device)
    given = {"qkv": qkv, "offsets": offsets, "segments": module.segments_of(offsets, len(qkv)), "scale": width**-0.5, "window": -1}
    return given | dict.fromkeys(("cos", "sin", "slopes"))


def _plain(arguments: Arguments) -> None:
    if any(arguments[name] is not None for name in ("cos", "sin", "slopes")):
        raise ValueError("it has neither rotary positions nor linear biases")
