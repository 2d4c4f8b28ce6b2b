"""treelite's model as `Trees` and `Cover`: sets name what goes left, averages are in the leaves, float32 is widened exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from scoring import ops
from scoring.errors import ModelError
from scoring.models.foreign_trees.found import Found, Numbers
from scoring.models.forest_parts.cover import Cover

MOST_PLACES = 1 << 30  # nodes, leaves
_NUMERIC, _SETS = 1, 2  # treelite's types of nodes; 0 is a leaf
_LESS, _LESS_EQUAL = 2, 3  # treelite's comparisons
_FIELDS = ("node_type", "cleft", "cright", "split_index", "default_left", "threshold", "cmp", "category_list_right_child")


@dataclass(frozen=True)
class Forest:
    """`margins`: how many sums the trees make."""

    trees: Any
    cover: Cover | None
    margins: int


@dataclass(frozen=True)
class _Tree:
    """Of one tree: its nodes and leaves in treelite's order, children as `Trees` has them but counted within the tree."""

    node: dict[str, Numbers]
    sets: dict[int, list[int]]
    leaves: Numbers
    cover: Numbers | None
    compares: set[int]

    @property
    def inner(self) -> Numbers:
        return self.node["inner"]


def convert(path: str, found: Found) -> Forest:
    """Raises: ModelError: trees that cannot be told in our way."""
    head, count = found.model.get_header_accessor(), found.model.num_tree
    targets, classes = (int(one) for one in (head.get_field("num_target")[0], np.max(head.get_field("num_class"))))
    margins = targets * classes
    vectors = bool(np.prod(head.get_field("leaf_vector_shape")) > 1)
    trees = [_tree(f"{path}: tree {n:,}", found.model.get_tree_accessor(n), margins, vectors, found.cover) for n in range(count)]
    if len(compares := set().union(*(one.compares for one in trees))) > 1:
        raise ModelError(f"{path}: some splits are x < threshold and some x <= threshold, expected one of them.")
    output = _outputs(path, head, margins, classes, vectors)
    scale = _scale(head, output, count, margins)
    nodes = np.cumsum([0, *(int(one.inner.sum()) for one in trees)])
    leaves = np.cumsum([0, *(len(one.leaves) for one in trees)])
    if max(int(nodes[-1]), int(leaves[-1])) > MOST_PLACES:
        raise ModelError(f"{path} has {nodes[-1]:,} nodes and {leaves[-1]:,} leaves; at most {MOST_PLACES:,} of each are read.")
    parts = [one.node for one in trees]
    base = np.array(head.get_field("base_scores"), np.float64).reshape(-1)
    children = {key: _placed([part[key] for part in parts], nodes, leaves) for key in ("left", "right")}
    values = np.concatenate([one.leaves / by for one, by in zip(trees, scale, strict=True)])
    if not (np.isfinite(values).all() and np.isfinite(base).all() and base.shape == (margins,)):
        raise ModelError(f"{path}: a leaf or a base score is not finite, or there are not {margins:,} base scores.")
    made = ops.trees().Trees(
        torch.from_numpy(_joined(parts, "feature", np.int64)),
        torch.from_numpy(_joined(parts, "threshold", np.float64)),
        torch.from_numpy(children["left"]),
        torch.from_numpy(children["right"]),
        torch.from_numpy(_joined(parts, "default", np.bool_)),
        torch.from_numpy(_placed([part["root"] for part in parts], nodes, leaves)),
        torch.from_numpy(values),
        torch.from_numpy(base.copy()),
        compares != {_LESS},
        None if output is None else torch.from_numpy(output),
        {int(nodes[n]) + node: held for n, one in enumerate(trees) for node, held in one.sets.items()},
    )
    return Forest(made, _cover(trees), margins)


def _tree(where: str, accessor: Any, margins: int, vectors: bool, cover: str) -> _Tree:
    got = {key: np.array(accessor.get_field(key)) for key in _FIELDS}  # copies: the fields lie in treelite's memory
    inner = got["node_type"] != 0
    place = np.where(inner, np.cumsum(inner) - 1, ~(np.cumsum(~inner) - 1))  # within the tree, as `Trees` counts
    by_set = got["node_type"] == _SETS
    flipped = (by_set & (got["category_list_right_child"] != 0))[inner]  # a set of categories that go right
    left, right = (place[got[key][inner]].astype(np.int64) for key in ("cleft", "cright"))
    threshold = np.where(by_set, 0.0, got["threshold"].astype(np.float64))[inner]
    if np.isnan(threshold).any():
        raise ModelError(f"{where}: a threshold is NaN.")
    node = {
        "inner": inner,
        "feature": got["split_index"][inner].astype(np.int64),
        "threshold": threshold,
        "left": np.where(flipped, right, left),
        "right": np.where(flipped, left, right),
        "default": (got["default_left"] != 0)[inner] ^ flipped,
        "root": place[:1].astype(np.int64),
    }
    compares = set(got["cmp"][got["node_type"] == _NUMERIC].tolist())
    if unknown := compares - {_LESS, _LESS_EQUAL}:
        raise ModelError(f"{where}: comparison {min(unknown)} of treelite is not known; < and <= are.")
    counts = np.array(accessor.get_field(cover), np.float64) if inner.any() else np.ones(1)
    told = counts.shape == inner.shape and bool((np.isfinite(counts) & (counts >= 0)).all()) and counts[0] > 0
    leaves = _leaves(where, accessor, inner, margins, vectors)
    return _Tree(node, _sets(accessor, by_set, place), leaves, counts if told else None, compares)


def _sets(accessor: Any, by_set: Numbers, place: Numbers) -> dict[int, list[int]]:
    if not by_set.any():
        return {}
    held, begin, end = (np.array(accessor.get_field(f"category_list{part}")) for part in ("", "_begin", "_end"))
    return {int(place[n]): held[int(begin[n]) : int(end[n])].tolist() for n in np.flatnonzero(by_set)}


def _leaves(where: str, accessor: Any, inner: Numbers, margins: int, vectors: bool) -> Numbers:
    """float64 [leaves, K]."""
    if not vectors:
        return np.array(accessor.get_field("leaf_value"), np.float64)[~inner][:, None]
    numbers, begin, end = (np.array(accessor.get_field(f"leaf_vector{part}")) for part in ("", "_begin", "_end"))
    begin, end = begin[~inner].astype(np.int64), end[~inner].astype(np.int64)
    if not (end - begin == margins).all():
        raise ModelError(
            f"{where}: leaves hold other than {margins:,} numbers; trees with vectors must all have them for all outputs."
        )
    return numbers.astype(np.float64)[begin[:, None] + np.arange(margins)]


def _outputs(path: str, head: Any, margins: int, classes: int, vectors: bool) -> Numbers | None:
    """The margin of each tree; None where there is one, or where each tree adds to all."""
    target, kind = (np.array(head.get_field(key), np.int64) for key in ("target_id", "class_id"))
    if margins == 1 or vectors:
        if vectors and bool(((target >= 0) & (head.get_field("num_target")[0] > 1) | (kind >= 0) & (classes > 1)).any()):
            raise ModelError(f"{path}: some trees are of one output and some of all; only one kind is supported.")
        return None
    return np.maximum(target, 0) * classes + np.maximum(kind, 0)


def _scale(head: Any, output: Numbers | None, count: int, margins: int) -> Numbers:
    """What the leaves of each tree are divided by: where outputs are means, the number of trees of its output."""
    if not head.get_field("average_tree_output")[0]:
        return np.ones(count)
    if output is None:
        return np.full(count, float(count))
    return np.bincount(output, minlength=margins)[output].astype(np.float64)


def _placed(parts: list[Numbers], nodes: Numbers, leaves: Numbers) -> Numbers:
    """Children counted within each tree, as places among all nodes and leaves."""
    if not parts:
        return np.empty(0, np.int64)
    trees = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    found = np.concatenate(parts)
    return np.where(found >= 0, found + nodes[trees], found - leaves[trees])


def _joined(parts: list[dict[str, Numbers]], key: str, dtype: Any) -> Numbers:
    return np.concatenate([part[key] for part in parts]).astype(dtype)


def _cover(trees: list[_Tree]) -> Cover | None:
    counts = [one.cover for one in trees]
    if any(one is None for one in counts):
        return None
    nodes, leaves = (
        np.concatenate(
            [count[one.inner if want else ~one.inner] for one, count in zip(trees, counts, strict=True) if count is not None]
        )
        for want in (True, False)
    )
    return Cover(torch.from_numpy(nodes), torch.from_numpy(leaves))
