"""The forest family: gradient-boosted trees and random forests, from any library, in one form.

Columns become ranks among the thresholds of their feature, on the host; ranks are walked by the kernel on a GPU, and on a CPU by
whichever of two ways is faster for trees of their size. Every way sums leaves in float64 in the order of the trees, so scores
depend neither on the device nor on the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import pyarrow as pa
import torch

from scoring import columns, ops
from scoring.errors import ModelError
from scoring.models import words
from scoring.models.blocks import in_blocks
from scoring.models.bundle import Bundle
from scoring.models.forest_parts import tensors
from scoring.models.forest_parts.answer import Answer
from scoring.models.forest_parts.shape import ForestShape, read_shape
from scoring.models.golden import score_table
from scoring.models.precision import refuse
from scoring.models.vocabulary import Vocabulary
from scoring.settings import Precision

BLOCK_ROWS = 2048  # of scores: at the end of a vector a link may give other bits than within


def open_model(bundle: Bundle, device: torch.device, module: str | None, precision: Precision) -> Forest:
    """Raises: ModelError: the bundle is not a forest, or numba is not installed."""
    if module is not None:
        raise ModelError(f"Bundle {bundle.name} is of the forest family; model.module ({module}) is for the module family only.")
    refuse(bundle, precision, ("fp32",))
    bundle.body.text("source")
    less_equal, sizes = bundle.body.flag("less_equal"), dict[str, int]()
    shape = read_shape(bundle.body, sizes)
    _check_columns(shape, bundle, sizes)
    held = bundle.tensors(tensors.wanted(bundle, shape) | words.shapes(bundle, sizes))
    known = {name: words.values(name, held) for name in sizes}
    for name, values in known.items():
        try:
            Vocabulary(values)
        except ModelError as error:
            raise ModelError(f"Bundle {bundle.name}: the categories of {name!r} are broken: {error}") from None
    shape = replace(shape, features=tuple(replace(f, categories=known.get(f.column)) for f in shape.features))
    try:
        return Forest(bundle, shape, *tensors.read(held, shape, less_equal, bundle.name), device)
    except ValueError as error:
        raise ModelError(f"Bundle {bundle.name}: {error}.") from None


class Forest:
    """A Model. Its encoded rows are ranks, the same for every device."""

    unit: Literal["rows", "tokens"] = "rows"

    def __init__(self, bundle: Bundle, shape: ForestShape, trees: Any, cover: Any, device: torch.device) -> None:
        ranks, bits, walk = _compiled()
        self.name, self.version, self.digest = bundle.name, bundle.version, bundle.digest
        self.inputs, self.tolerance, self.device = bundle.inputs, bundle.tolerance, device
        self.reentrant = True
        self.outputs = shape.outputs
        make = ops.trees()
        ranking = make.Ranking.of(trees, len(shape.features))
        self._ranker, self._answer = ranks.Ranker(shape, ranking), Answer(shape, trees, cover, ranking)
        self._arguments: dict[str, Any] = {}
        self._sums: Any = None
        if device.type != "cpu":
            self._arguments = make.pack(trees, ranking).arguments(device)
            return
        packed = make.pack(trees, ranking, perfect=False)
        self._sums = bits.Bits(trees, ranking) if bits.pays(trees, ranking, packed.depth) else walk.Walk(packed)

    def count(self, edges: Mapping[str, tuple[float, ...]]) -> frozenset[str]:
        return frozenset()

    def encode(self, batch: pa.RecordBatch) -> Any:
        """Raises: ModelError: a column is missing or of another type than declared."""
        return self._ranker.ranks(batch)

    def forward(self, encoded: Any) -> torch.Tensor:
        """Float32 (rows, outputs) on the model's device."""
        ranks = encoded.columns
        with torch.inference_mode():
            if self.device.type != "cpu":
                margins = ops.forest()(ranks, **self._arguments, dtype=torch.float64)
                return self._answer.outputs(margins, ranks).float()
            margins = torch.from_numpy(self._sums.margins(ranks.numpy()))
            width = columns.width(self.outputs)
            return in_blocks(self._block, [(margins, 1), (ranks, 1)], ranks.shape[1], width, BLOCK_ROWS, copy=False)

    def score(self, table: pa.Table) -> pa.Table:
        """Output columns of a table with the declared inputs, in its order. Raises: ModelError: the inputs do not fit."""
        return score_table(self, table)

    def _block(self, block: Sequence[torch.Tensor]) -> torch.Tensor:
        margins, ranks = block
        return self._answer.outputs(margins.t().contiguous(), ranks)


def _compiled() -> tuple[Any, Any, Any]:
    """What numba compiles."""
    try:
        from scoring.models.forest_parts import bits, ranks, walk
    except ImportError as error:
        if error.name not in ("numba", "llvmlite"):
            raise
        raise ModelError("A forest is scored with numba, which is not installed: pip install 'scoring[forest]'.") from None
    return ranks, bits, walk


def _check_columns(shape: ForestShape, bundle: Bundle, sizes: Mapping[str, int]) -> None:
    where = f"{bundle.folder / 'model.yaml'}: features"
    names = [feature.column for feature in shape.features]
    if unknown := [name for name in names if name not in bundle.inputs]:
        raise ModelError(f"{where} has {unknown[0]!r}, which is not an input.")
    if idle := [name for name in bundle.inputs if name not in names]:
        raise ModelError(f"{where} lacks the input {idle[0]!r}; an input that changes nothing is a mistake.")
    for feature in shape.features:
        dtype = bundle.inputs[feature.column].dtype
        if (dtype == "string") > (feature.column in sizes):
            raise ModelError(f"{where}: {feature.column!r} is a string, and no categories say what its codes are.")
        if feature.categorical and dtype.startswith("float"):
            raise ModelError(f"{where}: {feature.column!r} is categorical, but the input is {dtype}.")
        if feature.column in sizes and not feature.categorical:
            raise ModelError(f"{where}: {feature.column!r} is numeric and has categories.")
