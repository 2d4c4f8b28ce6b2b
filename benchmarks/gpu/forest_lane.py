"""A forest over the columns of the tabular lane: 500 trees of 6 levels, drawn at random. numba makes its ranks on the host."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from gpu.record import Event

from scoring.kernels.forest_parts import drawn
from scoring.models.forest_parts import plain
from scoring.models.forest_parts.shape import Feature, ForestShape
from scoring.models.forest_parts.write import write_forest
from scoring.settings import Column

TREES, DEPTH = 500, 6
GOLDEN = 64


def write(folder: Path, names: tuple[str, ...], golden: object) -> Event:
    trees = drawn.trees(torch.Generator().manual_seed(0), TREES, DEPTH, len(names), bushy=1.0, leaf=torch.float64, less_equal=True)
    grid = (trees.threshold * 40).round() / 40  # some 250 thresholds a feature, as histograms of libraries have
    trees = replace(trees, threshold=grid, leaves=trees.leaves / 50, output=None)
    shape = ForestShape(tuple(map(Feature, names)), rounded=True, link="sigmoid")
    write_forest(
        folder, name="gpu-check-forest", version="1", inputs={name: Column("float32") for name in names}, shape=shape, trees=trees,
        cover=None, golden=golden, expected=plain.outputs(shape, trees, None, golden), source="drawn",
    )  # fmt: skip
    return {"nodes": trees.feature.numel()}
