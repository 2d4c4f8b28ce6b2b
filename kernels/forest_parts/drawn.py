"""Forests and columns drawn at random, for the cases of the operator."""

import random
from dataclasses import replace

import torch

from .trees import Packed, Ranking, Trees, pack

MOST_CATEGORIES = 70  # more than two words of a set


def trees(
    draw: torch.Generator, count: int, depth: int, features: int, outputs: int = 1, vectors: bool = False, bushy: float = 0.9,
    categorical: bool = False, leaf: torch.dtype = torch.float32, less_equal: bool = False,
) -> Trees:  # fmt: skip
    """`bushy`: how likely a node above `depth` is split. `categorical`: every third feature is."""
    toss = random.Random(int(torch.randint(1 << 30, (), generator=draw)))
    children: list[tuple[int, int]] = []
    leaves = 0

    def grown(level: int) -> int:
        nonlocal leaves
        if level == depth or (level and toss.random() > bushy):
            leaves += 1
            return -leaves
        node = len(children)
        children.append((0, 0))
        children[node] = grown(level + 1), grown(level + 1)
        return node

    roots = [grown(0) for _ in range(count)]
    ways = torch.tensor(children, dtype=torch.int64).reshape(-1, 2)
    feature = torch.randint(features, (len(children),), generator=draw)
    asks = (feature % 3 == 0).nonzero().flatten().tolist() if categorical else []
    return Trees(
        feature,
        torch.randn(len(children), generator=draw, dtype=torch.float64),
        ways[:, 0],
        ways[:, 1],
        torch.rand(len(children), generator=draw) < 0.5,
        torch.tensor(roots, dtype=torch.int64),
        torch.randn(leaves, outputs if vectors else 1, generator=draw, dtype=torch.float64).to(leaf),
        torch.randn(outputs, generator=draw, dtype=torch.float64),
        less_equal,
        None if vectors else torch.randint(outputs, (count,), generator=draw),
        {node: toss.sample(range(MOST_CATEGORIES), toss.randint(0, MOST_CATEGORIES // 2)) for node in asks},
    )


def columns(draw: torch.Generator, features: int, rows: int, categorical: bool = False) -> torch.Tensor:
    """One value of ten is missing; categories are unseen and negative, too."""
    found = torch.randn(features, rows, generator=draw)
    if categorical:
        found[::3] = torch.rand(found[::3].shape, generator=draw) * (MOST_CATEGORIES + 10) - 3
    return found.masked_fill_(torch.rand(features, rows, generator=draw) < 0.1, torch.nan)


def packed(given: Trees, values: torch.Tensor, integers: torch.dtype | None) -> tuple[Packed, torch.Tensor]:
    """The forest and its columns: float32, or ranks of dtype `integers`."""
    if integers is None:
        return pack(given), values
    ranking = replace(Ranking.of(given, len(values)), dtype=integers)
    return pack(given, ranking), ranking.ranks(values)
