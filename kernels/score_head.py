"""score_head: what a model's last layer means, in one pass: calibration, activation, best classes, confidence, counts for drift.

    z = slope * logit + intercept        by column: temperature (Guo et al. 2017, arXiv:1706.04599, eq. 9), or Platt 1999
    score = z | sigmoid(z) | softmax(z)  the columns of a row are the classes of a softmax
    margin = p1 - p2 of softmax, |2p - 1| of one sigmoid
    entropy = log s - sum(e * d) / s     with d = z - max z, e = exp(d), s = sum e (one sigmoid: classes z and 0); in nats

Defined here: sigmoid of +-inf is 1 or 0. A softmax row that holds NaN or +inf, or -inf alone, is NaN, and so is its confidence. The
best are taken from the scores as returned: equal ones in the order of their columns, NaN after all others, no column twice; a zero
among them is +0.0. A softmax of one column has margin 1. Several sigmoids have no one confidence, nor has "none".

Counted is what `scoring.watch` counts, to the bit, over the rows whose scores are all finite: scores <= each edge, compared in
float32; minimum and maximum, a zero as +0.0; and the sum in steps of 2**step: clipped to 2**(50 + step) either way, a score plus
1.5 * 2**(52 + step) in float64 is rounded to whole steps, half to even, which stand in its lower bits. All of it is integers,
minima and maxima, so no order of rows can change it.

Floor: bytes = N*C*w read + N*C*4 written + N*(8*top + 8 with confidence); some 20 FLOP a score: HBM-bound.
Technique: a tile of whole rows, so that a row's bits do not depend on its batch. Threads count for themselves while their program
goes from tile to tile: eight bins in the eight bytes of an integer, a sum, a minimum, a maximum; they meet once, at the end. Every
program leaves its counts, and a second kernel adds them up: no atomics, nothing to clear. The best are integer maxima of keys that
sort as scores do; a taken column, or one of padding, has a key below all others.
Taken on trust: rows of `edges` ascend, hold no NaN and are padded with +inf. `steps` are copied to the device when first seen,
which cannot be captured in a CUDA graph: run once before.
"""

from math import inf

import torch

from .frame import check as require
from .frame.case import Arguments, Case, Tolerance, Traffic
from .frame.language import cdiv, jit, power_of_2, tl
from .frame.operator import register
from .frame.tuning import Config, pick
from .score_head_parts.counts import counted, in_steps, leave, merge, tally
from .score_head_parts.rows import activate, choose, load, store

NAME = "score_head"
MAX_WIDTH, MAX_EDGES, MAX_TOP = 1024, 7, 64  # a row in registers, bins in an integer, passes over a tile
PROGRAMS, WIDE_PROGRAMS = 1024, 128  # that count, of few columns and of many: their partial counts are to be few
FOLD = 4  # rows that count together
MAX_TILES = 255  # that a program may count one row of, since a bin is a byte
MAX_STEP = 900  # either way; what is made of it are normal float64
TOLERANCES = {torch.float32: Tolerance(2e-6, 2e-6)}  # outputs are float32 whatever the logits are
INSTRUCTIONS = ("wide_loads", "wide_stores")
CONFIGS = {
    "plain": (Config((("TILE", 1024),), 4), Config((("TILE", 2048),), 4)),
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
    best, places = (
        _best(scores, top) if top else (scores.new_empty((len(scores), 0)), _whole(scores, len(scores), 0, dtype=torch.int32))
    )
    margin, entropy = _confidence(scores, activation) if confidence else (scores.new_empty(0), scores.new_empty(0))
    return scores, best, places, margin, entropy, *(_nothing(scores) if edges is None else counted(scores, edges, steps))


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


def check(
    logits: torch.Tensor, slope: torch.Tensor, intercept: torch.Tensor, activation: str, top: int, confidence: bool,
    edges: torch.Tensor | None, steps: list[int],
) -> None:  # fmt: skip
    require.tensor(NAME, "logits", logits, (torch.float32, torch.float16, torch.bfloat16), (None, None), contiguous=False)
    width = logits.shape[1]
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
        raise ValueError(
            f"{NAME}: argument 'confidence' is of softmax, or of sigmoid with one column, not {activation} with {width}"
        )
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
    best, places = slope.new_empty((rows, top)), _whole(scores, rows, top, dtype=torch.int32)
    outputs = scores, best, places, slope.new_empty(sure), slope.new_empty(sure)
    if edges is None:
        return *outputs, *_nothing(scores)
    return *outputs, _whole(scores, *edges.shape), _whole(scores, width), slope.new_empty((width, 2)), _whole(scores, 1)


def _tile(size: int, columns: int) -> dict[str, int]:
    """FOLD rows are of one thread: rows that touch where there is one column, else rows far apart."""
    rows = max(1, size // columns)
    fold = min(rows, FOLD)
    return {"ROWS": rows, "FOLD": fold, "OUTER": rows // fold if columns == 1 else 1, "INNER": 1 if columns == 1 else rows // fold}


def fused(
    logits: torch.Tensor, slope: torch.Tensor, intercept: torch.Tensor, activation: str, top: int, confidence: bool,
    edges: torch.Tensor | None, steps: list[int],
) -> Outputs:  # fmt: skip
    outputs = fake(logits, slope, intercept, activation, top, confidence, edges, steps)
    scores, best, places, margin, entropy, counts, sums, extremes, held = outputs
    rows, width = logits.shape
    key = "plain" if edges is None else "counted"
    config = pick(NAME, key, CONFIGS[key], logits.device)
    columns = power_of_2(width)
    tile = _tile(dict(config.blocks)["TILE"], columns)
    programs = tiles = cdiv(rows, tile["ROWS"])
    most, base, partial, ends = slope, counts, counts, scores  # not looked at without edges
    if edges is not None:
        limit = max(WIDE_PROGRAMS, min(PROGRAMS, 16 * PROGRAMS // columns))
        programs = max(min(tiles, limit), cdiv(tiles, MAX_TILES // tile["FOLD"]))
        most, base = in_steps(tuple(steps), logits.device)
        partial, ends = _whole(scores, programs, width, edges.shape[1] + 2), scores.new_empty((programs, width, 2))
    if rows:
        _kernel[(programs,)](
            logits, slope, intercept, slope if edges is None else edges, most, base, scores, best, places, margin, entropy, partial,
            ends, rows, tiles, STRIDE=logits.stride(0) if rows > 1 else width, WIDTH=width, COLUMNS=columns, EDGES=counts.shape[1],
            ACTIVATION=activation, TOP=top, PASSES=max(top, 2 * (confidence and activation == "softmax")), CONFIDENCE=confidence,
            COUNT=edges is not None, **tile, num_warps=config.warps, num_stages=config.stages,
        )  # fmt: skip
    if edges is not None:
        slots = power_of_2(counts.shape[1] + 2)
        merge[(width,)](
            partial, ends, counts, sums, extremes, held, programs, width, EDGES=counts.shape[1], SLOTS=slots, BLOCK=1024 // slots
        )  # fmt: skip
    return outputs


@jit(do_not_specialize=["rows", "tiles"])
def _kernel(
    logits, slope, intercept, edges, most, base, scores, best, places, margin, entropy, partial, ends, rows, tiles,
    STRIDE: tl.constexpr, WIDTH: tl.constexpr, COLUMNS: tl.constexpr, EDGES: tl.constexpr, ACTIVATION: tl.constexpr,
    TOP: tl.constexpr, PASSES: tl.constexpr, CONFIDENCE: tl.constexpr, COUNT: tl.constexpr,
    ROWS: tl.constexpr, FOLD: tl.constexpr, OUTER: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    column = tl.arange(0, COLUMNS)
    inside = column < WIDTH
    gain = tl.load(slope + column, mask=inside, other=0.0)
    shift = tl.load(intercept + column, mask=inside, other=0.0)
    bins = tl.zeros([OUTER, INNER, COLUMNS], tl.int64)
    steps = tl.zeros([OUTER, INNER, COLUMNS], tl.int64)
    low = tl.full([OUTER, INNER, COLUMNS], float("inf"), tl.float32)
    high = tl.full([OUTER, INNER, COLUMNS], float("-inf"), tl.float32)
    counted = tl.zeros([ROWS], tl.int32)
    program = tl.program_id(0).to(tl.int64)
    for tile in range(program, tiles, tl.num_programs(0)):
        row = tile * ROWS + tl.arange(0, ROWS).to(tl.int64)
        there = row < rows
        mask = there[:, None] & inside[None, :]
        full = (tile + 1) * ROWS <= rows
        x = load(logits + row[:, None] * STRIDE + column[None, :], mask, full, WIDTH)
        p, sure, unsure = activate(x.to(tl.float32) * gain[None, :] + shift[None, :], inside, ACTIVATION)
        store(scores + row[:, None] * WIDTH + column[None, :], p, mask, full, WIDTH)
        if PASSES > 0:
            ahead = choose(p, inside, best + row * TOP, places + row * TOP, there, TOP, PASSES, COLUMNS, WIDTH)
            if ACTIVATION == "softmax":
                sure = ahead
        if CONFIDENCE:
            tl.store(margin + row, sure, mask=there)
            tl.store(entropy + row, unsure, mask=there)
        if COUNT:
            bins, steps, low, high, counted = tally(
                p, inside, there, edges + column * EDGES, most + column, base + column, bins, steps, low, high, counted,
                EDGES, OUTER, FOLD, INNER, COLUMNS,
            )  # fmt: skip
    if COUNT:
        place = program * WIDTH + column
        into, reach = partial + place * (EDGES + 2), ends + place * 2
        leave(into, reach, inside, bins, steps, low, high, counted, EDGES, OUTER * INNER, COLUMNS)


op = register(NAME, reference, fused, check, refuses, fake)


def consequences(outputs: tuple[torch.Tensor, ...], arguments: Arguments) -> dict[int, torch.Tensor]:
    """What was counted follows from the scores as they were returned. Among millions, some lie so near an edge that float64 has
    them on its other side; with the scores within their tolerance, that is all by which counts can differ from those of float64.
    """
    edges, steps = arguments["edges"], arguments["steps"]
    return {} if edges is None else dict(enumerate(counted(outputs[0], edges, steps), len(outputs) - 4))


def cases() -> list[Case]:
    """Logits of small cases lie on a grid, so that no score comes near an edge or the middle of a step, where float64 could decide
    otherwise.
    """

    def case(
        rows: int, width: int, dtype: torch.dtype, activation: str, top: int = 0, confidence: bool = False,
        bins: int | None = None, pad: int = 0, size: str = "small",
    ) -> Case:  # fmt: skip
        def make(draw: torch.Generator, device: torch.device) -> Arguments:
            grid = torch.randint(-16, 17, (rows, width + pad), generator=draw) / 4
            slope, intercept = 0.3 + torch.rand(width, generator=draw), torch.randn(width, generator=draw)
            edges = (
                None
                if bins is None
                else torch.tensor([0.0317, 0.1731, 0.4013, 0.6119, 0.7321, 0.9137, inf])[:bins].repeat(width, 1)
            )
            return {
                "logits": grid.to(dtype).to(device)[:, :width], "slope": slope.to(device), "intercept": intercept.to(device),
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
