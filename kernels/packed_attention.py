"""packed_attention: bidirectional self-attention on a packed stream of tokens, without padding.

    out_i = sum_j softmax_j(scale * q_i . k_j - slope * |i - j|) v_j    over the j of i's own sequence with |i - j| <= window

softmax(q k^T) v: Vaswani et al. 2017, arXiv:1706.03762; streaming softmax: Milakov and Gimelshein 2018, arXiv:1805.02867; rotary
positions, halves split: Su et al. 2021, arXiv:2104.09864; linear biases: Press et al. 2022, arXiv:2108.12409.
Floor, element width w, sequences of L tokens: bytes = 4*T*heads*D*w, FLOP = 4*T*L*heads*D, exp2 = T*L*heads: short text is
HBM-bound, L = 512 with D = 32 is bound by exp2.

A program owns BM consecutive tokens of the stream and one head, whatever sequences they belong to, so that the grid needs neither
the longest length nor a list of tiles, and nothing synchronises. It walks through the sequences of its tile; for each, keys go by
in blocks that start where the *sequence* starts, and only rows of that sequence are stored. So the sums of a token are split alike
wherever its sequence lies, and bits do not depend on the batch, if a matrix product treats all rows alike (BLAS, below the
interpreter, does not: there float32 keeps its tolerance only).
A NaN stays in its sequence; within it, it may reach tokens outside the window. Price: a block of keys is never shared by two
sequences; empty sequences are jumped over.

float32: products by three passes of TF32 ("tf32x3"), about float32's own precision; the interpreter computes them in float32.
Rotated q and k are rounded to qkv's dtype. A position beyond `cos` makes the token NaN, and all that see it: no wrong score hides.
On trust: offsets ascend from 0 to T, `segments` is what `segments_of` gives. Offsets that do not ascend give wrong numbers, but a
program still ends, and reads no token beyond T.
"""

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

from .frame import check as require
from .frame.case import Arguments, Case, Tolerance, Traffic
from .frame.language import cdiv, jit, tl
from .frame.operator import register
from .frame.tuning import Config, pick

NAME = "packed_attention"
MOST_TOKENS = 1 << 30  # places within a sequence are int32, with room for a window
FARTHEST_ROW = 1 << 24  # offsets within a tile are int32
LOG2_E = 1.4426950408889634
TOLERANCES = {
    torch.float32: Tolerance(4e-6, 4e-6),
    torch.float16: Tolerance(1e-3, 1e-3),
    torch.bfloat16: Tolerance(1.6e-2, 8e-3),
}
INSTRUCTIONS = ("wide_loads", "wide_stores", "async_copies", "tensor_cores")
CONFIGS = {
    "d32": (Config((("BM", 64), ("BN", 64)), 4), Config((("BM", 64), ("BN", 32)), 4)),
    "d64": (Config((("BM", 64), ("BN", 64)), 4), Config((("BM", 128), ("BN", 64)), 8), Config((("BM", 64), ("BN", 32)), 4)),
    "d64-rotary": (Config((("BM", 64), ("BN", 32)), 4), Config((("BM", 128), ("BN", 32)), 8)),  # wider ones spill on sm_80
    "d128": (Config((("BM", 64), ("BN", 64)), 8), Config((("BM", 64), ("BN", 32)), 8)),
    "d32-float32": (Config((("BM", 64), ("BN", 32)), 4),),  # TF32 in three passes holds every operand twice
    "d64-float32": (Config((("BM", 64), ("BN", 16)), 4),),
    "d128-float32": (Config((("BM", 32), ("BN", 32)), 8, 1),),
}


_NARROW_TOKENS, _NARROW_THREADS = 32, 16


def segments_of(offsets: torch.Tensor, tokens: int) -> torch.Tensor:
    """The sequence of each token, int32 [tokens], from `offsets` int32 [B+1]; made once a batch, for all layers. Nothing is read
    back from the device: `tokens` is what the host knows already. Empty sequences own no token."""
    places = torch.arange(tokens, dtype=offsets.dtype, device=offsets.device)
    return torch.searchsorted(offsets[1:], places, right=True, out_int32=True)


def reference(
    qkv: torch.Tensor, offsets: torch.Tensor, segments: torch.Tensor, scale: float, window: int,
    cos: torch.Tensor | None, sin: torch.Tensor | None, slopes: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    """`qkv` [T, 3, heads, D], unit stride in D; `offsets` int32 [B+1]; `segments` int32 [T]; `window`: tokens to each side, -1 for
    all; `cos`, `sin` float32 [positions, D/2]; `slopes` float32 [heads]. Returns [T, heads, D] of qkv's dtype.

    Neighbours of one length are computed together, where they lie: a stream sorted by length takes a call for each length.
    Queries of long sequences go in parts: memory is T x heads x D and 64 MB. On a CPU sequences of bfloat16 that are not short are
    multiplied as they are, and added up in float32: half of the time of float32 at 256 tokens on AMX, with 16 tokens more. Not on
    many threads: torch would choose by the number of neighbours how keys are read, and the bits with it.
    """
    out = qkv.new_zeros((qkv.shape[0], *qkv.shape[2:]))
    wide = torch.promote_types(qkv.dtype, torch.float32)
    narrow = qkv.device.type == "cpu" and qkv.dtype == torch.bfloat16 and slopes is None
    narrow = narrow and torch.get_num_threads() <= _NARROW_THREADS
    lengths, counts = torch.unique_consecutive(offsets.diff(), return_counts=True)
    start = 0
    for length, count in zip(lengths.tolist(), counts.tolist(), strict=True):
        end = start + length * count
        if length:
            kept = qkv.dtype if narrow and length >= _NARROW_TOKENS else wide
            q, k, v = qkv[start:end].unflatten(0, (count, length)).to(kept).permute(2, 0, 3, 1, 4)
            if cos is not None and sin is not None:
                q, k = (_rotated(part, cos.to(wide), sin.to(wide)).to(kept) for part in (q, k))
            out[start:end].unflatten(0, (count, length)).copy_(_attended(q, k, v, scale, window, slopes).transpose(1, 2))
        start = end
    return out


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    length = x.shape[-2]
    cos, sin = (pad(table[:length], (0, 0, 0, max(length - len(table), 0)), value=float("nan")) for table in (cos, sin))
    first, second = x.chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)


def _attended(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float, window: int, slopes: torch.Tensor | None
) -> torch.Tensor:
    """q, k, v [sequences, heads, length, D]."""
    heads, length = q.shape[1:3]
    if window < 0 and slopes is None:
        return scaled_dot_product_attention(q, k, v, scale=scale)
    reach = length if window < 0 else window
    step = max((1 << 24) // (heads * length), 1) if window < 0 else 256
    parts = []
    for first in range(0, length, step):
        last = min(first + step, length)
        low, high = max(first - reach, 0), min(last + reach, length)
        far = (torch.arange(first, last, device=q.device)[:, None] - torch.arange(low, high, device=q.device)).abs()
        bias = q.new_zeros(1, 1, 1) if slopes is None else -slopes.to(q.dtype)[:, None, None]
        bias = (bias * far).masked_fill(far > reach, -torch.inf)
        parts.append(
            scaled_dot_product_attention(q[:, :, first:last], k[:, :, low:high], v[:, :, low:high], attn_mask=bias, scale=scale)
        )
    return torch.cat(parts, 2)


def check(
    qkv: torch.Tensor, offsets: torch.Tensor, segments: torch.Tensor, scale: float, window: int,
    cos: torch.Tensor | None, sin: torch.Tensor | None, slopes: torch.Tensor | None,
) -> None:  # fmt: skip
    floats = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
    require.tensor(NAME, "qkv", qkv, floats, (None, 3, None, None), contiguous=False)
    tokens, _, heads, width = qkv.shape
    if heads == 0 or width == 0:
        raise ValueError(f"{NAME}: argument 'qkv' has shape {tuple(qkv.shape)}, expected heads of at least one column")
    if qkv.numel() and width > 1 and qkv.stride(3) != 1:
        raise ValueError(f"{NAME}: argument 'qkv' has strides {qkv.stride()}, expected 1 in the last dimension")
    require.tensor(NAME, "offsets", offsets, (torch.int32,), (None,), qkv)
    if len(offsets) < (2 if tokens else 1):
        raise ValueError(f"{NAME}: argument 'offsets' has {len(offsets)} entries for {tokens} tokens, expected sequences + 1")
    require.tensor(NAME, "segments", segments, (torch.int32,), (tokens,), qkv)
    if not scale > 0:
        raise ValueError(f"{NAME}: argument 'scale' is {scale}, expected a positive number")
    if window < -1:
        raise ValueError(f"{NAME}: argument 'window' is {window}, expected -1 for all or tokens to each side")
    if (cos is None) != (sin is None):
        raise ValueError(f"{NAME}: argument '{'cos' if cos is None else 'sin'}' is missing beside its pair")
    if cos is not None and sin is not None:
        if width % 2:
            raise ValueError(f"{NAME}: argument 'qkv' has heads of {width} columns, expected an even number to rotate")
        require.tensor(NAME, "cos", cos, (torch.float32, torch.float64), (None, width // 2), qkv)
        require.tensor(NAME, "sin", sin, (cos.dtype,), cos.shape, qkv)
    if slopes is not None:
        require.tensor(NAME, "slopes", slopes, (torch.float32, torch.float64), (heads,), qkv)


def refuses(
    qkv: torch.Tensor, offsets: torch.Tensor, segments: torch.Tensor, scale: float, window: int,
    cos: torch.Tensor | None, sin: torch.Tensor | None, slopes: torch.Tensor | None,
) -> str | None:  # fmt: skip
    if qkv.dtype not in TOLERANCES:
        return f"qkv is {qkv.dtype}"
    if f"d{qkv.shape[3]}" not in CONFIGS:
        return f"heads of {qkv.shape[3]} columns (it knows 32, 64 and 128)"
    if qkv.stride(0) >= FARTHEST_ROW:
        return f"rows are {qkv.stride(0)} elements apart (limit {FARTHEST_ROW})"
    return f"{qkv.shape[0]} tokens (limit {MOST_TOKENS})" if qkv.shape[0] > MOST_TOKENS else None


def fake(
    qkv: torch.Tensor, offsets: torch.Tensor, segments: torch.Tensor, scale: float, window: int,
    cos: torch.Tensor | None, sin: torch.Tensor | None, slopes: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    return qkv.new_empty((qkv.shape[0], qkv.shape[2], qkv.shape[3]))


def fused(
    qkv: torch.Tensor, offsets: torch.Tensor, segments: torch.Tensor, scale: float, window: int,
    cos: torch.Tensor | None, sin: torch.Tensor | None, slopes: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    out = fake(qkv, offsets, segments, scale, window, cos, sin, slopes)
    tokens, _, heads, width = qkv.shape
    kind = "-float32" if qkv.dtype == torch.float32 else "-rotary" if cos is not None and width == 64 else ""
    key = f"d{width}{kind}"
    config = pick(NAME, key, CONFIGS[key], qkv.device)
    grid = (cdiv(tokens, dict(config.blocks)["BM"]), heads)
    if tokens:
        _kernel[grid](
            qkv, out, offsets, segments, cos, sin, slopes, tokens, 0 if cos is None else len(cos), *qkv.stride()[:3],
            scale * LOG2_E, min(window, tokens), D=width, WINDOW=window >= 0, ROTARY=cos is not None, ALIBI=slopes is not None,
            **config.options(),
        )  # fmt: skip
    return out


@jit
def _halves(x, rows, there, cos, sin, turns, place, positions, HALF: tl.constexpr):
    """First and second half of the rows at offsets `rows`, rotated by the rows of the tables at offsets `turns`."""
    column = tl.arange(0, HALF)[None, :]
    at, turn, known = rows[:, None] + column, turns[:, None] + column, (there & (place < positions))[:, None]
    first = tl.load(x + at, mask=there[:, None], other=0.0).to(tl.float32)
    second = tl.load(x + HALF + at, mask=there[:, None], other=0.0).to(tl.float32)
    c, s = tl.load(cos + turn, mask=known, other=0.0), tl.load(sin + turn, mask=known, other=0.0)
    lost = tl.where(there & (place >= positions), float("nan"), 0.0)[:, None]
    return (first * c - second * s + lost).to(x.dtype.element_ty), (second * c + first * s + lost).to(x.dtype.element_ty)


@jit
def _streamed(
    x, row_stride, part_stride, ahead, own, length, low, high, cos, sin, positions, slope, scale, window,
    D: tl.constexpr, WINDOW: tl.constexpr, ROTARY: tl.constexpr, ALIBI: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """The tile, whose first row is at place `ahead` of the sequence at `x` (maybe before it), against keys `low` to `high`."""
    column, lane = tl.arange(0, D)[None, :], tl.arange(0, BN)
    half: tl.constexpr = D // 2
    row, place = tl.arange(0, BM), ahead.to(tl.int32) + tl.arange(0, BM)
    q = x + ahead * row_stride
    if ROTARY:
        turn = ahead * half
        q, q2 = _halves(q, row * row_stride, own, cos + turn, sin + turn, row * half, place, positions, half)
    else:
        q = tl.load(q + (row * row_stride)[:, None] + column, mask=own[:, None], other=0.0)
    peak = tl.full((BM,), float("-inf"), tl.float32)  # in units of q . k
    total = tl.zeros((BM,), tl.float32)
    mixed = tl.zeros((BM, D), tl.float32)
    for block in tl.range(low, high, BN):
        there = block + lane < length
        k = x + part_stride + tl.cast(block, tl.int64) * row_stride
        rows = lane * row_stride
        v = k + part_stride
        if ROTARY:
            at = tl.cast(block, tl.int64) * half
            k, k2 = _halves(k, rows, there, cos + at, sin + at, lane * half, block + lane, positions, half)
            score = tl.dot(q2, tl.trans(k2), tl.dot(q, tl.trans(k), input_precision="tf32x3"), input_precision="tf32x3")
        else:
            k = tl.load(k + rows[:, None] + column, mask=there[:, None], other=0.0)
            score = tl.dot(q, tl.trans(k), input_precision="tf32x3")
        far = tl.abs(place[:, None] - (block + lane)[None, :])
        if ALIBI:
            score -= slope * far.to(tl.float32)
        keep = there[None, :]
        if WINDOW:
            keep = keep & (far <= window)
        score = tl.where(keep, score, float("-inf"))
        higher = tl.maximum(peak, tl.max(score, 1))
        level = tl.where(higher == float("-inf"), 0.0, higher) if WINDOW else higher  # no key within the window yet
        weight = tl.exp2(score * scale - (level * scale)[:, None])
        fade = tl.exp2((peak - level) * scale)  # 1 to the bit where nothing is higher: a block out of reach changes nothing
        total = total * fade + tl.sum(weight, 1)
        v = tl.load(v + rows[:, None] + column, mask=there[:, None], other=0.0)
        mixed = tl.dot(weight.to(v.dtype), v, mixed * fade[:, None], input_precision="tf32x3")
        peak = higher
    return mixed / tl.where(total == 0.0, 1.0, total)[:, None]


@jit(do_not_specialize=["tokens", "positions", "window"])
def _kernel(
    qkv, out, offsets, segments, cos, sin, slopes, tokens, positions, row_stride, part_stride, head_stride, scale, window,
    D: tl.constexpr, WINDOW: tl.constexpr, ROTARY: tl.constexpr, ALIBI: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0).to(tl.int64) * BM
    head = tl.program_id(1).to(tl.int64)
    stop = tl.minimum(tile + BM, tokens)
    row = tile + tl.arange(0, BM)
    to = row[:, None] * tl.num_programs(1) * D + head * D + tl.arange(0, D)[None, :]
    slope = 0.0
    if ALIBI:
        slope = tl.load(slopes + head) * 1.4426950408889634 / scale  # in units of q . k; `scale` holds log2(e)
    sequence = tl.load(segments + tile)
    begin = tl.minimum(tl.maximum(tl.load(offsets + sequence), 0), tile)  # however wrong the offsets: all rows of the tile are
    end = tl.load(offsets + sequence + 1).to(tl.int64)
    while begin < stop:
        end = tl.minimum(tl.maximum(end, begin + 1), tokens)  # written, within the stream, and it ends
        more = end < stop  # the next sequence that is not empty: asked for now, needed after the loop over keys
        following = tl.load(offsets + tl.load(segments + end, mask=more, other=0) + 1, mask=more, other=0).to(tl.int64)
        own = (row >= begin) & (row < end)
        ahead, length = tile - begin, (end - begin).to(tl.int32)
        low, high = tl.zeros_like(length), length
        if WINDOW:
            low = tl.maximum(ahead.to(tl.int32) - window, 0) // BN * BN  # a block starts where it does for every other tile
            high = tl.minimum(ahead.to(tl.int32) + BM + window, length)
        done = _streamed(
            qkv + begin * row_stride + head * head_stride, row_stride, part_stride, ahead, own, length, low, high,
            cos, sin, positions, slope, scale, window, D, WINDOW, ROTARY, ALIBI, BM, BN,
        )  # fmt: skip
        tl.store(out + to, done.to(out.dtype.element_ty), mask=own[:, None])
        begin, end = end, following


op = register(NAME, reference, fused, check, refuses, fake)


def cases() -> list[Case]:
    def case(
        name: str, lengths: list[int], heads: int, width: int, dtype: torch.dtype, *, window: int = -1, rotary: int = 0,
        alibi: bool = False, size: str = "small",
    ) -> Case:  # fmt: skip
        def make(draw: torch.Generator, device: torch.device) -> Arguments:
            offsets = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32).to(device)
            qkv = torch.randn(sum(lengths), 3, heads, width, generator=draw).to(dtype).to(device)
            angle = torch.arange(rotary)[:, None] * 10_000.0 ** -(torch.arange(width // 2) / (width // 2))
            slopes = 2.0 ** -(torch.arange(1, heads + 1) * 8 / heads)
            return {
                "qkv": qkv, "offsets": offsets, "segments": segments_of(offsets, len(qkv)), "scale": width**-0.5, "window": window,
                "cos": angle.cos().to(device) if rotary else None, "sin": angle.sin().to(device) if rotary else None,
                "slopes": slopes.to(device) if alibi else None,
            }  # fmt: skip

        return Case(name, make, size)  # type: ignore[arg-type]

    mixed, few = [5, 0, 17, 1, 64, 0, 3], [70, 2, 30]
    small = [
        case("d32-float32-all-flags", mixed, 1, 32, torch.float32, window=9, rotary=64, alibi=True),
        case("d32-bfloat16", mixed, 2, 32, torch.bfloat16),
        case("d32-bfloat16-all-flags", mixed, 1, 32, torch.bfloat16, window=9, rotary=64, alibi=True),
        case("d64-bfloat16", few, 1, 64, torch.bfloat16),
        case("d64-bfloat16-window-rotary", few, 1, 64, torch.bfloat16, window=16, rotary=70),
        case("d64-float32-rotary", few, 1, 64, torch.float32, rotary=70),
        case("d128-float16-all-flags", few, 1, 128, torch.float16, window=40, rotary=70, alibi=True),
        case("d128-float32-all-flags", few, 1, 128, torch.float32, window=40, rotary=70, alibi=True),
        case("d64-bfloat16-one-token", [1], 2, 64, torch.bfloat16),
        case("d64-bfloat16-empty", [0, 0], 2, 64, torch.bfloat16),
    ]
    short = torch.randint(1, 64, (8192,), generator=torch.Generator().manual_seed(0)).tolist()
    large = [
        case("short-12x32-bfloat16", short, 12, 32, torch.bfloat16, size="large"),
        case("128-12x32-bfloat16", [128] * 2048, 12, 32, torch.bfloat16, size="large"),
        case("512-12x64-bfloat16", [512] * 256, 12, 64, torch.bfloat16, size="large"),
        case("8192-12x64-bfloat16-window-rotary", [8192] * 16, 12, 64, torch.bfloat16, window=64, rotary=8192, size="large"),
        case("512-8x128-bfloat16", [512] * 256, 8, 128, torch.bfloat16, size="large"),
    ]
    return small + large


def traffic(arguments: Arguments) -> Traffic:
    qkv, window, tables = arguments["qkv"], arguments["window"], [arguments[name] for name in ("cos", "sin", "slopes")]
    tokens, _, heads, width = qkv.shape
    lengths = arguments["offsets"].diff().double()
    reach = lengths.clamp(max=2 * window + 1) if window >= 0 else lengths
    moved = 4 * tokens * heads * width * qkv.element_size() + sum(4 * table.numel() for table in tables if table is not None)
    return Traffic(moved + 8 * tokens, 4 * heads * width * int((lengths * reach).sum()))
