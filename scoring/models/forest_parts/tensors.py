"""Trees as tensors of a bundle, and back. The file is foreign: what it says is checked before anything walks along it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from scoring import ops
from scoring.errors import ModelError
from scoring.models.bundle import Bundle, Shapes
from scoring.models.forest_parts.cover import Cover
from scoring.models.forest_parts.shape import ForestShape

_NODES = {"feature": torch.int32, "threshold": torch.float64, "left": torch.int32, "right": torch.int32, "default_left": torch.bool}
MOST_SETS = 1 << 28  # values of all sets together


def written(trees: Any, cover: Cover | None) -> dict[str, torch.Tensor]:
    """`leaves` and `base` float64; sets one after the other, with the node of each and where it begins."""
    held = {name: getattr(trees, name).to(dtype) for name, dtype in _NODES.items()}
    held |= {"roots": trees.roots.int(), "leaves": trees.leaves.double(), "base": trees.base.double()}
    if trees.output is not None and len(trees.base) > trees.leaves.shape[1]:
        held["output"] = trees.output.int()
    if trees.sets:
        ordered = [sorted(set(kept)) for kept in trees.sets.values()]
        held["sets.nodes"] = torch.tensor(list(trees.sets), dtype=torch.int32)
        held["sets.starts"] = torch.tensor(np.cumsum([0, *map(len, ordered)]), dtype=torch.int64)
        held["sets.values"] = torch.tensor([value for kept in ordered for value in kept], dtype=torch.int32)
    if cover is not None:
        held |= {"cover.nodes": cover.nodes.double(), "cover.leaves": cover.leaves.double()}
    return {name: part.contiguous() for name, part in held.items()}


def wanted(bundle: Bundle, shape: ForestShape) -> Shapes:
    """What the tensors of the trees must look like; how many nodes, leaves and sets there are is only known to the file."""
    found = bundle.shapes()

    def size(name: str) -> int:
        shape = found.get(name, (None, (0,)))[1]
        return shape[0] if shape else 0

    nodes, leaves, roots = size("feature"), found.get("leaves", (None, (0, 1)))[1], size("roots")
    width = leaves[1] if len(leaves) == 2 else 1
    all_of: Shapes = {name: (dtype, (nodes,)) for name, dtype in _NODES.items()}
    all_of |= {"roots": (torch.int32, (roots,)), "leaves": (torch.float64, (leaves[0], width))}
    all_of |= {"base": (torch.float64, (shape.margins,))}
    if width == 1 and shape.margins > 1:
        all_of["output"] = (torch.int32, (roots,))
    if "sets.nodes" in found:
        sets = size("sets.nodes")
        all_of |= {"sets.nodes": (torch.int32, (sets,)), "sets.starts": (torch.int64, (sets + 1,))}
        all_of["sets.values"] = (torch.int32, (min(size("sets.values"), MOST_SETS),))
    if "cover.nodes" in found or shape.explained:
        all_of |= {"cover.nodes": (torch.float64, (nodes,)), "cover.leaves": (torch.float64, (leaves[0],))}
    return all_of


def read(held: dict[str, torch.Tensor], shape: ForestShape, less_equal: bool, name: str) -> tuple[Any, Cover | None]:
    """Raises: ModelError: they are no trees, or do not fit the features."""
    trees = ops.trees().Trees(
        **{part: held[part] for part in (*_NODES, "roots", "leaves", "base")},
        less_equal=less_equal, output=held.get("output"), sets=_sets(held, name),
    )  # fmt: skip
    _check(trees, shape, name)
    cover = Cover(held["cover.nodes"], held["cover.leaves"]) if "cover.nodes" in held else None
    if cover is not None and not all(bool((part.isfinite() & (part >= 0)).all()) for part in (cover.nodes, cover.leaves)):
        raise ModelError(f"Bundle {name}: the cover of nodes and leaves must be finite and not negative.")
    return trees, cover


def _sets(held: dict[str, torch.Tensor], name: str) -> dict[int, list[int]]:
    if "sets.nodes" not in held:
        return {}
    nodes, starts, values = (held[f"sets.{part}"] for part in ("nodes", "starts", "values"))
    steps = starts.diff()
    if int(starts[0]) != 0 or int(starts[-1]) != len(values) or bool((steps < 0).any()) or len(torch.unique(nodes)) < len(nodes):
        raise ModelError(f"Bundle {name}: sets.starts does not divide {len(values)} values among {len(nodes)} nodes.")
    parts = torch.split(values, steps.tolist())
    return {node: part.tolist() for node, part in zip(nodes.tolist(), parts, strict=True)}


def _check(trees: Any, shape: ForestShape, name: str) -> None:
    """What `pack` does not look at: it refuses circles, and what is out of range."""
    used = trees.feature.long()
    if used.numel() and (int(used.min()) < 0 or int(used.max()) >= len(shape.features)):
        raise ModelError(f"Bundle {name}: nodes ask for features beyond the {len(shape.features)} that there are.")
    asked = set(used[trees.categorical()].tolist())
    numeric = set(used[~trees.categorical()].tolist())
    for number, feature in enumerate(shape.features):
        if number in (numeric if feature.categorical else asked):
            kind = "categorical" if feature.categorical else "numeric"
            raise ModelError(f"Bundle {name}: feature {feature.column!r} is {kind}, and a node splits it otherwise.")
    children = torch.cat([trees.roots, trees.left, trees.right]).long()
    inner = children[children >= 0]
    if len(torch.unique(inner)) < len(inner):
        raise ModelError(f"Bundle {name}: a node has two parents.")
    if not all(bool(part.isfinite().all()) for part in (trees.leaves, trees.base)):
        raise ModelError(f"Bundle {name}: leaves and base must be finite.")
