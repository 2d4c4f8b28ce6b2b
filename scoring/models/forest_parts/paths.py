"""Trees as the paths from their roots to their leaves: the form in which contributions are computed.

A path asks each feature once: conditions on one feature are merged (GPUTreeShap: Mitchell, Frank & Holmes 2022, PeerJ CS 8:e880).
For ranks they make an interval; for categories a set of slots: places among the categories that some split of the feature names,
then one slot for every other category, then one for missing values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scoring.models.forest_parts.cover import Cover

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]
Bytes = npt.NDArray[np.uint8]

HIGHEST = int(np.iinfo(np.int32).max)


@dataclass(frozen=True)
class Paths:
    """One path a leaf, in the order of trees. `tree`, `leaf` [paths]; elements of path p lie from starts[p] to starts[p + 1].

    Of an element: `feature`; `zero`, the share of training rows that its conditions let pass, a product of ratios of covers; and
    which rows pass: ranks in (low, high], and missing values if `missing`; or, where `place` is not negative, slots whose bit is
    set in `bits` from byte `place` on, the least significant first. `known`: by categorical feature, the categories of its slots.
    """

    tree: Integers
    leaf: Integers
    starts: Integers
    feature: Integers
    zero: Floats
    low: Codes
    high: Codes
    missing: Flags
    place: Integers
    bits: Bytes
    known: dict[int, Integers]


@dataclass(frozen=True)
class _Edges:
    """Ways into nodes and leaves, tree by tree a level at a time; a root has an edge of its own, with `node` and `parent` -1.

    `target`: as a child in Trees; `parent`: the edge into the node that is left; `node`: that node; `left`: which way is taken.
    """

    tree: Integers
    target: Integers
    parent: Integers
    node: Integers
    left: Flags


def paths_of(trees: Any, cover: Cover, thresholds: Integers) -> Paths:
    """`thresholds` [nodes]: ranks, as Ranking.thresholds gives them.

    Raises:
        ValueError: covers that are not one finite number of 0 and more for each node and leaf, or a tree that runs in a circle.
    """
    edges, feature = _edges(trees), trees.feature.numpy().astype(np.int64)
    ends = np.flatnonzero(edges.target < 0)
    ends = ends[np.argsort(edges.tree[ends], kind="stable")]
    path, edge = _climbed(edges, ends)
    order = np.lexsort((feature[edges.node[edge]], path))  # stable: from the leaf to the root
    path, edge = path[order], edge[order]
    node, left = edges.node[edge], edges.left[edge]
    asked, limit = feature[node], thresholds[node]
    first = np.flatnonzero((np.diff(path, prepend=-1) != 0) | (np.diff(asked, prepend=-1) != 0))
    known, masks = _slots(trees, feature)
    place, bits = _sets(2 * node + left, first, asked[first], masks)
    passes = trees.default_left.numpy().astype(bool)[node] == left
    return Paths(
        edges.tree[ends],
        ~edges.target[ends],
        np.searchsorted(path[first], np.arange(ends.size + 1)),
        asked[first],
        np.multiply.reduceat(_ratios(edges, cover)[edge], first),
        np.maximum.reduceat(np.where(left, -1, limit), first).astype(np.int32),
        np.minimum.reduceat(np.where(left, limit, HIGHEST), first).astype(np.int32),
        np.logical_and.reduceat(passes, first),
        place,
        bits,
        known,
    )


def _edges(trees: Any) -> _Edges:
    roots = trees.roots.numpy().astype(np.int64)
    children = np.stack([trees.left.numpy(), trees.right.numpy()], 1).astype(np.int64)
    none = np.full(roots.size, -1)
    levels = [_Edges(np.arange(roots.size), roots, none, none, none < 0)]
    seen = 0
    while (inner := np.flatnonzero(levels[-1].target >= 0)).size:
        if len(levels) > len(children):
            raise ValueError("forest: a tree runs in a circle")
        last, node = levels[-1], levels[-1].target[inner]
        left = np.tile([True, False], inner.size)
        levels.append(_Edges(last.tree[inner].repeat(2), children[node].ravel(), (seen + inner).repeat(2), node.repeat(2), left))
        seen += last.target.size
    return _Edges(*(np.concatenate([getattr(level, name) for level in levels]) for name in _Edges.__dataclass_fields__))


def _climbed(edges: _Edges, ends: Integers) -> tuple[Integers, Integers]:
    """The edges of all paths and whose they are: path numbers, edges; without those into roots."""
    path, edge = np.arange(ends.size), ends
    found = []
    while True:
        below = edges.node[edge] >= 0
        path, edge = path[below], edge[below]
        found.append((path, edge))
        if not path.size:
            return np.concatenate([paths for paths, _ in found]), np.concatenate([taken for _, taken in found])
        edge = edges.parent[edge]


def _ratios(edges: _Edges, cover: Cover) -> Floats:
    """[edges] Cover of a child / cover of its node, as LightGBM and XGBoost have it, even where two children do not make up their
    node; both halves where no training row came to the node.
    """
    nodes, leaves = cover.nodes.double().numpy(), cover.leaves.double().numpy()
    for covers, needed in ((nodes, edges.target), (leaves, ~edges.target)):
        if covers.ndim != 1 or covers.size <= needed.max(initial=-1) or not bool((np.isfinite(covers) & (covers >= 0)).all()):
            raise ValueError("forest: covers must be one finite number of 0 and more for each node and leaf")
    of_leaf = edges.target < 0
    come = np.zeros(edges.target.size)
    come[of_leaf], come[~of_leaf] = leaves[~edges.target[of_leaf]], nodes[edges.target[~of_leaf]]
    whole = np.ones(edges.node.size)
    whole[edges.node >= 0] = nodes[edges.node[edges.node >= 0]]
    ratios = np.full(come.size, 0.5)
    np.divide(come, whole, out=ratios, where=whole > 0)
    return ratios


def _slots(trees: Any, feature: Integers) -> tuple[dict[int, Integers], dict[int, Flags]]:
    """Categories that have a slot, by feature; and slots that go left, by categorical node."""
    named: dict[int, set[int]] = {}
    for node, held in trees.sets.items():
        named.setdefault(int(feature[node]), set()).update(held)
    known = {asked: np.array(sorted(held), np.int64) for asked, held in named.items()}
    default, masks = trees.default_left.tolist(), dict[int, Flags]()
    for node, held in trees.sets.items():
        categories = known[int(feature[node])]
        masks[node] = left = np.zeros(categories.size + 2, np.bool_)
        left[np.searchsorted(categories, np.array(list(held), np.int64))] = True
        left[-1] = default[node]
    return known, masks


def _sets(ways: Integers, first: Integers, asked: Integers, masks: dict[int, Flags]) -> tuple[Integers, Bytes]:
    """Where the bits of each element begin (-1: it asks for an interval), and all bits. `ways`: 2 * node + 1 to the left, 2 * node
    to the right. Paths that share their conditions share the bits, so that there are at most two sets for each categorical node.
    """
    place = np.full(first.size, -1, np.int64)
    ends = np.append(first[1:], ways.size)
    bits, found, size = [np.zeros(0, np.uint8)], dict[tuple[int, ...], int](), 0
    of_sets = np.isin(ways[first] // 2, np.array(list(masks), np.int64))
    for element in np.flatnonzero(of_sets).tolist():
        taken = tuple(ways[first[element] : ends[element]].tolist())
        if taken not in found:
            sides = [masks[way // 2] == bool(way % 2) for way in taken]
            bits.append(np.packbits(np.logical_and.reduce(sides), bitorder="little"))
            found[taken], size = size, size + bits[-1].size
        place[element] = found[taken]
    return place, np.concatenate(bits)
