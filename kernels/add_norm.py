"""add_norm: y = LayerNorm(x + residual) * weight + bias, and the sum itself where the next block needs it.

    s = x + residual;  y = (s - mean(s)) / sqrt(var(s) + epsilon) * weight + bias          (Ba et al. 2016, arXiv:1607.06450, eq. 4)

Rows of [T, H] are independent; mean and variance in float32, two passes over registers, variance by deviations (no cancellation).
Floor, element width w: bytes = T*H*w*(2 read + 1 or 2 written) + 2*H*w, so HBM-bound: 0.7 FLOP per byte.
A program takes several rows so that narrow ones (MiniLM: 384) still fill its loads; a row never leaves its program, so that bits
do not depend on the batch. Technique: Liger-Kernel's and QuACK's register-resident norms (benchmarks in their repositories).
"""

import torch

from .frame import check as require
from .frame.case import Arguments, Case, Tolerance, Traffic
from .frame.language import cdiv, jit, power_of_2, tl
from .frame.operator import register
from .frame.tuning import Config, pick

NAME = "add_norm"
MAX_WIDTH = 8192  # a row in the registers of 8 warps
TOLERANCES = {
    torch.float32: Tolerance(2e-6, 2e-6),
    torch.float16: Tolerance(2e-3, 1e-3),
    torch.bfloat16: Tolerance(1.6e-2, 8e-3),
}
INSTRUCTIONS = ("wide_loads", "wide_stores")
CONFIGS = {
    "narrow": (Config((("ROWS", 4),), 4), Config((("ROWS", 2),), 2)),  # H <= 512
    "wide": (Config((("ROWS", 1),), 4),),  # H <= 2048
    "huge": (Config((("ROWS", 1),), 8),),
}


def reference(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, epsilon: float, keep_sum: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """`x`, `residual` [T, H]; `weight`, `bias` [H]. Returns (y [T, H], s [T, H] or [0, H] without `keep_sum`), of x's dtype."""
    wide = torch.promote_types(x.dtype, torch.float32)
    summed = x.to(wide) + residual
    y = torch.nn.functional.layer_norm(summed, x.shape[1:], weight.to(wide), bias.to(wide), epsilon)
    return y.to(x.dtype), (summed.to(x.dtype) if keep_sum else x.new_empty((0, x.shape[1])))


def check(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, epsilon: float, keep_sum: bool
) -> None:
    floats = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
    require.tensor(NAME, "x", x, floats, (None, None))
    require.tensor(NAME, "residual", residual, (x.dtype,), x.shape, x)
    for name, given in (("weight", weight), ("bias", bias)):
        require.tensor(NAME, name, given, (x.dtype,), (x.shape[1],), x)
    if x.shape[1] == 0:
        raise ValueError(f"{NAME}: argument 'x' has shape {tuple(x.shape)}, expected at least one column")


def refuses(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, epsilon: float, keep_sum: bool
) -> str | None:
    if x.dtype not in TOLERANCES:
        return f"x is {x.dtype}"
    return f"rows of {x.shape[1]} do not fit in registers (limit {MAX_WIDTH})" if x.shape[1] > MAX_WIDTH else None


def fake(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, epsilon: float, keep_sum: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(x), x.new_empty((x.shape[0] if keep_sum else 0, x.shape[1]))


def fused(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, epsilon: float, keep_sum: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    y, summed = fake(x, residual, weight, bias, epsilon, keep_sum)
    rows, width = x.shape
    key = "narrow" if width <= 512 else "wide" if width <= 2048 else "huge"
    config = pick(NAME, key, CONFIGS[key], x.device)
    grid = (cdiv(rows, dict(config.blocks)["ROWS"]),)
    if rows:
        _kernel[grid](
            x, residual, weight, bias, y, summed, rows, width, epsilon, COLUMNS=power_of_2(width), KEEP=keep_sum, **config.options()
        )
    return y, summed


@jit(do_not_specialize=["rows"])
def _kernel(
    x, residual, weight, bias, y, summed, rows, width, epsilon,
    COLUMNS: tl.constexpr, KEEP: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    inside = column < width
    mask = (row < rows)[:, None] & inside[None, :]
    place = row[:, None] * width + column[None, :]
    s = tl.load(x + place, mask=mask, other=0.0).to(tl.float32) + tl.load(residual + place, mask=mask, other=0.0).to(tl.float32)
    if KEEP:
        tl.store(summed + place, s.to(summed.dtype.element_ty), mask=mask)
    mean = tl.sum(s, 1) / width
    off = tl.where(inside[None, :], s - mean[:, None], 0.0)  # padding would count as a deviation of -mean
    scale = tl.rsqrt(tl.sum(off * off, 1) / width + epsilon)
    gain = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    shift = tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
    done = off * scale[:, None] * gain[None, :] + shift[None, :]
    tl.store(y + place, done.to(y.dtype.element_ty), mask=mask)


op = register(NAME, reference, fused, check, refuses, fake)


def cases() -> list[Case]:
    def case(name: str, rows: int, width: int, dtype: torch.dtype, keep: bool = True, size: str = "small") -> Case:
        def make(draw: torch.Generator, device: torch.device) -> Arguments:
            x, residual = (torch.randn(rows, width, generator=draw).to(dtype).to(device) for _ in range(2))
            weight, bias = (torch.randn(width, generator=draw).to(dtype).to(device) for _ in range(2))
            return {"x": x, "residual": residual, "weight": weight, "bias": bias, "epsilon": 1e-12, "keep_sum": keep}

        return Case(name, make, size)  # type: ignore[arg-type]

    small = [
        case(f"{rows}x{width}-{str(dtype)[6:]}", rows, width, dtype, keep)
        for rows, width, dtype, keep in (
            (37, 384, torch.bfloat16, True),
            (37, 384, torch.float32, False),
            (9, 768, torch.float16, False),
            (5, 1024, torch.float32, True),
            (3, 4096, torch.bfloat16, True),
            (1, 1, torch.float32, True),
            (2, 333, torch.float32, True),
            (0, 384, torch.float32, True),
        )
    ]
    large = [case(f"{1 << 18}x{width}-bfloat16", 1 << 18, width, torch.bfloat16, size="large") for width in (384, 768)]
    return small + large


def traffic(arguments: Arguments) -> Traffic:
    x, parts = arguments["x"], 4 if arguments["keep_sum"] else 3
    return Traffic(x.element_size() * (x.numel() * parts + 2 * x.shape[1]), 8 * x.numel())
