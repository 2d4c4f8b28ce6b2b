"""pool_normalize: one vector for each sequence of a packed stream: last LayerNorm, pooling and L2 norm in one pass.

    h_t = LayerNorm(x_t) * weight + bias (where weights are given);  p = mean_t h_t, max_t h_t, or h_first ("cls")
    y = p / max(|p|, 1e-12) (where `unit`), cast to `dtype`

LayerNorm: Ba et al. 2016, arXiv:1607.06450, eq. 4; pooling of token vectors: Reimers and Gurevych 2019, arXiv:1908.10084.
Floor, element widths w of x and v of y: bytes = T*H*w + B*H*v, for "cls" B*H*(w + v): HBM-bound, at most 10 FLOP per element.
The normed states are never written (2*H*w bytes a token less), and "cls" norms only the tokens that it keeps. A program takes one
sequence, ROWS tokens at a time; partial sums stay apart by token and meet once at the end; for the mean, weight and bias come after
pooling. Everything is in float32. A sequence never leaves its program: its bits do not depend on the batch.
A sequence without tokens gives zeros. NaN spreads to its token where that is normed, to its column where not, also in "max"; with
`unit` to the vector. Squares are summed in float32: a norm beyond 1.8e19 is infinite. On trust: offsets ascend from 0 to T.
"""

import torch

from .frame import check as require
from .frame.case import Arguments, Case, Tolerance, Traffic
from .frame.language import jit, power_of_2, tl
from .frame.operator import register
from .frame.tuning import Config, pick

NAME = "pool_normalize"
MAX_WIDTH = 8192  # a token in the registers of 8 warps
LEAST_NORM = 1e-12
TOLERANCES = {
    torch.float32: Tolerance(2e-6, 2e-6),
    torch.float16: Tolerance(5e-7, 1e-3),
    torch.bfloat16: Tolerance(2e-6, 8e-3),
}
INSTRUCTIONS = ("wide_loads", "wide_stores")
CONFIGS = {
    "narrow": (Config((("ROWS", 8),), 4),),  # H <= 512
    "wide": (Config((("ROWS", 2),), 4),),  # H <= 2048
    "huge": (Config((("ROWS", 1),), 8),),
}


def reference(
    x: torch.Tensor, offsets: torch.Tensor, pooling: str, weight: torch.Tensor | None, bias: torch.Tensor | None, epsilon: float,
    unit: bool, dtype: torch.dtype,
) -> torch.Tensor:  # fmt: skip
    """`x` [T, H]; `offsets` int32 [B+1]; `pooling` "mean", "max" or "cls"; `weight`, `bias` [H]. Returns [B, H] of `dtype`."""
    wide = torch.promote_types(x.dtype, torch.float32)
    full = offsets.diff() > 0
    held = (x[offsets[:-1][full].long()] if pooling == "cls" else x).to(wide)
    if weight is not None:
        held = torch.nn.functional.layer_norm(held, x.shape[1:], weight.to(wide), None if bias is None else bias.to(wide), epsilon)
    pooled = held.new_zeros((len(full), x.shape[1]))
    if pooling == "cls":
        pooled[full] = held
    else:
        start = 0.0 if pooling == "mean" else -torch.inf
        found = torch.segment_reduce(held, pooling, offsets=offsets.long(), initial=start, unsafe=True)
        pooled = torch.where(full[:, None], found, pooled)
    return (torch.nn.functional.normalize(pooled, eps=LEAST_NORM) if unit else pooled).to(dtype)


def check(
    x: torch.Tensor, offsets: torch.Tensor, pooling: str, weight: torch.Tensor | None, bias: torch.Tensor | None, epsilon: float,
    unit: bool, dtype: torch.dtype,
) -> None:  # fmt: skip
    floats = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
    require.tensor(NAME, "x", x, floats, (None, None))
    if x.shape[1] == 0:
        raise ValueError(f"{NAME}: argument 'x' has shape {tuple(x.shape)}, expected at least one column")
    require.tensor(NAME, "offsets", offsets, (torch.int32,), (None,), x)
    if len(offsets) < (2 if len(x) else 1):
        raise ValueError(f"{NAME}: argument 'offsets' has {len(offsets)} entries for {len(x)} tokens, expected sequences + 1")
    require.choice(NAME, "pooling", pooling, ("mean", "max", "cls"))
    if weight is None and bias is not None:
        raise ValueError(f"{NAME}: argument 'weight' is missing beside 'bias'")
    for name, given in (("weight", weight), ("bias", bias)):
        if given is not None:
            require.tensor(NAME, name, given, (x.dtype,), (x.shape[1],), x)
    require.choice(NAME, "dtype", dtype, floats)


def refuses(
    x: torch.Tensor, offsets: torch.Tensor, pooling: str, weight: torch.Tensor | None, bias: torch.Tensor | None, epsilon: float,
    unit: bool, dtype: torch.dtype,
) -> str | None:  # fmt: skip
    for name, given in (("x", x.dtype), ("dtype", dtype)):
        if given not in TOLERANCES:
            return f"{name} is {given}"
    return f"rows of {x.shape[1]} do not fit in registers (limit {MAX_WIDTH})" if x.shape[1] > MAX_WIDTH else None


def fake(
    x: torch.Tensor, offsets: torch.Tensor, pooling: str, weight: torch.Tensor | None, bias: torch.Tensor | None, epsilon: float,
    unit: bool, dtype: torch.dtype,
) -> torch.Tensor:  # fmt: skip
    return x.new_empty((offsets.shape[0] - 1, x.shape[1]), dtype=dtype)


def fused(
    x: torch.Tensor, offsets: torch.Tensor, pooling: str, weight: torch.Tensor | None, bias: torch.Tensor | None, epsilon: float,
    unit: bool, dtype: torch.dtype,
) -> torch.Tensor:  # fmt: skip
    y = fake(x, offsets, pooling, weight, bias, epsilon, unit, dtype)
    sequences, width = y.shape
    key = "narrow" if width <= 512 else "wide" if width <= 2048 else "huge"
    options = pick(NAME, key, CONFIGS[key], x.device).options()
    if pooling == "cls":
        options["ROWS"] = 1
    if sequences:
        _kernel[(sequences,)](
            x, offsets, weight, bias, y, width, epsilon, LEAST_NORM, COLUMNS=power_of_2(width), POOLING=pooling,
            NORM=weight is not None, BIAS=bias is not None, UNIT=unit, **options,
        )  # fmt: skip
    return y


@jit
def _scaled(z, weight, bias, column, inside, BIAS: tl.constexpr):
    z = z * tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    return z + tl.load(bias + column, mask=inside, other=0.0).to(tl.float32) if BIAS else z


@jit
def _kernel(
    x, offsets, weight, bias, y, width, epsilon, least,
    COLUMNS: tl.constexpr, POOLING: tl.constexpr, NORM: tl.constexpr, BIAS: tl.constexpr, UNIT: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    sequence = tl.program_id(0).to(tl.int64)
    begin = tl.load(offsets + sequence).to(tl.int64)
    length = (tl.load(offsets + sequence + 1) - begin).to(tl.int32)
    kept = tl.minimum(length, 1) if POOLING == "cls" else length
    column = tl.arange(0, COLUMNS)
    inside = column < width
    pooled = tl.full((ROWS, COLUMNS), float("-inf") if POOLING == "max" else 0.0, tl.float32)
    for first in tl.range(0, kept, ROWS):
        row = first + tl.arange(0, ROWS)
        mask = (row < kept)[:, None] & inside[None, :]
        place = (begin + row)[:, None] * width + column[None, :]
        z = tl.load(x + place, mask=mask, other=0.0).to(tl.float32)
        if NORM:
            off = tl.where(mask, z - (tl.sum(z, 1) / width)[:, None], 0.0)  # padding would count as a deviation of -mean
            z = off * tl.rsqrt(tl.sum(off * off, 1) / width + epsilon)[:, None]
        if POOLING == "max":
            if NORM:
                z = _scaled(z, weight, bias, column[None, :], inside[None, :], BIAS)
            z = tl.where(mask, z, float("-inf"))
            pooled = tl.where((z > pooled) | (z != z), z, pooled)  # a maximum in hardware would drop NaN; here it stays
        else:
            pooled += z
    if POOLING == "max":
        lost = pooled != pooled
        done = tl.max(tl.where(lost, float("-inf"), pooled), 0)
        done = tl.where(tl.max(lost.to(tl.int32), 0) > 0, float("nan"), done)
    else:
        done = tl.sum(pooled, 0) / tl.maximum(kept, 1)
        if NORM:
            done = _scaled(done, weight, bias, column, inside, BIAS)
    done = tl.where(inside & (length > 0), done, 0.0)
    if UNIT:
        norm = tl.sqrt(tl.sum(done * done, 0))
        done = done / tl.where(norm <= least, least, norm)  # NaN stays
    tl.store(y + sequence * width + column, done.to(y.dtype.element_ty), mask=inside)


op = register(NAME, reference, fused, check, refuses, fake)


def cases() -> list[Case]:
    def case(
        name: str, lengths: list[int], width: int, dtype: torch.dtype, pooling: str, *, norm: str = "weight, bias",
        unit: bool = True, out: torch.dtype = torch.float32, size: str = "small",
    ) -> Case:  # fmt: skip
        def make(draw: torch.Generator, device: torch.device) -> Arguments:
            offsets = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32).to(device)
            shapes = {"x": (sum(lengths), width), "weight": (width,), "bias": (width,)}
            drawn = {name: torch.randn(*shape, generator=draw).to(dtype).to(device) for name, shape in shapes.items()}
            kept = {name: value if name == "x" or name in norm else None for name, value in drawn.items()}
            return {**kept, "offsets": offsets, "pooling": pooling, "epsilon": 1e-5, "unit": unit, "dtype": out}

        return Case(name, make, size)  # type: ignore[arg-type]

    few = [3, 0, 1, 8, 17]
    small = [
        case("mean-384-bfloat16", few, 384, torch.bfloat16, "mean", norm=""),
        case("mean-384-bfloat16-normed", few, 384, torch.bfloat16, "mean"),
        case("cls-384-bfloat16-normed", few, 384, torch.bfloat16, "cls", norm="weight"),
        case("max-768-float16-normed", few, 768, torch.float16, "max", unit=False, out=torch.float16),
        case("mean-2048-bfloat16-normed", [3, 0, 9], 2048, torch.bfloat16, "mean", out=torch.bfloat16),
        case("max-8192-float32-normed", [2, 3], 8192, torch.float32, "max"),
        case("max-333-float32", few, 333, torch.float32, "max", norm="", unit=False),
        case("cls-384-bfloat16-empty", [0, 0], 384, torch.bfloat16, "cls", norm="weight"),
        case("mean-384-bfloat16-no-sequence", [], 384, torch.bfloat16, "mean"),
    ]
    short = torch.randint(1, 64, (8192,), generator=torch.Generator().manual_seed(0)).tolist()
    large = [
        case("mean-short-384-bfloat16", short, 384, torch.bfloat16, "mean", size="large"),
        case("cls-short-768-bfloat16", short, 768, torch.bfloat16, "cls", size="large"),
        case("max-512-768-bfloat16", [512] * 512, 768, torch.bfloat16, "max", size="large"),
    ]
    return small + large


def traffic(arguments: Arguments) -> Traffic:
    x, offsets, norm = arguments["x"], arguments["offsets"], arguments["weight"] is not None
    out = (len(offsets) - 1) * x.shape[1]
    read = int((offsets.diff() > 0).sum()) * x.shape[1] if arguments["pooling"] == "cls" else x.numel()
    tables = 2 * x.shape[1] * x.element_size() if norm else 0
    moved = read * x.element_size() + tables + 4 * len(offsets) + out * arguments["dtype"].itemsize
    return Traffic(moved, read * (8 if norm else 1) + out * 4)
