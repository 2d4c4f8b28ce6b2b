"""From trees as libraries write them to the tensors that the operator `forest` takes; done once for a model, on the CPU.

A split sends a row left where x <= threshold, or x < threshold. Both become one exact `<=`: thresholds of float64 are rounded down
to float32 (`directed`), or columns become ranks among the thresholds of their feature (`Ranking`), which are integers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

MAX_PERFECT = 8  # levels up to which trees are padded to perfect ones: 256 leaves each
MAX_FEATURES = 1 << 19  # times the rows that the reference takes at a time: 31 bits
MAX_PLACES = 1 << 30  # nodes, leaves
MAX_CATEGORIES = 1 << 30


@dataclass(frozen=True)
class Trees:
    """Binary trees. A child, or a root, of 0 and more is a node; a negative one is the leaf ~child.

    `feature`, `threshold` (float64), `left`, `right`, `default_left` have one entry a node: a row that lacks the feature goes left
    where `default_left`. `sets`: categories that go left, by categorical node; every other category goes right. `leaves` [L, K].
    `base` [outputs]: what sums begin with. `less_equal`: a split is x <= threshold, else x < threshold. `output`: where K is 1, the
    output that each tree adds to; None: there is one.
    """

    feature: torch.Tensor
    threshold: torch.Tensor
    left: torch.Tensor
    right: torch.Tensor
    default_left: torch.Tensor
    roots: torch.Tensor
    leaves: torch.Tensor
    base: torch.Tensor
    less_equal: bool
    output: torch.Tensor | None = None
    sets: Mapping[int, Sequence[int]] = field(default_factory=dict)

    def categorical(self) -> torch.Tensor:
        """[nodes], true for nodes that ask for a set."""
        found = torch.zeros(self.feature.numel(), dtype=torch.bool)
        found[torch.tensor(list(self.sets), dtype=torch.int64)] = True
        return found


@dataclass(frozen=True)
class Packed:
    """Arguments of the operator by its names, but for `columns` and `dtype`."""

    nodes: torch.Tensor
    roots: torch.Tensor
    categories: torch.Tensor
    leaves: torch.Tensor
    starts: torch.Tensor
    base: torch.Tensor
    features: int
    depth: int
    perfect: bool

    def arguments(self, device: torch.device | str = "cpu") -> dict[str, Any]:
        return {name: part.to(device) if isinstance(part, torch.Tensor) else part for name, part in vars(self).items()}


def directed(thresholds: torch.Tensor, less_equal: bool) -> torch.Tensor:
    """The largest float32 t with t <= threshold (t < threshold without `less_equal`): for every float32 x, `x <= t` is exactly what
    `x <= threshold` (`x < threshold`) is in float64. NaN where no x satisfies it: x < -inf.
    """
    exact, below = thresholds.double(), torch.tensor(-torch.inf)
    near = exact.float()
    near = torch.where(near.double() > exact, torch.nextafter(near, below), near)
    if less_equal:
        return near
    near = torch.where(near.double() == exact, torch.nextafter(near, below), near)
    return torch.where(exact == -torch.inf, torch.nan, near)


@dataclass(frozen=True)
class Ranking:
    """Columns as integers that take the same branches: how many thresholds of its feature are below a value (or equal, where
    splits are `<`). The least integer is missing. A feature with None in `cuts` is categorical and keeps its categories.
    """

    cuts: list[torch.Tensor | None]
    less_equal: bool
    dtype: torch.dtype

    @classmethod
    def of(cls, trees: Trees, features: int) -> "Ranking":
        """Of int16 where all ranks and categories fit.

        Raises:
            ValueError: a feature is split by thresholds and by categories.
        """
        by_set = trees.categorical()
        grouped = set(trees.feature[by_set].tolist())
        if mixed := grouped & set(trees.feature[~by_set].tolist()):
            raise ValueError(f"forest: features {sorted(mixed)} are split by thresholds and by categories, expected either")
        cuts = [
            None if f in grouped else torch.unique(trees.threshold[(trees.feature == f) & ~by_set].double())
            for f in range(features)
        ]
        most = max(
            [len(cut) for cut in cuts if cut is not None] + [max(held, default=0) + 1 for held in trees.sets.values()], default=0
        )
        return cls(cuts, trees.less_equal, torch.int16 if most < torch.iinfo(torch.int16).max else torch.int32)

    def ranks(self, columns: torch.Tensor) -> torch.Tensor:
        """`columns` [features, N] of float32 or float64; compared in float64."""
        found = torch.empty(columns.shape, dtype=self.dtype, device=columns.device)
        limits = torch.iinfo(self.dtype)
        for column, cut, rank in zip(columns, self.cuts, found, strict=True):
            exact = column.double().contiguous()
            missing = exact.isnan()
            if cut is None:
                rank.copy_(exact.masked_fill(missing, 0).clamp(-1, limits.max).to(self.dtype))
            else:
                rank.copy_(torch.searchsorted(cut.to(column.device), exact, right=not self.less_equal))
            rank.masked_fill_(missing, limits.min)
        return found

    def thresholds(self, trees: Trees) -> torch.Tensor:
        """[nodes], for ranks: x is left of a threshold exactly where its rank is at most the number of thresholds below it."""
        found = torch.zeros(trees.feature.numel(), dtype=torch.int64)
        for feature, cut in enumerate(self.cuts):
            if cut is not None:
                asks = trees.feature == feature
                found[asks] = torch.searchsorted(cut, trees.threshold[asks].double())
        return found


def pack(trees: Trees, ranking: Ranking | None = None, perfect: bool | None = None) -> Packed:
    """`ranking`: columns will be its ranks; else they are float32. `perfect`: None pads trees of at most MAX_PERFECT levels without
    categories to perfect ones.

    Raises:
        ValueError: what is no forest, or a form that these trees cannot have.
    """
    depth = _checked(trees)
    perfect = depth <= MAX_PERFECT and not trees.sets if perfect is None else perfect
    if perfect and (depth > MAX_PERFECT or trees.sets):
        raise ValueError(f"forest: trees of {depth} levels and {len(trees.sets)} sets cannot be padded to perfect ones")
    groups = trees.base.numel() // trees.leaves.shape[1]
    output = torch.zeros(trees.roots.numel(), dtype=torch.int64) if trees.output is None else trees.output.long()
    order = torch.argsort(output, stable=True)  # trees of one output side by side, in their order
    starts = torch.zeros(groups + 1, dtype=torch.int32)
    starts[1:] = torch.bincount(output, minlength=groups).cumsum(0)
    trees = replace(trees, roots=trees.roots[order].long())
    nodes, categories = _encoded(trees, ranking)
    features = int(trees.feature.max()) + 1 if trees.feature.numel() else 0
    shared = {"starts": starts, "base": trees.base.double(), "features": features, "depth": depth, "perfect": perfect}
    if perfect:
        nodes, leaves = _padded(trees, nodes, depth)
        return Packed(nodes, torch.empty(0, dtype=torch.int32), categories, leaves, **shared)
    return Packed(nodes, trees.roots.int(), categories, trees.leaves.contiguous(), **shared)


def _checked(trees: Trees) -> int:
    """The number of levels of the deepest tree."""
    nodes, (leaves, width), outputs = trees.feature.numel(), trees.leaves.shape, trees.base.numel()
    parts = ("threshold", "left", "right", "default_left")
    if wrong := [name for name in parts if getattr(trees, name).shape != (nodes,)]:
        raise ValueError(f"forest: {', '.join(wrong)} must have one entry for each of {nodes} nodes")
    if nodes and not 0 <= int(trees.feature.min()) <= int(trees.feature.max()) < MAX_FEATURES:
        raise ValueError(f"forest: features must be 0 to {MAX_FEATURES - 1}")
    if bool(trees.threshold.isnan().any()):
        raise ValueError("forest: a threshold is NaN")
    if width == 0 or outputs == 0 or outputs % width or (width > 1 and outputs != width):
        raise ValueError(f"forest: leaves of {width} values do not make {outputs} outputs")
    if trees.output is None and outputs > width:
        raise ValueError("forest: no tree says which of several outputs it adds to")
    if trees.output is not None and (
        trees.output.shape != trees.roots.shape or not bool(((trees.output >= 0) & (trees.output < outputs // width)).all())
    ):
        raise ValueError(f"forest: output must hold one number below {outputs // width} for each tree")
    refs = torch.cat([trees.roots, trees.left, trees.right]).long()
    if not bool(((refs < nodes) & (~refs < leaves)).all()) or max(nodes, leaves) > MAX_PLACES:
        raise ValueError(f"forest: a child is beyond {nodes} nodes and {leaves} leaves")
    if not all(0 <= node < nodes and all(0 <= held < MAX_CATEGORIES for held in kept) for node, kept in trees.sets.items()):
        raise ValueError("forest: sets must hold categories of 0 and more, by node")
    depth, level = 0, trees.roots[trees.roots >= 0].long()
    while level.numel():
        depth += 1
        if depth > nodes:
            raise ValueError("forest: a tree runs in a circle")
        level = torch.unique(torch.cat([trees.left[level], trees.right[level]]).long())
        level = level[level >= 0]
    return depth


def _encoded(trees: Trees, ranking: Ranking | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes [nodes, 4] as the operator reads them, and the words of their sets."""
    left, right, default = trees.left.long(), trees.right.long(), trees.default_left.long()
    by_set = trees.categorical()
    if ranking is None:
        low = directed(trees.threshold, trees.less_equal)
        never = low.isnan() & ~by_set  # "always, but missing goes the other way", with children exchanged
        left, right = torch.where(never, right, left), torch.where(never, left, right)
        default = torch.where(never, 1 - default, default)
        low = torch.where(never, torch.inf, low).view(torch.int32)
    else:
        low = ranking.thresholds(trees)
    words: list[int] = []
    places: list[int] = []
    for held in trees.sets.values():
        places.append(len(words))
        length, bits = max(held, default=-1) // 32 + 1, sum(1 << category for category in set(held))
        words += [length, *((bits >> 32 * place) & 0xFFFFFFFF for place in range(length))]
    low[torch.tensor(list(trees.sets), dtype=torch.int64)] = torch.tensor(places, dtype=low.dtype)
    high = (trees.feature.long() << 2) | (by_set.long() << 1) | default
    nodes = torch.stack([low, high, left, right], 1).to(torch.int32)
    return nodes, torch.tensor(words, dtype=torch.int64).to(torch.int32)


def _padded(trees: Trees, nodes: torch.Tensor, depth: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Perfect trees: words [trees, 2^depth, 2], node i before its children 2i and 2i + 1 (0 is unused, so that the four upper
    levels lie in one line of 128 bytes), and leaves [trees * 2^depth, K]. All ways below a leaf lead to that leaf.
    """
    words = torch.zeros(trees.roots.numel(), 1 << depth, 2, dtype=torch.int32)
    level = trees.roots[:, None]
    for step in range(depth):
        inner = (level >= 0)[..., None]
        found = nodes[level.clamp(min=0)]
        words[:, 1 << step : 2 << step] = torch.where(inner, found[..., :2], 0)
        level = torch.where(inner, found[..., 2:].long(), level[..., None]).flatten(1)
    return words, trees.leaves[~level.flatten()].contiguous()
