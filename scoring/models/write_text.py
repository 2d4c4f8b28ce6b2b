"""Write a text bundle: what an import ends in, and what the family `text` reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Tokenizer

from scoring.models.bundle import EXPECTED, describe_inputs, input_schema, write
from scoring.models.encoder_shape import Pooling, Projection, Shape
from scoring.models.heads import Head, output_names
from scoring.models.plain_encoder import PlainEncoder, Sequences
from scoring.models.templates import TextInput, pieces
from scoring.settings import Column
from scoring.types import Output

TOLERANCE = {"gpu": 2e-2, "cpu": 1e-4}  # GPUs multiply in 16 bits; on the CPU only the order of sums differs
_LONG = 600  # tokens of the long golden row at most: in float64 its cost grows with the square
_TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "",
    "Ein längerer Satz über Äpfel, Öl und Übermut, mit großem ß.",
    "Où est la bibliothèque ? À côté de l'église.",
    "El niño comió una manzana; después, se durmió.",
    "Быстрая коричневая лиса прыгает через ленивую собаку.",
    "机器学习正在改变世界。",
    "東京は今日も雨です。",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "👩‍👩‍👧‍👦 🎉 so happy 😊😊",
    "a",
    "Order #4711: 3 x 19,99 € = 59,97 €\tpaid\non 2024-02-29",
    "   spaces   before,   between   and   after   ",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
)


def write_text(
    folder: str | Path,
    *,
    name: str,
    version: str,
    inputs: dict[str, Column],
    text: TextInput,
    encoder: Shape,
    pooling: Pooling,
    projections: tuple[Projection, ...],
    unit: bool,
    embedding: Output | None,
    heads: tuple[Head, ...],
    tensors: dict[str, torch.Tensor],
    tokenizer: bytes,
    golden: pa.Table | None = None,
    tolerance: dict[str, float] | None = None,
) -> Path:
    """Write the bundle; golden scores are computed plainly, in float64.

    Args:
        embedding: the one output of an embedding; None where there are `heads`.
        tensors: float32, by the names of `encoder_shape.tensors_of`.
        tokenizer: tokenizer.json as it is.
        golden: rows of the inputs; if not given, some in many languages, an empty, a null and a long one.
    """
    manifest: dict[str, Any] = {"family": "text", "name": name, "version": version, "inputs": describe_inputs(inputs)}
    manifest |= {"tolerance": dict(tolerance or TOLERANCE), "text": text.describe(), "encoder": encoder.describe()}
    manifest |= {"pooling": pooling.describe(), "projections": [one.describe() for one in projections]}
    if embedding is not None:
        manifest |= {"unit": unit, "embedding": {"name": embedding.name, "store": embedding.store}}
    else:
        manifest |= {"heads": [one.describe() for one in heads]}
    rows = golden_rows(inputs, text) if golden is None else golden
    typed = rows.select(list(inputs)).cast(input_schema(inputs)).combine_chunks()
    plain = PlainEncoder(encoder, pooling, projections, unit, heads, tensors)
    sequences = plain_sequences(typed, text, tokenizer, encoder.types > 1)
    expected = torch.stack([plain.outputs(one) for one in sequences]).float().numpy()
    return write(folder, manifest, tensors, _with_expected(typed, expected, embedding, heads), tokenizer)


def golden_rows(inputs: Mapping[str, Column], text: TextInput) -> pa.Table:
    """Some 16 rows; columns have different texts in a row."""
    long = " ".join(["word"] * min(text.max_length + 8, _LONG))
    texts = [*_TEXTS, long]
    columns = {}
    for n, (name, column) in enumerate(inputs.items()):
        values: list[str | None] = [*texts[-n:], *texts[:-n]] if n else [*texts]
        columns[name] = pa.array([*values, *([None] if column.nullable else [])], pa.string())
    return pa.table(columns)


def plain_sequences(rows: pa.Table, text: TextInput, tokenizer: bytes, types: bool) -> Iterator[Sequences]:
    """The sequences of each row, by the plainest use of the library. `types`: whether the model tells token types apart."""
    opened = Tokenizer.from_buffer(tokenizer)
    direction = (opened.truncation or {}).get("direction", "right")
    opened.no_padding()
    opened.enable_truncation(text.max_length, stride=text.stride, strategy="longest_first", direction=direction)
    for row in rows.to_pylist():
        one, *other = ("".join(_filled(template, row)) for template in text.templates)
        found = opened.encode(one, other[0] if other else None)
        kept = [found, *found.overflowing] if text.overlong == "windows" else [found]
        yield [(one.ids, one.type_ids if types else None) for one in kept]


def _filled(template: str, row: dict[str, str | None]) -> Iterator[str]:
    for piece in pieces(template):
        yield (row[piece.text] or "") if piece.is_column else piece.text


def _with_expected(typed: pa.Table, expected: np.ndarray[Any, Any], embedding: Output | None, heads: tuple[Head, ...]) -> pa.Table:
    if embedding is not None and embedding.width > 1:
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(expected.reshape(-1)), embedding.width)
        return typed.append_column(EXPECTED + embedding.name, vectors)
    for place, output in enumerate((embedding.name,) if embedding is not None else output_names(heads)):
        typed = typed.append_column(EXPECTED + output, pa.array(expected[:, place].copy()))
    return typed
