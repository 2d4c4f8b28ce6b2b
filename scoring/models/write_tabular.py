"""Write a tabular bundle: what training ends in, and what the loader in `tabular` reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from scoring.models import heads as head
from scoring.models import words
from scoring.models.bundle import EXPECTED, describe_inputs, input_schema, write
from scoring.models.net import Net
from scoring.models.tabular import Layout
from scoring.models.vocabulary import Vocabulary
from scoring.settings import Column

TOLERANCE = {"gpu": 1e-3, "cpu": 1e-5}  # GPUs may multiply in TF32; on the CPU only the order of sums differs


def write_tabular(
    folder: str | Path,
    *,
    name: str,
    version: str,
    inputs: dict[str, Column],
    layout: Layout,
    vocabularies: Sequence[pa.Array[Any]],
    net: Net,
    golden: pa.Table,
    tolerance: dict[str, float] | None = None,
) -> Path:
    """Write the bundle; the rows of `golden` become its golden rows.

    Args:
        vocabularies: one array of strings or integers per categorical column, in slot order from slot 1.
        tolerance: by route; see `Bundle.tolerance`.
    """
    tables = {c.column: v for c, v in zip(layout.categorical, vocabularies, strict=True)}
    manifest = {"family": "tabular", "name": name, "version": version, "inputs": describe_inputs(inputs)}
    manifest |= {"tolerance": dict(tolerance or TOLERANCE)} | layout.describe()
    tensors = dict(net.state_dict())
    for column, known in tables.items():
        tensors |= words.tensors(column, known)
    typed = golden.select(list(inputs)).cast(input_schema(inputs)).combine_chunks()
    return write(folder, manifest, tensors, _with_expected(typed, layout, vocabularies, net))


def _with_expected(typed: pa.Table, layout: Layout, vocabularies: Sequence[pa.Array[Any]], net: Net) -> pa.Table:
    """Golden scores by the plain module in float64: independent of every fast path."""
    wide = layout.net().double()
    wide.load_state_dict(net.state_dict())
    rows = layout.encoder([Vocabulary(v) for v in vocabularies]).rows(typed.to_batches()[0])
    slope, intercept = head.affine(layout.heads)
    with torch.inference_mode():
        logits = wide(rows.numbers.double(), rows.slots) * slope.double() + intercept.double()
        expected = head.activate(layout.heads, logits).float().numpy()
    for place, output in enumerate(head.output_names(layout.heads)):
        typed = typed.append_column(EXPECTED + output, pa.array(expected[:, place].copy()))
    return typed
