"""pair_interaction: DLRM's dot products of all pairs of a row's vectors, beside the first vector.

    x[n] = v[n, 0] (with `keep_first`) | v[n, i] . v[n, j] for all i < j, i slowest | 0 up to `width`
                                                                            (Naumov et al. 2019, arXiv:1906.00091, section 2.1.3)

Floor, element width w: bytes = N*w*(V*d + width); FLOPs = N*V*(V-1)*d. HBM-bound: 10 FLOP a byte at V=27, d=64, bfloat16.
Why it pays: V=27, d=64, bfloat16 is 4.3 kB a row. Gathering both sides of every pair, then product, sum and concatenation, moves
270 kB; a batched product of all with all, from which pairs are gathered and concatenated (the reference), about 8 kB.
A program takes several rows, and all V x V products of each by one batched matrix product: twice the work that is needed, but on
tensor cores (float16, bfloat16; float32 sums), or in float32 multiply-adds without TF32. Operands are read once from HBM, and
kept in shared memory; only i < j is stored. Up to 16 vectors count as 16, up to 32 as 32: few ones waste arithmetic.

A row's bits do not depend on its batch: its sums run over d alone, in an order that is fixed by d.
"""

from math import gcd

import torch

from .frame import check as require
from .frame.case import Arguments, Case, Tolerance, Traffic
from .frame.language import cdiv, jit, power_of_2, tl
from .frame.operator import register
from .frame.tuning import Config, pick

NAME = "pair_interaction"
MOST_VECTORS, MOST_NUMBERS, MOST_PADDING = 32, 128, 1024
TOLERANCES = {  # of sums of up to 128 products of normal numbers
    torch.float32: Tolerance(2e-5, 1e-6),
    torch.float16: Tolerance(2e-5, 4.9e-4),
    torch.bfloat16: Tolerance(2e-5, 4e-3),
}
INSTRUCTIONS = ("wide_loads", "tensor_cores")
CONFIGS = {
    "v16": (Config((("ROWS", 8),), 4),),
    "v32": (Config((("ROWS", 4),), 4),),
}


def reference(vectors: torch.Tensor, keep_first: bool, width: int) -> torch.Tensor:
    """`vectors` [N, V, d], rows of any stride. Returns x [N, width] of their dtype; `width` is a multiple of 8."""
    rows, count, numbers = vectors.shape
    kept = numbers if keep_first else 0
    wide = vectors.to(torch.promote_types(vectors.dtype, torch.float32))
    first, second = torch.triu_indices(count, count, 1, device=vectors.device)
    x = vectors.new_empty((rows, width))
    x[:, :kept] = vectors[:, 0, :kept]
    used = kept + len(first)
    x[:, kept:used] = torch.bmm(wide, wide.transpose(1, 2)).flatten(1).index_select(1, first * count + second)
    x[:, used:] = 0
    return x


def check(vectors: torch.Tensor, keep_first: bool, width: int) -> None:
    floats = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
    require.tensor(NAME, "vectors", vectors, floats, (None, None, None), contiguous=False)
    _, count, numbers = vectors.shape
    if count < 1 or numbers < 1:
        raise ValueError(f"{NAME}: argument 'vectors' has shape {tuple(vectors.shape)}, expected at least one vector of one number")
    if (count > 1 and vectors.stride(1) != numbers) or (numbers > 1 and vectors.stride(2) != 1):
        raise ValueError(f"{NAME}: argument 'vectors' has strides {vectors.stride()}, expected rows without gaps")
    least = _used(vectors, keep_first)
    if width % 8 or width < least:
        raise ValueError(f"{NAME}: argument 'width' is {width}, expected a multiple of 8, at least {least}")


def refuses(vectors: torch.Tensor, keep_first: bool, width: int) -> str | None:
    _, count, numbers = vectors.shape
    if vectors.dtype not in TOLERANCES:
        return f"vectors are {vectors.dtype}"
    if count > MOST_VECTORS or numbers > MOST_NUMBERS:
        return f"{count} vectors of {numbers} do not fit in registers (limits {MOST_VECTORS} and {MOST_NUMBERS})"
    padding = width - _used(vectors, keep_first)
    return f"{padding} columns of padding (limit {MOST_PADDING})" if padding > MOST_PADDING else None


def fake(vectors: torch.Tensor, keep_first: bool, width: int) -> torch.Tensor:
    return vectors.new_empty((vectors.shape[0], width))


def fused(vectors: torch.Tensor, keep_first: bool, width: int) -> torch.Tensor:
    x = fake(vectors, keep_first, width)
    rows, count, numbers = vectors.shape
    key = "v16" if count <= 16 else "v32"
    config = pick(NAME, key, CONFIGS[key], x.device)
    grid = (cdiv(rows, dict(config.blocks)["ROWS"]),)
    step = gcd(vectors.stride(0), 8)
    if rows and width:
        _kernel[grid](
            vectors, x, rows, vectors.stride(0) // step, width // 8, STEP=step, VECTORS=count, NUMBERS=numbers, V=int(key[1:]),
            D=max(power_of_2(numbers), 16), CHUNK=_chunk(vectors), KEEP=keep_first,
            PADDING=power_of_2(width - _used(vectors, keep_first)), **config.options(),
        )  # fmt: skip
    return x


def _used(vectors: torch.Tensor, keep_first: bool) -> int:
    _, count, numbers = vectors.shape
    return count * (count - 1) // 2 + (numbers if keep_first else 0)


def _chunk(vectors: torch.Tensor) -> int:
    """Numbers of each vector in one step: float32 multiply-adds hold a step in registers, tensor cores take it from memory."""
    return 16 if vectors.dtype == torch.float32 else min(max(power_of_2(vectors.shape[2]), 16), 64)


@jit(do_not_specialize=["rows", "steps", "eighths"])
def _kernel(
    vectors, x, rows, steps, eighths, STEP: tl.constexpr, VECTORS: tl.constexpr, NUMBERS: tl.constexpr, V: tl.constexpr,
    D: tl.constexpr, CHUNK: tl.constexpr, KEEP: tl.constexpr, PADDING: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside, vector = row < rows, tl.arange(0, V)
    begin = vectors + row * (steps.to(tl.int64) * STEP)  # the factors tell the compiler what divides these strides
    width = eighths.to(tl.int64) * 8
    out = x + row * width
    given = inside[:, None, None] & (vector < VECTORS)[None, :, None]
    dots = tl.zeros((ROWS, V, V), tl.float32)
    for first in tl.static_range(0, NUMBERS, CHUNK):
        number = first + tl.arange(0, CHUNK)
        place = vector[:, None] * NUMBERS + number[None, :]
        part = tl.load(begin[:, None, None] + place[None, :, :], mask=given & (number < NUMBERS)[None, None, :], other=0.0)
        dots = tl.dot(part, tl.trans(part, 0, 2, 1), dots, input_precision="ieee")
    used: tl.constexpr = NUMBERS if KEEP else 0
    if KEEP:
        number = tl.arange(0, D)
        mask = inside[:, None] & (number < NUMBERS)[None, :]
        tl.store(out[:, None] + number[None, :], tl.load(begin[:, None] + number[None, :], mask=mask, other=0.0), mask=mask)
    one, two = vector[:, None], vector[None, :]
    place = used + one * VECTORS - one * (one + 1) // 2 + two - one - 1
    wanted = inside[:, None, None] & ((one < two) & (two < VECTORS))[None, :, :]
    tl.store(out[:, None, None] + place[None, :, :], dots.to(x.dtype.element_ty), mask=wanted)
    column = used + VECTORS * (VECTORS - 1) // 2 + tl.arange(0, PADDING)
    zeros = tl.zeros((ROWS, PADDING), x.dtype.element_ty)
    tl.store(out[:, None] + column[None, :], zeros, mask=inside[:, None] & (column < width)[None, :])


op = register(NAME, reference, fused, check, refuses, fake)


def cases() -> list[Case]:
    def case(name: str, rows: int, count: int, numbers: int, keep: bool, dtype: torch.dtype, size: str = "small") -> Case:
        def make(draw: torch.Generator, device: torch.device) -> Arguments:
            vectors = torch.randn(rows, count, numbers, generator=draw).to(dtype).to(device)
            return {"vectors": vectors, "keep_first": keep, "width": cdiv(_used(vectors, keep), 8) * 8}

        return Case(name, make, size)  # type: ignore[arg-type]

    single, half, brain = torch.float32, torch.float16, torch.bfloat16
    return [
        case("27x64-bfloat16", 10, 27, 64, True, brain),
        case("27x64-float32", 5, 27, 64, True, single),
        case("27x128-bfloat16", 3, 27, 128, False, brain),
        case("9x16-float32", 19, 9, 16, True, single),
        case("9x16-float16", 19, 9, 16, True, half),
        case("2x4-float32", 1, 2, 4, True, single),
        case("32x10-bfloat16", 5, 32, 10, False, brain),
        case("empty", 0, 27, 64, True, single),
        case("262144x27x64-bfloat16", 1 << 18, 27, 64, True, brain, size="large"),
        case("262144x27x16-float32", 1 << 18, 27, 16, True, single, size="large"),
    ]


def traffic(arguments: Arguments) -> Traffic:
    vectors, width = arguments["vectors"], arguments["width"]
    rows, count, numbers = vectors.shape
    return Traffic(vectors.element_size() * rows * (count * numbers + width), rows * count * (count - 1) * numbers)
