"""forest: sums of decision trees over columns, for gradient boosting and random forests alike.

    out[n, o] = base[o] + sum over trees t of output o of leaves[leaf(t, n)]      (Friedman 2001, Annals of Statistics 29, eq. 9)

A node sends row n left where columns[feature, n] <= threshold; where the value is missing (NaN, or the least integer) its default
decides; a categorical node sends left what is in its set: of the value truncated to an integer, so that negative, unseen and huge
categories go right. `forest_parts/trees.py` makes the nodes, and makes `<` and thresholds of float64 exact there.

A node is two words: a threshold (bits of a float32, an int32, or where its set is in `categories`: a number of words, then these
words) and feature << 2 | categorical << 1 | default_left. Perfect trees lie as heaps [trees, 2^depth, 2]; ragged nodes [n, 4] have
two more words, left and right, where a negative child is the leaf ~child: a step is one load of 8 or 16 bytes, and one of a value.
Trees of group g stand at starts[g] to starts[g + 1]; leaves of K values make outputs g*K to g*K + K - 1 (one group, or K is 1).

Sums are in float64, tree after tree, from `base` on: bits depend neither on the batch nor on the device, and what libraries sum in
float32 is met to 1e-6 whatever the number of trees. That costs a conversion and an addition a tree, beside 14 instructions a level.
Floor: bytes = F*N*w of the columns, read once, + N*outputs*w of sums + the forest, which stays in L2; FLOPs = N*trees*(depth
comparisons + K additions). Neither binds: a level is two dependent loads through L1, so the issue of instructions does.
Rows lie in lanes and a warp stays with one tree, so that upper nodes are broadcast and columns, which are feature-major, are read
side by side; several rows of a thread hide each other's latency. A node names both sides, so a leaf costs no step of its own.
On trust: children, leaves, sets and starts in range, as `pack` checks them.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

from .forest_parts import drawn
from .forest_parts.trees import MAX_CATEGORIES, MAX_PLACES
from .frame import check as require
from .frame.case import Arguments, Case, Tolerance, Traffic
from .frame.language import cdiv, jit, power_of_2, tl
from .frame.operator import register
from .frame.tuning import Config, pick

NAME = "forest"
MAX_VALUES = 8  # of a leaf, in the registers of a program; wider leaves take more programs, and these walk the trees again
TOLERANCES = {torch.float64: Tolerance(0.0, 0.0), torch.float32: Tolerance(1e-45, 6e-8)}  # sums are equal to the bit, then rounded
INSTRUCTIONS = ("wide_loads",)  # nodes of ragged trees
CONFIGS = {
    "perfect": (Config((("ROWS", 256),), 4, 1), Config((("ROWS", 128),), 4, 1), Config((("ROWS", 256),), 8, 1)),
    "ragged": (
        Config((("ROWS", 64),), 1, 1),
        Config((("ROWS", 128),), 1, 1),
        Config((("ROWS", 32),), 1, 1),
    ),  # one warp asks itself alone whether all arrived
    "vectors": (Config((("ROWS", 32),), 1, 1), Config((("ROWS", 64),), 1, 1)),
}
_CPU_ROWS, _CPU_PLACES = 1 << 12, 1 << 17  # rows, and rows x trees, that the reference walks at a time: what caches hold


def reference(
    columns: torch.Tensor, nodes: torch.Tensor, roots: torch.Tensor, categories: torch.Tensor, leaves: torch.Tensor,
    starts: torch.Tensor, base: torch.Tensor, features: int, depth: int, perfect: bool, dtype: torch.dtype,
) -> torch.Tensor:  # fmt: skip
    """`columns` [F, N], rows of it may be apart. Returns [N, outputs] of `dtype`."""
    rows, width = columns.shape[1], leaves.shape[1]
    sums = base.double()[:, None].repeat(1, rows)
    exact = leaves.double().T.contiguous()
    for begin in range(0, rows, _CPU_ROWS):
        part = columns[:features, begin : begin + _CPU_ROWS].contiguous()
        walk = _perfect_walk(part, nodes, categories, depth) if perfect else _ragged_walk(part, nodes, roots, categories, depth)
        step = max(_CPU_PLACES // part.shape[1], 1)
        for group, (low, high) in enumerate(pairwise(starts.tolist())):
            target = sums[group * width : group * width + width, begin : begin + _CPU_ROWS]
            for first in range(low, high, step):
                for leaf in walk(first, min(first + step, high)):
                    target += exact.index_select(1, leaf)
    return sums.T.to(dtype).contiguous()


Walk = Callable[[int, int], torch.Tensor]  # first tree, last tree -> the leaf of each row in each of them, [trees, rows]


def _goes_left(part: torch.Tensor, words: torch.Tensor, categories: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """How rows decide at nodes `place` [trees, rows] of `words` [nodes, 2]. Places of 32 bits are read twice as fast."""
    low, high = words.T.contiguous()
    threshold = low.view(torch.float32).to(part.dtype) if part.is_floating_point() else low
    column, by_set, default = (high >> 2) * part.shape[1], (high & 2).bool(), (high & 1).bool()
    row, values = torch.arange(part.shape[1], dtype=torch.int32, device=part.device), part.flatten()

    def decide(place: torch.Tensor) -> torch.Tensor:
        flat = place.flatten()
        x = values.index_select(0, (column.index_select(0, flat).view_as(place) + row).flatten())
        missing = x.isnan() if x.is_floating_point() else x == torch.iinfo(x.dtype).min
        left = x <= threshold.index_select(0, flat)
        if categories.numel():
            asks = by_set.index_select(0, flat) & ~missing
            left[asks] = _in_set(x[asks], low[flat[asks]].long(), categories)
        return torch.where(missing, default.index_select(0, flat), left).view_as(place)

    return decide


def _in_set(x: torch.Tensor, offset: torch.Tensor, categories: torch.Tensor) -> torch.Tensor:
    category = x.clamp(-1, MAX_CATEGORIES).long() if x.is_floating_point() else x.long()
    known = (category >= 0) & (category >> 5 < categories[offset])
    bits = categories[torch.where(known, offset + 1 + (category >> 5), 0)] >> (category & 31)
    return known & (bits & 1).bool()


def _perfect_walk(part: torch.Tensor, nodes: torch.Tensor, categories: torch.Tensor, depth: int) -> Walk:
    left = _goes_left(part, nodes.flatten(0, 1), categories)

    def walk(first: int, last: int) -> torch.Tensor:
        heap = torch.arange(first, last, dtype=torch.int32, device=part.device)[:, None] << depth
        node = torch.ones(last - first, part.shape[1], dtype=torch.int32, device=part.device)
        for _ in range(depth):
            node = (node << 1) + ~left(heap + node)
        return heap + node - (1 << depth)

    return walk


def _ragged_walk(part: torch.Tensor, nodes: torch.Tensor, roots: torch.Tensor, categories: torch.Tensor, depth: int) -> Walk:
    left, sides = _goes_left(part, nodes[:, :2], categories), nodes[:, 2:].flatten()

    def walk(first: int, last: int) -> torch.Tensor:
        node = roots[first:last, None].repeat(1, part.shape[1])
        for _ in range(depth):
            place = node.clamp(min=0)
            way = sides.index_select(0, ((place << 1) + ~left(place)).flatten())
            node = torch.where(node < 0, node, way.view_as(node))
        return ~node

    return walk


def check(
    columns: torch.Tensor, nodes: torch.Tensor, roots: torch.Tensor, categories: torch.Tensor, leaves: torch.Tensor,
    starts: torch.Tensor, base: torch.Tensor, features: int, depth: int, perfect: bool, dtype: torch.dtype,
) -> None:  # fmt: skip
    # No float64: thresholds are rounded for float32, and ranks are exact for all.
    require.tensor(NAME, "columns", columns, (torch.float32, torch.int16, torch.int32), (None, None), contiguous=False)
    if columns.shape[1] > 1 and (columns.stride(1) != 1 or columns.stride(0) < 0):
        raise ValueError(f"{NAME}: argument 'columns' has strides {columns.stride()}, expected each column contiguous")
    if columns.shape[0] < features:
        raise ValueError(f"{NAME}: argument 'columns' has shape {tuple(columns.shape)}, expected at least {features} columns")
    if depth < 0:
        raise ValueError(f"{NAME}: argument 'depth' is {depth}, expected 0 or more")
    require.tensor(NAME, "nodes", nodes, (torch.int32,), (None, 1 << depth, 2) if perfect else (None, 4), columns)
    require.tensor(NAME, "roots", roots, (torch.int32,), (0 if perfect else None,), columns)
    require.tensor(NAME, "categories", categories, (torch.int32,), (0 if perfect else None,), columns)
    leaf_count = nodes.shape[0] << depth if perfect else None
    require.tensor(NAME, "leaves", leaves, (torch.float32, torch.float64), (leaf_count, None), columns)
    require.tensor(NAME, "starts", starts, (torch.int32,), (None,), columns)
    if max(nodes.shape[0], leaves.shape[0]) > MAX_PLACES:
        raise ValueError(
            f"{NAME}: arguments 'nodes' and 'leaves' have {nodes.shape[0]} and {leaves.shape[0]}, at most {MAX_PLACES}"
        )
    if leaves.shape[1] == 0 or starts.shape[0] < 2:
        raise ValueError(f"{NAME}: arguments 'leaves' and 'starts' make no output")
    require.tensor(NAME, "base", base, (torch.float64,), ((starts.shape[0] - 1) * leaves.shape[1],), columns)
    require.choice(NAME, "dtype", dtype, (torch.float32, torch.float64))


def refuses(
    columns: torch.Tensor, nodes: torch.Tensor, roots: torch.Tensor, categories: torch.Tensor, leaves: torch.Tensor,
    starts: torch.Tensor, base: torch.Tensor, features: int, depth: int, perfect: bool, dtype: torch.dtype,
) -> str | None:  # fmt: skip
    return None


def fake(
    columns: torch.Tensor, nodes: torch.Tensor, roots: torch.Tensor, categories: torch.Tensor, leaves: torch.Tensor,
    starts: torch.Tensor, base: torch.Tensor, features: int, depth: int, perfect: bool, dtype: torch.dtype,
) -> torch.Tensor:  # fmt: skip
    return columns.new_empty((columns.shape[1], base.shape[0]), dtype=dtype)


def fused(
    columns: torch.Tensor, nodes: torch.Tensor, roots: torch.Tensor, categories: torch.Tensor, leaves: torch.Tensor,
    starts: torch.Tensor, base: torch.Tensor, features: int, depth: int, perfect: bool, dtype: torch.dtype,
) -> torch.Tensor:  # fmt: skip
    out = fake(columns, nodes, roots, categories, leaves, starts, base, features, depth, perfect, dtype)
    (rows, outputs), width, floating = out.shape, leaves.shape[1], columns.dtype.is_floating_point
    key = "vectors" if width > 1 else "perfect" if perfect else "ragged"
    config = pick(NAME, key, CONFIGS[key], columns.device)
    values = min(power_of_2(width), MAX_VALUES)
    chunks = cdiv(width, values)
    parts = (starts.shape[0] - 1) * chunks
    grid = (cdiv(rows, dict(config.blocks)["ROWS"]) * parts,)
    if rows:
        _kernel[grid](
            columns, nodes, roots, categories, leaves, starts, base, out,
            rows, columns.stride(0), outputs, width, parts, chunks, depth,
            PERFECT=perfect, WIDE=columns.shape[0] * columns.stride(0) > 0x7FFFFFFF, SETS=categories.shape[0] > 0,
            FLOATING=floating, MISSING=0 if floating else torch.iinfo(columns.dtype).min, VALUES=values, **config.options(),
        )  # fmt: skip
    return out


@jit
def _decided(x, low, high, categories, live, SETS: tl.constexpr, FLOATING: tl.constexpr, MISSING: tl.constexpr):
    """Whether rows of values `x` go left at nodes of these words."""
    if FLOATING:
        missing = x != x
        left = x <= low.to(tl.float32, bitcast=True)  # false for NaN
    else:
        missing = x == MISSING
        left = (x.to(tl.int32) <= low) & ~missing
    if SETS:
        by_set = (high & 2) != 0
        asks = live & by_set & ~missing
        if FLOATING:  # what does not ask could be NaN, which a cast may turn into any integer
            x = tl.minimum(tl.maximum(tl.where(asks, x, -1.0), -1.0), 1073741824.0)
        category = x.to(tl.int32)
        known = asks & (category >= 0) & ((category >> 5) < tl.load(categories + low, mask=asks, other=0))
        bits = tl.load(categories + low + 1 + (category >> 5), mask=known, other=0)
        left = tl.where(by_set, ((bits >> (category & 31)) & 1) != 0, left)
    return left | (missing & ((high & 1) != 0))


@jit
def _offset(high, stride, WIDE: tl.constexpr):
    """Where the column of a node's feature begins: two instructions in 32 bits, seven in 64."""
    feature = high >> 2
    return feature.to(tl.int64) * stride if WIDE else feature * stride


@jit
def _perfect(
    heap, place, categories, stride, depth, WIDE: tl.constexpr, SETS: tl.constexpr, FLOATING: tl.constexpr, MISSING: tl.constexpr
):
    """The leaf of its tree that each row comes to; `place` points to the rows of the first column."""
    node = tl.full(place.shape, 1, tl.int32)
    for _ in range(depth):
        low, high = tl.split(tl.load(heap + node.to(tl.int64)[:, None] * 2 + tl.arange(0, 2)[None, :]))
        x = tl.load(place + _offset(high, stride, WIDE))
        node = 2 * node + tl.where(_decided(x, low, high, categories, node > 0, SETS, FLOATING, MISSING), 0, 1)
    return node - (1 << depth)


@jit
def _ragged(
    nodes, root, place, categories, stride, WIDE: tl.constexpr, SETS: tl.constexpr, FLOATING: tl.constexpr, MISSING: tl.constexpr
):
    node = tl.zeros(place.shape, tl.int32) + root
    while tl.max(node, 0) >= 0:
        live = node >= 0
        words = tl.load(nodes + node.to(tl.int64)[:, None] * 4 + tl.arange(0, 4)[None, :], mask=live[:, None], other=0)
        evens, odds = tl.split(tl.reshape(words, (words.shape[0], 2, 2)))  # [low, left], [high, right]
        low, left = tl.split(evens)
        high, right = tl.split(odds)
        x = tl.load(place + _offset(high, stride, WIDE), mask=live, other=0)
        way = tl.where(_decided(x, low, high, categories, live, SETS, FLOATING, MISSING), left, right)
        node = tl.where(live, way, node)
    return -1 - node


@jit(do_not_specialize=["rows", "stride", "outputs", "width", "parts", "chunks", "depth"])
def _kernel(
    columns, nodes, roots, categories, leaves, starts, base, out, rows, stride, outputs, width, parts, chunks, depth,
    PERFECT: tl.constexpr, WIDE: tl.constexpr, SETS: tl.constexpr, FLOATING: tl.constexpr, MISSING: tl.constexpr,
    VALUES: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    part = tl.program_id(0) % parts  # parts of the same rows run side by side: columns come from L2
    group, chunk = part // chunks, part % chunks
    row = (tl.program_id(0) // parts).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    value = chunk * VALUES + tl.arange(0, VALUES)
    kept = value < width
    place = columns + tl.minimum(row, rows - 1)  # beyond the last row stand copies of it: what they read needs no mask
    total = tl.broadcast_to(tl.load(base + group * width + value, mask=kept, other=0.0)[None, :], (ROWS, VALUES))
    tree, last = tl.load(starts + group), tl.load(starts + group + 1)
    while tree < last:
        if PERFECT:
            first = tree.to(tl.int64) << depth
            leaf = _perfect(nodes + first * 2, place, categories, stride, depth, WIDE, SETS, FLOATING, MISSING)
            held = leaves + first * width
        else:
            leaf = _ragged(nodes, tl.load(roots + tree), place, categories, stride, WIDE, SETS, FLOATING, MISSING).to(tl.int64)
            held = leaves
        if VALUES == 1:
            total += tl.load(held + leaf)[:, None].to(tl.float64)
        else:
            total += tl.load(held + leaf[:, None] * width + value[None, :], mask=kept[None, :], other=0.0).to(tl.float64)
        tree += 1
    ends = out + row[:, None] * outputs + (group * width + value)[None, :]
    tl.store(ends, total.to(out.dtype.element_ty), mask=(row < rows)[:, None] & kept[None, :])


op = register(NAME, reference, fused, check, refuses, fake)


def cases() -> list[Case]:
    def case(
        name: str, rows: int, trees: int, depth: int, features: int = 9, integers: torch.dtype | None = None, far: bool = False,
        dtype: torch.dtype = torch.float64, size: str = "small", **kind: Any,
    ) -> Case:  # fmt: skip
        def make(draw: torch.Generator, device: torch.device) -> Arguments:
            given = drawn.trees(draw, trees, depth, features, **kind)
            packed, columns = drawn.packed(given, drawn.columns(draw, features, rows, kind.get("categorical", False)), integers)
            columns = columns.to(device)
            columns = columns.as_strided(columns.shape, (1 << 31, 1)) if far else columns  # of one column: nothing is between
            return {"columns": columns, **packed.arguments(device), "dtype": dtype}

        return Case(name, make, size)  # type: ignore[arg-type]

    return [
        case("perfect-float32", 530, 3, 5),
        case("perfect-int16-float32", 77, 9, 4, outputs=3, integers=torch.int16, dtype=torch.float32),
        case("perfect-int32-far", 70, 4, 3, features=1, integers=torch.int32, leaf=torch.float64, far=True),
        case("perfect-vectors", 40, 3, 4, outputs=3, vectors=True),
        case("ragged-float32", 100, 3, 12, bushy=0.75),
        case("ragged-categories", 70, 6, 6, outputs=2, categorical=True, bushy=0.8),
        case("ragged-int16-categories", 40, 3, 6, categorical=True, integers=torch.int16, bushy=0.8),
        case("ragged-vectors", 35, 3, 9, outputs=11, vectors=True, leaf=torch.float64, bushy=0.7),
        case("one-row", 1, 3, 4),
        case("single-leaves", 3, 3, 0),
        case("no-rows", 0, 3, 4),
        case("500x6-float32", 1 << 20, 500, 6, 64, bushy=1.0, size="large"),
        case("500x6-int16", 1 << 21, 500, 6, 64, bushy=1.0, integers=torch.int16, size="large"),
        case("1000x8-classes", 1 << 20, 1000, 8, 64, outputs=5, bushy=1.0, size="large"),
        case("500x16-categories", 1 << 20, 500, 16, 64, categorical=True, bushy=0.75, size="large"),
        case("100x16-vectors", 1 << 20, 100, 16, 64, outputs=10, vectors=True, bushy=0.8, size="large"),
    ]


def traffic(arguments: Arguments) -> Traffic:
    columns, leaves = arguments["columns"], arguments["leaves"]
    trees = len(arguments["nodes"] if arguments["perfect"] else arguments["roots"])
    forest = sum(part.numel() * part.element_size() for part in (arguments["nodes"], arguments["categories"], leaves))
    rows, sums = columns.shape[1], arguments["base"].shape[0] * columns.shape[1] * arguments["dtype"].itemsize
    read = min(columns.shape[0], arguments["features"]) * rows * columns.element_size()
    return Traffic(read + sums + forest, rows * trees * (arguments["depth"] + leaves.shape[1]))
