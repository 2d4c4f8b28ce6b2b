"""score_head: what a model's last layer means, in one pass: calibration, activation, the best classes, confidence, counts for drift.

    z = slope * logit + intercept        temperature (Guo et al. 2017, arXiv:1706.04599, eq. 9), Platt scaling (Platt 1999); by column
    score = z | sigmoid(z) | softmax(z)  a row's columns are the classes
    margin = p1 - p2 of softmax, |2p - 1| of one sigmoid
    entropy = log s - sum(e * d) / s     with d = z - max z, e = exp(d), s = sum e (one sigmoid: classes z and 0); in nats

Defined here: sigmoid of +-inf is 1 or 0. A softmax row that holds NaN or +inf, or -inf alone, is NaN, and so is its confidence. The
best are taken from the scores as returned: equal ones in the order of their columns, NaN after all others, no column twice. A
softmax of one column has margin 1. Several sigmoids are labels of their own: they have no one confidence, nor has "none".

Counted is what `scoring.watch` counts, to the bit, over the rows whose scores are all finite: scores <= each edge, compared in
float32; minimum and maximum, a zero as +0.0; and the sum in steps of 2**step: clipped to 2**(50 + step) either way, a score plus
1.5 * 2**(52 + step) in float64 is rounded to whole steps, half to even, which stand in its lower bits. All of it is integers, minima
and maxima, so no order of rows can change it.

Floor: bytes = N*C*w read + N*C*4 written + N*(8*top + 8 with confidence); some 20 FLOP a score: HBM-bound. Not yet measured.
Technique: a tile of whole rows, so that a row's bits do not depend on its batch. Each place of a tile counts for itself while its
program goes from tile to tile: eight bins in the eight bytes of an integer, a sum, a minimum, a maximum; threads meet once, at the
end. Every program leaves its counts, and a second kernel adds them up: no atomics, nothing to clear. The best are integer maxima of
keys that sort as scores do; a taken column, or one of padding, has a key below all others. Rows of one column are loaded without a
mask where a tile is full: their mask would forbid wide loads.
Taken on trust: rows of `edges` ascend, hold no NaN and are padded with +inf. `steps` are copied to the device when first seen, which
cannot be captured in a CUDA graph: run once before.
"""

from functools import lru_cache
from math import inf

import torch

from .frame import check as require
from .frame.case import Arguments, Case, Tolerance, Traffic
from .frame.language import cdiv, jit, power_of_2, tl
from .frame.operator import register
from .frame.tuning import Config, pick

NAME = "score_head"
MAX_WIDTH, MAX_EDGES, MAX_TOP = 1024, 7, 64  # a row in registers, bins in an integer, passes over a tile
PROGRAMS, MAX_TILES = 1024, 255  # that count, so that partial counts stay few; tiles of each, because a bin is a byte
MAX_STEP = 900  # either way; what is made of it are normal float64
TOLERANCES = {torch.float32: Tolerance(2e-6, 2e-6)}  # outputs are float32 whatever the logits are
INSTRUCTIONS = ("wide_loads", "wide_stores")
CONFIGS = {
    "plain": (Config((("TILE", 2048),), 4), Config((("TILE", 1024),), 4)),
    "counted": (Config((("TILE", 1024),), 4),),
}
Outputs = tuple[
    torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor
]  # fmt: skip


def reference(
    logits: torch.Tensor, slope: torch.Tensor, intercept: torch.Tensor, activation: str, top: int, confidence: bool,
    edges: torch.Tensor | None, steps: list[int],
) -> Outputs:  # fmt: skip
    """`logits` [N, C]; `slope`, `intercept` [C]; `activation` none, sigmoid or softmax; `edges` [C, E] with `steps` [C]. Returns
    scores [N, C], top values [N, top], top indices int32 [N, top], margin [N], entropy [N], then of what was counted: counts int64
    [C, E] of scores <= edge, sums int64 [C], extremes [C, 2] = min, max or (+inf, -inf), rows int64 [1]. 0-size if not asked for.
    """
    z = torch.mul(logits, slope).add_(intercept)
    scores = z if activation == "none" else z.sigmoid_() if activation == "sigmoid" else torch.softmax(z, 1)
    best, places = _best(scores, top) if top else (scores.new_empty((len(scores), 0)), _whole(scores, len(scores), 0, dtype=torch.int32))
    margin, entropy = _confidence(scores, activation) if confidence else (scores.new_empty(0), scores.new_empty(0))
    return scores, best, places, margin, entropy, *(_nothing(scores) if edges is None else _counted(scores, edges, steps))


def _whole(like: torch.Tensor, *shape: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return like.new_empty(shape, dtype=dtype)


def _nothing(scores: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return _whole(scores, scores.shape[1], 0), _whole(scores, 0), scores.new_empty((0, 2)), _whole(scores, 0)


def _best(scores: torch.Tensor, top: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ascending and negated: a stable sort then has equal scores in the order of columns, and NaN last."""
    places = torch.sort(-scores, dim=1, stable=True).indices[:, :top]
    return scores.gather(1, places) + 0.0, places.to(torch.int32)


def _confidence(p: torch.Tensor, activation: str) -> tuple[torch.Tensor, torch.Tensor]:
    if activation == "sigmoid":
        return (2 * p - 1).abs_().squeeze(1), (torch.special.entr(p) + torch.special.entr(1 - p)).squeeze(1)
    first = p.topk(min(2, p.shape[1]), 1).values
    return (first[:, 0] - first[:, 1] if p.shape[1] > 1 else first[:, 0]), torch.special.entr(p).sum(1)


def _counted(scores: torch.Tensor, edges: torch.Tensor, steps: list[int]) -> tuple[torch.Tensor, ...]:
    most, base = _in_steps(tuple(steps), scores.device)
    whole = torch.isfinite(scores).all(1, keepdim=True)
    counts = torch.empty(edges.shape, dtype=torch.int64, device=scores.device)
    for place in range(edges.shape[1]):
        torch.sum((scores <= edges[:, place]).logical_and_(whole), 0, out=counts[:, place])
    kept = torch.where(whole, scores, 0.0).clamp_(-most, most)
    sums = (kept + base.view(torch.float64)).view(torch.int64).sub_(base).sum(0)
    if not len(scores):
        return counts, sums, scores.new_tensor((inf, -inf)).repeat(scores.shape[1], 1), whole.sum(0)
    ends = torch.where(whole, scores, inf).amin(0), torch.where(whole, scores, -inf).amax(0)
    return counts, sums, torch.stack(ends, 1).add_(0.0), whole.sum(0)


@lru_cache(64)
def _in_steps(steps: tuple[int, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """By column: the most that is added of a score, float32, and the bits of what counts it in steps, int64."""
    with torch.inference_mode(False):
        most = torch.tensor([2.0 ** (50 + step) for step in steps], dtype=torch.float64).to(torch.float32)
        magic = torch.tensor([1.5 * 2.0 ** (52 + step) for step in steps], dtype=torch.float64)
        return most.to(device), magic.view(torch.int64).to(device)


def check(
    logits: torch.Tensor, slope: torch.Tensor, intercept: torch.Tensor, activation: str, top: int, confidence: bool,
    edges: torch.Tensor | None, steps: list[int],
) -> None:  # fmt: skip
    require.tensor(NAME, "logits", logits, (torch.float32, torch.float16, torch.bfloat16), (None, None), contiguous=False)
    rows, width = logits.shape
    if width == 0:
        raise ValueError(f"{NAME}: argument 'logits' has shape {tuple(logits.shape)}, expected at least one column")
    if width > 1 and logits.stride(1) != 1:
        raise ValueError(f"{NAME}: argument 'logits' has strides {logits.stride()}, expected columns that touch")
    for name, given in (("slope", slope), ("intercept", intercept)):
        require.tensor(NAME, name, given, (torch.float32,), (width,), logits)
    require.choice(NAME, "activation", activation, ("none", "sigmoid", "softmax"))
    if not 0 <= top <= width:
        raise ValueError(f"{NAME}: argument 'top' is {top}, expected 0 to {width}, the columns there are")
    if confidence and activation != "softmax" and (activation == "none" or width > 1):
        raise ValueError(f"{NAME}: argument 'confidence' is of softmax, or of sigmoid with one column, not {activation} with {width}")
    if edges is not None:
        require.tensor(NAME, "edges", edges, (torch.float32,), (width, None), logits)
    if len(steps) != (0 if edges is None else width) or any(abs(step) > MAX_STEP for step in steps):
        expected = f"one of -{MAX_STEP} to {MAX_STEP} for each column with edges, none without"
        raise ValueError(f"{NAME}: argument 'steps' is {steps}, expected {expected}")


def refuses(
    logits: torch.Tensor, slope: torch.Tensor, intercept: torch.Tensor, activation: str, top: int, confidence: bool,
    edges: torch.Tensor | None, steps: list[int],
) -> str | None:  # fmt: skip
    if logits.shape[1] > MAX_WIDTH:
        return f"rows of {logits.shape[1]} do not fit in registers (limit {MAX_WIDTH})"
    if edges is not None and edges.shape[1] > MAX_EDGES:
        return f"{edges.shape[1]} edges make more bins than an integer has bytes (limit {MAX_EDGES})"
    return f"the best {top} are {top} passes (limit {MAX_TOP})" if top > MAX_TOP else None


def fake(
    logits: torch.Tensor, slope: torch.Tensor, intercept: torch.Tensor, activation: str, top: int, confidence: bool,
    edges: torch.Tensor | None, steps: list[int],
) -> Outputs:  # fmt: skip
    rows, width = logits.shape
    scores = slope.new_empty((rows, width))
    sure = rows if confidence else 0
    outputs = (slope.new_empty((rows, top)), _whole(scores, rows, top, dtype=torch.int32), slope.new_empty(sure), slope.new_empty(sure))
    if edges is None:
        return scores, *outputs, *_nothing(scores)
    return scores, *outputs, _whole(scores, *edges.shape), _whole(scores, width), slope.new_empty((width, 2)), _whole(scores, 1)


def fused(
    logits: torch.Tensor, slope: torch.Tensor, intercept: torch.Tensor, activation: str, top: int, confidence: bool,
    edges: torch.Tensor | None, steps: list[int],
) -> Outputs:  # fmt: skip
    outputs = fake(logits, slope, intercept, activation, top, confidence, edges, steps)
    scores, best, places, margin, entropy, counts, sums, extremes, counted = outputs
    rows, width = logits.shape
    key = "plain" if edges is None else "counted"
    config = pick(NAME, key, CONFIGS[key], logits.device)
    columns = power_of_2(width)
    programs = tiles = cdiv(rows, max(1, dict(config.blocks)["TILE"] // columns))
    most, base, partial, ends = slope, counts, counts, scores  # not looked at without edges
    if edges is not None:
        programs = max(min(tiles, PROGRAMS), cdiv(tiles, MAX_TILES))
        most, base = _in_steps(tuple(steps), logits.device)
        partial, ends = _whole(scores, programs, width, edges.shape[1] + 2), scores.new_empty((programs, width, 2))
    if rows:
        _kernel[(programs,)](
            logits, slope, intercept, slope if edges is None else edges, most, base, scores, best, places, margin, entropy, partial, ends, rows, tiles,
            STRIDE=logits.stride(0) if rows > 1 else width, WIDTH=width, COLUMNS=columns, EDGES=counts.shape[1], ACTIVATION=activation,
            TOP=top, CONFIDENCE=confidence, COUNT=edges is not None, **config.options(),
        )  # fmt: skip
    if edges is not None:
        _merge[(width,)](
            partial, ends, counts, sums, extremes, counted, programs, width, EDGES=counts.shape[1],
            SLOTS=power_of_2(counts.shape[1] + 2), BLOCK=256,
        )  # fmt: skip
    return outputs


LEAST = tl.constexpr(-(2**31))  # key of what cannot be chosen, below that of NaN


@jit(do_not_specialize=["rows", "tiles"])
def _kernel(
    logits, slope, intercept, edges, most, base, scores, best, places, margin, entropy, partial, ends, rows, tiles,
    STRIDE: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr, EDGES: tl.constexpr, ACTIVATION: tl.constexpr,
    TOP: tl.constexpr, CONFIDENCE: tl.constexpr, COUNT: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    ROWS: tl.constexpr = max(1, TILE // COLUMNS)
    column = tl.arange(0, COLUMNS)
    inside = column < WIDTH
    gain = tl.load(slope + column, mask=inside, other=0.0)
    shift = tl.load(intercept + column, mask=inside, other=0.0)
    bins = tl.zeros([ROWS, COLUMNS], tl.int64)
    steps = tl.zeros([ROWS, COLUMNS], tl.int64)
    low = tl.full([ROWS, COLUMNS], float("inf"), tl.float32)
    high = tl.full([ROWS, COLUMNS], float("-inf"), tl.float32)
    counted = tl.zeros([ROWS], tl.int32)
    program = tl.program_id(0).to(tl.int64)
    for tile in range(program, tiles, tl.num_programs(0)):
        row = tile * ROWS + tl.arange(0, ROWS).to(tl.int64)
        there = row < rows
        mask = there[:, None] & inside[None, :]
        full = (tile + 1) * ROWS <= rows
        z = _load(logits + row[:, None] * STRIDE + column[None, :], mask, full, WIDTH).to(tl.float32) * gain[None, :] + shift[None, :]
        p, sure, unsure = _activated(z, inside, ACTIVATION)
        _store(scores + row[:, None] * WIDTH + column[None, :], p, mask, full, WIDTH)
        if TOP > 0 or (CONFIDENCE and ACTIVATION == "softmax"):
            sure = _chosen(p, inside, best + row * TOP, places + row * TOP, there, TOP, COLUMNS, WIDTH)
        if CONFIDENCE:
            tl.store(margin + row, sure, mask=there)
            tl.store(entropy + row, unsure, mask=there)
        if COUNT:
            bins, steps, low, high, counted = _tallied(
                p, inside, there, edges + column * EDGES, most + column, base + column, bins, steps, low, high, counted, EDGES
            )
    if COUNT:
        place = program * WIDTH + column
        below = tl.zeros([COLUMNS], tl.int64)
        for edge in tl.static_range(EDGES):
            below += tl.sum((bins >> (8 * edge)) & 255, 0)
            tl.store(partial + place * (EDGES + 2) + edge, below, mask=inside)
        tl.store(partial + place * (EDGES + 2) + EDGES, tl.sum(steps, 0), mask=inside)
        tl.store(partial + place * (EDGES + 2) + EDGES + 1, tl.zeros([COLUMNS], tl.int64) + tl.sum(counted, 0), mask=inside)
        tl.store(ends + place * 2, tl.min(low, 0), mask=inside)
        tl.store(ends + place * 2 + 1, tl.max(high, 0), mask=inside)


@jit
def _load(source, mask, full, WIDTH: tl.constexpr):
    if WIDTH == 1:
        if full:
            x = tl.load(source)
        else:
            x = tl.load(source, mask=mask, other=0.0)
    else:
        x = tl.load(source, mask=mask, other=0.0)
    return x


@jit
def _store(target, value, mask, full, WIDTH: tl.constexpr):
    if WIDTH == 1:
        if full:
            tl.store(target, value)
        else:
            tl.store(target, value, mask=mask)
    else:
        tl.store(target, value, mask=mask)


@jit
def _activated(z, inside, ACTIVATION: tl.constexpr):
    """Scores, and margin and entropy of a row; the margin is of a sigmoid, and both are meant for one column then."""
    if ACTIVATION == "softmax":
        z = tl.where(inside[None, :], z, float("-inf"))
        d = z - tl.max(z, 1)[:, None]
        e = tl.exp(d)
        s = tl.sum(e, 1)
        p = e / s[:, None]
        unsure = tl.log(s) - tl.sum(tl.where(e > 0, e * d, 0.0), 1) / s  # 0 * -inf would be NaN
        sure = unsure
    elif ACTIVATION == "sigmoid":
        p = 1 / (1 + tl.exp(-z))
        e = tl.exp(-tl.abs(z))
        unsure = tl.sum(tl.log(1 + e) + tl.where(e > 0, e * tl.abs(z) / (1 + e), 0.0), 1)
        sure = tl.sum(tl.abs(2 * p - 1), 1)
    else:
        p = z
        sure = tl.sum(z, 1)
        unsure = sure
    return p, sure, unsure


@jit
def _chosen(p, inside, best, places, there, TOP: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr):
    """Stores the best and returns the first's distance from the second."""
    bits = (p + 0.0).to(tl.int32, bitcast=True)
    key = tl.where(p == p, bits ^ ((bits >> 31) & 0x7FFFFFFF), LEAST + 1)  # the lower bits of negative floats sort downwards
    key = tl.where(inside[None, :], key, LEAST)
    sure = tl.max(key, 1).to(tl.float32)
    for place in range(max(TOP, 2)):
        most, at = tl.max(key, 1, return_indices=True)
        key = tl.where(tl.arange(0, COLUMNS)[None, :] == at[:, None], LEAST, key)
        value = (most ^ ((most >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
        value = tl.where(most > LEAST + 1, value, float("nan"))
        tl.store(best + place, value, mask=there & (place < TOP))
        tl.store(places + place, at, mask=there & (place < TOP))
        if WIDTH > 1:
            sure = tl.where(place == 0, value, tl.where(place == 1, sure - value, sure))
        else:
            sure = tl.where(place == 0, value, sure)
    return sure


@jit
def _tallied(p, inside, there, edges, most, base, bins, steps, low, high, counted, EDGES: tl.constexpr):
    """The tallies with a tile of scores added, each place to its own."""
    finite = (tl.abs(p) < float("inf")) | (inside[None, :] == 0)
    whole = there & (tl.min(finite.to(tl.int32), 1) == 1)
    keep = whole[:, None] & inside[None, :]
    bin = tl.zeros_like(bins)
    for edge in tl.static_range(EDGES):
        bin += (p > tl.load(edges + edge, mask=inside, other=float("inf"))[None, :]).to(tl.int64)
    bins += keep.to(tl.int64) << (8 * bin)
    limit = tl.load(most, mask=inside, other=0.0)[None, :]
    zero = tl.load(base, mask=inside, other=0)[None, :]
    kept = tl.minimum(tl.maximum(tl.where(keep, p, 0.0), -limit), limit).to(tl.float64)
    steps += (kept + zero.to(tl.float64, bitcast=True)).to(tl.int64, bitcast=True) - zero
    low = tl.minimum(low, tl.where(keep, p, float("inf")))
    high = tl.maximum(high, tl.where(keep, p, float("-inf")))
    return bins, steps, low, high, counted + whole.to(tl.int32)


@jit(do_not_specialize=["programs"])
def _merge(
    partial, ends, counts, sums, extremes, counted, programs, WIDTH, EDGES: tl.constexpr, SLOTS: tl.constexpr, BLOCK: tl.constexpr
):
    column = tl.program_id(0)
    slot = tl.arange(0, SLOTS)
    total = tl.zeros([SLOTS], tl.int64)
    low = tl.full([BLOCK], float("inf"), tl.float32)
    high = tl.full([BLOCK], float("-inf"), tl.float32)
    for first in range(0, programs, BLOCK):
        program = first + tl.arange(0, BLOCK)
        there = program < programs
        place = program.to(tl.int64) * WIDTH + column
        mask = there[:, None] & (slot < EDGES + 2)[None, :]
        total += tl.sum(tl.load(partial + place[:, None] * (EDGES + 2) + slot[None, :], mask=mask, other=0), 0)
        low = tl.minimum(low, tl.load(ends + place * 2, mask=there, other=float("inf")))
        high = tl.maximum(high, tl.load(ends + place * 2 + 1, mask=there, other=float("-inf")))
    tl.store(counts + column * EDGES + slot, total, mask=slot < EDGES)
    tl.store(sums + column + slot * 0, total, mask=slot == EDGES)
    if column == 0:
        tl.store(counted + slot * 0, total, mask=slot == EDGES + 1)
    tl.store(extremes + column * 2, tl.min(low, 0) + 0.0)
    tl.store(extremes + column * 2 + 1, tl.max(high, 0) + 0.0)


op = register(NAME, reference, fused, check, refuses, fake)


def cases() -> list[Case]:
    """Logits lie on a grid, so that no score comes near an edge or the middle of a step, where float64 could decide otherwise."""

    def case(
        rows: int, width: int, dtype: torch.dtype, activation: str, top: int = 0, confidence: bool = False,
        bins: int | None = None, pad: int = 0, size: str = "small",
    ) -> Case:  # fmt: skip
        def make(draw: torch.Generator, device: torch.device) -> Arguments:
            grid = torch.randint(-16, 17, (rows, width + pad), generator=draw)[:, :width]
            slope, intercept = 0.3 + torch.rand(width, generator=draw), torch.randn(width, generator=draw)
            edges = None if bins is None else torch.tensor([0.0317, 0.1731, 0.4013, 0.6119, 0.7321, 0.9137, inf])[:bins].repeat(width, 1)
            return {
                "logits": (grid / 4).to(dtype).to(device), "slope": slope.to(device), "intercept": intercept.to(device),
                "activation": activation, "top": top, "confidence": confidence,
                "edges": edges if edges is None else edges.to(device), "steps": [] if bins is None else [-3] * width,
            }  # fmt: skip

        told = f"{activation}{f'-top{top}' * (top > 0)}{'-sure' * confidence}{'' if bins is None else f'-{bins}edges'}"
        return Case(f"{rows}x{width}-{str(dtype)[6:]}-{told}", make, size)  # type: ignore[arg-type]

    single, half, brain = torch.float32, torch.float16, torch.bfloat16
    small = [
        case(4999, 1, single, "sigmoid"),
        case(1, 1, single, "sigmoid"),
        case(0, 1, single, "sigmoid", bins=7, confidence=True),
        case(3001, 1, single, "sigmoid", bins=7, confidence=True),
        case(131, 10, brain, "softmax", top=3, confidence=True, bins=7),
        case(5, 1000, half, "softmax"),
        case(700, 3, half, "sigmoid", top=2, pad=1),
        case(600, 2, single, "none", bins=0),
    ]
    large = [
        case(1 << 25, 1, single, "sigmoid", size="large"),
        case(1 << 25, 1, single, "sigmoid", bins=7, confidence=True, size="large"),
        case(1 << 22, 10, brain, "softmax", top=3, confidence=True, bins=7, size="large"),
        case(1 << 17, 1000, half, "softmax", size="large"),
    ]
    return small + large


def traffic(arguments: Arguments) -> Traffic:
    logits, top = arguments["logits"], arguments["top"]
    moved = logits.numel() * (logits.element_size() + 4) + len(logits) * (8 * top + 8 * arguments["confidence"])
    return Traffic(moved, 20 * logits.numel())
