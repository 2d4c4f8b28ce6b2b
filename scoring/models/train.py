"""Fit a small tabular model in seconds: for tests and the demo only. A real model is trained elsewhere and saved as a bundle.

Scaling, vocabularies and calibration are learnt here too; a part of the rows is held out for calibration and for the loss returned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from scoring.models import calibrate
from scoring.models.encode import Numeric, Rows
from scoring.models.heads import Head, Kind
from scoring.models.net import Architecture, Net
from scoring.models.tabular import Categorical, Layout
from scoring.models.vocabulary import UNKNOWN, Vocabulary
from scoring.models.write_tabular import write_tabular
from scoring.settings import Column

_UNKNOWN_SHARE = 0.02  # of training slots shown as unknown, so that slot 0 learns something


@dataclass(frozen=True)
class Target:
    """Column `column` of the table, learnt by a head of this kind."""

    column: str
    kind: Kind = "binary"


@dataclass(frozen=True)
class Recipe:
    """`rare`: values seen less often stay out of the vocabulary. `held_out`: share of rows for calibration and the loss."""

    architecture: Architecture = Architecture(hidden=(64, 32))  # noqa: RUF009 - frozen
    dim: int = 8
    epochs: int = 3
    batch_rows: int = 1024
    rate: float = 3e-3
    rare: int = 3
    held_out: float = 0.2
    calibrate: bool = True
    golden_rows: int = 48
    seed: int = 0


def fit(
    table: pa.Table,
    folder: str | Path,
    *,
    numeric: Sequence[str],
    categorical: Sequence[str],
    targets: dict[str, Target],
    name: str = "model",
    version: str = "1",
    inputs: dict[str, Column] | None = None,
    recipe: Recipe = Recipe(),
) -> dict[str, float]:
    """Fit on `table`, write the bundle to `folder`, and return the held-out loss of each head after calibration.

    `inputs` replaces the declaration (types as in the table, all nullable) of the columns it names.
    """
    table = table.combine_chunks()
    kinds = {n: Column(_alias(table.schema.field(n).type)) for n in (*numeric, *categorical)} | (inputs or {})
    known = [_vocabulary(table.column(c), recipe.rare) for c in categorical]
    heads = tuple(_head(name, target, table) for name, target in targets.items())
    layout = Layout(
        tuple(_numeric(n, table.column(n)) for n in numeric),
        tuple(Categorical(c, len(k), recipe.dim) for c, k in zip(categorical, known, strict=True)),
        recipe.architecture,
        heads,
    )
    rows = layout.encoder([Vocabulary(k) for k in known]).rows(table.to_batches()[0])
    truth = [_truth(head, table.column(t.column)) for head, t in zip(heads, targets.values(), strict=True)]
    order = np.random.default_rng(recipe.seed).permutation(table.num_rows)
    cut = max(1, int(table.num_rows * recipe.held_out))
    held, train = torch.from_numpy(order[:cut].copy()), torch.from_numpy(order[cut:].copy())
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(recipe.seed)
        net = _train(layout, rows, truth, train, recipe)
    with torch.inference_mode():
        logits = torch.split(net(rows.numbers[held], rows.slots[:, held]), [h.width for h in heads], 1)
    logits, truth = tuple(part.clone() for part in logits), [t[held] for t in truth]
    if recipe.calibrate:
        heads = tuple(_calibrated(h, z, t) for h, z, t in zip(heads, logits, truth, strict=True))
    golden = _golden(table.take(order[: min(cut, recipe.golden_rows)]).select(list(kinds)), categorical)
    write_tabular(
        folder,
        name=name,
        version=version,
        inputs=kinds,
        layout=replace(layout, heads=heads),
        vocabularies=known,
        net=net,
        golden=golden,
    )
    return {h.name: float(_loss(h, z * h.slope + h.intercept, t)) for h, z, t in zip(heads, logits, truth, strict=True)}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Steps of a few hundred rows are too small to share: on two busy cores a second thread cost ten times the CPU time. It also
    makes the weights those of the seed, whatever the number of cores.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _alias(kind: pa.DataType) -> str:
    return {"float": "float32", "double": "float64", "large_string": "string"}.get(str(kind), str(kind))


def _vocabulary(column: pa.ChunkedArray[Any], rare: int) -> pa.Array[Any]:
    counted: Any = pc.value_counts(column.drop_null())
    frequent = counted.field("values").filter(pc.greater_equal(counted.field("counts"), pa.scalar(rare)))
    ordered: pa.Array[Any] = frequent.take(pc.array_sort_indices(frequent))
    return ordered.cast(pa.string() if pa.types.is_large_string(ordered.type) else ordered.type)


def _numeric(name: str, column: pa.ChunkedArray[Any]) -> Numeric:
    values = column.drop_null().to_numpy().astype(np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return Numeric(name)
    return Numeric(name, fill=float(np.median(values)), mean=float(values.mean()), scale=float(values.std()) or 1.0)


def _head(name: str, target: Target, table: pa.Table) -> Head:
    if target.kind != "multiclass":
        return Head(name, target.kind)
    return Head(name, target.kind, tuple(sorted(str(v) for v in pc.unique(table.column(target.column)).to_pylist())))


def _truth(head: Head, column: pa.ChunkedArray[Any]) -> torch.Tensor:
    if head.kind == "multiclass":
        place = {c: n for n, c in enumerate(head.classes)}
        return torch.tensor([place[str(v)] for v in column.to_pylist()])
    return torch.from_numpy(column.to_numpy().astype(np.float32))


def _loss(head: Head, logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    if head.kind == "multiclass":
        return F.cross_entropy(logits, truth)
    if head.kind == "binary":
        return F.binary_cross_entropy_with_logits(logits[:, 0], truth)
    return F.mse_loss(logits[:, 0], truth)


def _train(layout: Layout, rows: Rows, truth: list[torch.Tensor], train: torch.Tensor, recipe: Recipe) -> Net:
    """Adam on the sum of the heads' losses. Regression targets are standardised while training and put back into the last layer."""
    net = layout.net()
    spread = [
        (float(t[train].mean()), float(t[train].std()) or 1.0) if h.kind == "regression" else (0.0, 1.0)
        for h, t in zip(layout.heads, truth, strict=True)
    ]
    easy = [(t - m) / s if h.kind == "regression" else t for h, t, (m, s) in zip(layout.heads, truth, spread, strict=True)]
    search = torch.optim.Adam(net.parameters(), lr=recipe.rate)
    for _ in range(recipe.epochs):
        for batch in train[torch.randperm(len(train))].split(recipe.batch_rows):  # type: ignore[no-untyped-call]
            slots = rows.slots[:, batch]
            slots = torch.where(torch.rand(slots.shape) < _UNKNOWN_SHARE, UNKNOWN, slots)
            logits = torch.split(net(rows.numbers[batch], slots), [h.width for h in layout.heads], 1)
            search.zero_grad()
            torch.stack([_loss(h, z, t[batch]) for h, z, t in zip(layout.heads, logits, easy, strict=True)]).sum().backward()  # type: ignore[no-untyped-call]
            search.step()
    _unstandardise(net, layout, spread)
    return net.eval()


def _unstandardise(net: Net, layout: Layout, spread: list[tuple[float, float]]) -> None:
    last, start = net.top[-1], 0
    with torch.no_grad():
        for head, (mean, scale) in zip(layout.heads, spread, strict=True):
            last.weight[start : start + head.width] *= scale  # type: ignore[operator, index]
            last.bias[start : start + head.width] *= scale  # type: ignore[operator, index]
            last.bias[start : start + head.width] += mean  # type: ignore[operator, index]
            start += head.width


def _calibrated(head: Head, logits: torch.Tensor, truth: torch.Tensor) -> Head:
    if head.kind == "binary":
        slope, intercept = calibrate.platt(logits[:, 0], truth)
        return replace(head, slope=slope, intercept=intercept)
    if head.kind == "multiclass":
        return replace(head, slope=1 / calibrate.temperature(logits, truth))
    return head


def _golden(rows: pa.Table, categorical: Sequence[str]) -> pa.Table:
    """Real rows, the first of them again with every input null, and once with categories that nobody has seen."""
    first = rows.slice(0, 1)
    empty = pa.table({f.name: pa.nulls(1, f.type) for f in rows.schema}, schema=rows.schema)
    strange = first
    for name in categorical:
        kind = rows.schema.field(name).type
        unseen = pa.array(
            ["\u2205 unseen"] if pa.types.is_string(kind) else [-1 if not pa.types.is_unsigned_integer(kind) else 255]
        )
        if not pa.types.is_boolean(kind):
            strange = strange.set_column(strange.schema.get_field_index(name), rows.schema.field(name), unseen.cast(kind))
    return pa.concat_tables([rows, empty, strange])
