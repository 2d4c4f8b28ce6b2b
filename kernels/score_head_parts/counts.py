"""Counting scores for the drift summary as `scoring.watch` counts them: in torch, in the kernel, and adding up what it left."""

from functools import lru_cache
from math import inf, nan

import torch

from ..frame.language import jit, tl


def counted(scores: torch.Tensor, edges: torch.Tensor, steps: list[int]) -> tuple[torch.Tensor, ...]:
    """Counts [C, E] of scores <= edge, sums [C] in steps, extremes [C, 2] and [1] rows, of the rows whose scores are all finite."""
    most, base = (given[:, None] for given in in_steps(tuple(steps), scores.device))
    columns = scores.T.contiguous()  # sums over what lies side by side take a tenth of the time
    whole = (columns.abs() < inf).all(0)
    kept = torch.where(whole, columns, nan)
    counts = torch.empty(edges.shape, dtype=torch.int64, device=scores.device)
    for place in range(edges.shape[1]):
        torch.sum(kept <= edges[:, place, None], 1, out=counts[:, place])
    clipped = torch.where(whole, torch.maximum(torch.minimum(columns, most), -most), 0.0)
    sums = clipped.double().add_(base.view(torch.float64)).view(torch.int64).sub_(base).sum(1)
    if not len(scores):
        return counts, sums, scores.new_tensor((inf, -inf)).repeat(scores.shape[1], 1), whole.sum(0, keepdim=True)
    ends = torch.where(whole, columns, inf).amin(1), torch.where(whole, columns, -inf).amax(1)
    return counts, sums, torch.stack(ends, 1).add_(0.0), whole.sum(0, keepdim=True)


@lru_cache(64)
def in_steps(steps: tuple[int, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """By column: the most that is added of a score, float32, and the bits of the float64 that leaves it in steps, int64."""
    most = torch.tensor([2.0 ** (50 + step) for step in steps], dtype=torch.float64).to(torch.float32)
    magic = torch.tensor([1.5 * 2.0 ** (52 + step) for step in steps], dtype=torch.float64)
    return most.to(device), magic.view(torch.int64).to(device)


@jit
def tally(
    p, inside, there, edges, most, base, bins, steps, low, high, counted,
    EDGES: tl.constexpr, OUTER: tl.constexpr, FOLD: tl.constexpr, INNER: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The tallies with a tile of scores added: FOLD rows, all of one thread, share one place of them."""
    whole = there & (tl.min((tl.abs(p) < float("inf")).to(tl.int32), 1) == 1)  # padding is finite wherever its row is
    keep = whole[:, None] & inside[None, :]
    above = tl.zeros_like(p).to(tl.int32)
    for edge in tl.static_range(EDGES):
        above += (p > tl.load(edges + edge, mask=inside, other=0.0)[None, :]).to(tl.int32)
    one = keep.to(tl.int64) << (8 * above).to(tl.int64)
    limit = tl.load(most, mask=inside, other=0.0)[None, :]
    zero = tl.load(base, mask=inside, other=0)[None, :]
    kept = tl.minimum(tl.maximum(tl.where(keep, p, 0.0), -limit), limit).to(tl.float64)
    step = (kept + zero.to(tl.float64, bitcast=True)).to(tl.int64, bitcast=True) - zero
    bins += tl.sum(tl.reshape(one, [OUTER, FOLD, INNER, COLUMNS]), 1)
    steps += tl.sum(tl.reshape(step, [OUTER, FOLD, INNER, COLUMNS]), 1)
    low = tl.minimum(low, tl.min(tl.reshape(tl.where(keep, p, float("inf")), [OUTER, FOLD, INNER, COLUMNS]), 1))
    high = tl.maximum(high, tl.max(tl.reshape(tl.where(keep, p, float("-inf")), [OUTER, FOLD, INNER, COLUMNS]), 1))
    return bins, steps, low, high, counted + whole.to(tl.int32)


@jit
def leave(
    partial, ends, inside, bins, steps, low, high, counted, EDGES: tl.constexpr, PLACES: tl.constexpr, COLUMNS: tl.constexpr
):  # fmt: skip
    """Store a program's tallies, where `merge` looks for them: counts, sum and rows by column, and the extremes."""
    below = tl.zeros([COLUMNS], tl.int64)
    for edge in tl.static_range(EDGES):
        below += tl.sum(tl.reshape((bins >> (8 * edge)) & 255, [PLACES, COLUMNS]), 0)
        tl.store(partial + edge, below, mask=inside)
    tl.store(partial + EDGES, tl.sum(tl.reshape(steps, [PLACES, COLUMNS]), 0), mask=inside)
    tl.store(partial + EDGES + 1, tl.zeros([COLUMNS], tl.int64) + tl.sum(counted, 0), mask=inside)
    tl.store(ends, tl.min(tl.reshape(low, [PLACES, COLUMNS]), 0), mask=inside)
    tl.store(ends + 1, tl.max(tl.reshape(high, [PLACES, COLUMNS]), 0), mask=inside)


@jit(do_not_specialize=["programs", "width"])
def merge(
    partial, ends, counts, sums, extremes, counted, programs, width, EDGES: tl.constexpr, SLOTS: tl.constexpr, BLOCK: tl.constexpr
):
    """A program for each column; without programs to merge it writes that nothing was counted."""
    column = tl.program_id(0)
    slot = tl.arange(0, SLOTS)
    total = tl.zeros([SLOTS], tl.int64)
    low = tl.full([BLOCK], float("inf"), tl.float32)
    high = tl.full([BLOCK], float("-inf"), tl.float32)
    for first in range(0, programs, BLOCK):
        program = first + tl.arange(0, BLOCK)
        there = program < programs
        place = program.to(tl.int64) * width + column
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
