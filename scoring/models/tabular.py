"""The tabular family: numeric columns, categorical columns with vocabularies, one network, several calibrated heads.

Everything that shapes a score is in the bundle: imputation, centre and scale of each number and the architecture in model.yaml;
vocabularies, embeddings and weights in weights.safetensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
import torch

from scoring.errors import ModelError
from scoring.models import heads as head
from scoring.models import words
from scoring.models.blocks import BLOCK_ROWS, in_blocks
from scoring.models.bundle import Bundle
from scoring.models.encode import Encoder, Numeric, Packed, Rows
from scoring.models.fold import FoldedMlp, pays
from scoring.models.golden import score_table
from scoring.models.manifest import Fields
from scoring.models.net import Architecture, Net, read_architecture
from scoring.models.precision import refuse
from scoring.models.served import Served
from scoring.models.vocabulary import Vocabulary
from scoring.settings import Precision


@dataclass(frozen=True)
class Categorical:
    """`size` known values, embedded in `dim` numbers each; slot 0 of the table is for unknown values and null."""

    column: str
    size: int
    dim: int


@dataclass(frozen=True)
class Layout:
    """What model.yaml says beside the fields that all bundles have."""

    numeric: tuple[Numeric, ...]
    categorical: tuple[Categorical, ...]
    architecture: Architecture
    heads: tuple[head.Head, ...]

    def net(self) -> Net:
        tables = [(c.size + 1, c.dim) for c in self.categorical]
        return Net(len(self.numeric), tables, self.architecture, sum(h.width for h in self.heads))

    def encoder(self, vocabularies: Sequence[Vocabulary]) -> Encoder:
        return Encoder(self.numeric, {c.column: v for c, v in zip(self.categorical, vocabularies, strict=True)})

    def describe(self) -> dict[str, Any]:
        return {
            "preprocessing": {
                "numeric": [n.describe() for n in self.numeric],
                "categorical": [vars(c) for c in self.categorical],
            },
            "architecture": self.architecture.describe(),
            "heads": [h.describe() for h in self.heads],
        }


def open_model(bundle: Bundle, device: torch.device, module: str | None, precision: Precision) -> Tabular:
    """Raises: ModelError: the bundle is not a tabular model."""
    if module is not None:
        raise ModelError(f"Bundle {bundle.name} is of the tabular family; model.module ({module}) is for the module family only.")
    refuse(bundle, precision, ("fp32",))
    layout = _layout(bundle)
    with torch.device("meta"):  # no memory is taken for what a bundle merely claims to hold
        net = layout.net()
    known = words.shapes(bundle, {c.column: c.size for c in layout.categorical})
    tensors = bundle.tensors({k: (v.dtype, tuple(v.shape)) for k, v in net.state_dict().items()} | known)
    vocabularies = [_vocabulary(c.column, tensors) for c in layout.categorical]
    net.load_state_dict({k: v for k, v in tensors.items() if not k.startswith(words.PREFIX)}, assign=True)
    return Tabular(bundle, layout, vocabularies, net, device)


class Tabular:
    """A Model. On the CPU it computes in fixed blocks, and folds an MLP with small tables; else it is served as it is."""

    unit: Literal["rows", "tokens"] = "rows"

    def __init__(self, bundle: Bundle, layout: Layout, vocabularies: list[Vocabulary], net: Net, device: torch.device) -> None:
        self.name, self.version, self.digest = bundle.name, bundle.version, bundle.digest
        self.inputs, self.tolerance, self.device = bundle.inputs, bundle.tolerance, device
        self.reentrant = True
        self.outputs = head.outputs(layout.heads)
        self._heads = head.Activation(layout.heads, device)
        self._encoder = layout.encoder(vocabularies)
        net = net.eval().requires_grad_(False)
        self._folded = FoldedMlp(net, BLOCK_ROWS) if device.type == "cpu" and pays(net) else None
        self._served = None if self._folded is not None else Served(net, device)

    def count(self, edges: Mapping[str, tuple[float, ...]]) -> frozenset[str]:
        """Nothing on a CPU, where torch would take five times as long for it as numpy does beside the model."""
        return frozenset() if self.device.type == "cpu" else self._encoder.count(edges)

    def encode(self, batch: pa.RecordBatch) -> Rows | Packed:
        """Raises: ModelError: a column is missing or of another type than declared."""
        return self._encoder.rows(batch) if self.device.type == "cpu" else self._encoder.packed(batch)

    def forward(self, encoded: Rows) -> torch.Tensor:
        """Float32 (rows, outputs) on the model's device."""
        with torch.inference_mode():
            if self.device.type != "cpu":
                assert self._served is not None
                return self._heads.scores(self._served.compute(encoded.numbers, encoded.slots))
            by_column = ((encoded.numbers.t(), 1), (encoded.slots, 1))  # as a CPU's rows lie
            own = self._folded is None
            return in_blocks(self._logits, by_column, encoded.rows, len(self.outputs), copy=own, finish=self._heads.scores)

    def score(self, table: pa.Table) -> pa.Table:
        """Output columns of a table with the declared inputs, in its order. Raises: ModelError: the inputs do not fit."""
        return score_table(self, table)

    def _logits(self, block: Sequence[torch.Tensor]) -> torch.Tensor:
        if self._folded is not None:
            return self._folded.compute(block)
        assert self._served is not None
        return self._served.compute(block[0].t().contiguous(), block[1])


def _layout(bundle: Bundle) -> Layout:
    body = bundle.body
    steps = body.fields("preprocessing")
    numeric, categorical = [], []
    for item in steps.items("numeric", []):
        low, high = _clip(item) if item.has("clip") else (-math.inf, math.inf)
        numeric.append(Numeric(item.text("column"), item.number("fill"), item.number("mean"), item.number("scale"), low, high))
        if numeric[-1].scale <= 0 or not math.isfinite(1 / numeric[-1].scale):
            item.wrong("scale", "above 0", numeric[-1].scale)
        item.done()
    for item in steps.items("categorical", []):
        categorical.append(Categorical(item.text("column"), item.integer("size", 0, 100_000_000), item.integer("dim", 1, 4096)))
        item.done()
    steps.done()
    layout = Layout(tuple(numeric), tuple(categorical), read_architecture(body.fields("architecture")), head.read_heads(body))
    body.done()
    _check_columns(layout, bundle)
    return layout


def _clip(item: Fields) -> tuple[float, float]:
    found = item.anything("clip")
    if not (
        isinstance(found, list) and len(found) == 2 and all(isinstance(f, int | float) for f in found) and found[0] <= found[1]
    ):
        item.wrong("clip", "two numbers, the lower one first", found)
    return float(found[0]), float(found[1])


def _check_columns(layout: Layout, bundle: Bundle) -> None:
    used = [n.column for n in layout.numeric] + [c.column for c in layout.categorical]
    where = f"{bundle.folder / 'model.yaml'}: preprocessing"
    if unknown := [u for u in used if u not in bundle.inputs]:
        raise ModelError(f"{where} uses {unknown[0]!r}, which is not an input.")
    for n in layout.numeric:
        if bundle.inputs[n.column].dtype == "string":
            raise ModelError(f"{where}: {n.column!r} is numeric, but the input is a string.")
    for c in layout.categorical:
        if bundle.inputs[c.column].dtype.startswith("float"):
            raise ModelError(f"{where}: {c.column!r} is categorical, but the input is {bundle.inputs[c.column].dtype}.")
    if idle := [n for n in bundle.inputs if n not in used]:
        raise ModelError(f"{where} does not use the input {idle[0]!r}; an input that changes nothing is a mistake.")
    dims = [c.dim for c in layout.categorical]
    if layout.architecture.kind == "dlrm" and (len(set(dims)) != 1 or len(dims) + bool(layout.numeric) < 2):
        raise ModelError(f"{where}: dlrm needs categorical columns of one width and at least two vectors, found widths {dims}.")


def _vocabulary(name: str, tensors: dict[str, torch.Tensor]) -> Vocabulary:
    known = words.values(name, tensors)
    try:
        return Vocabulary(known)
    except ModelError as error:
        raise ModelError(f"weights.safetensors: the vocabulary of {name!r} is broken: {error}") from None
