"""The text family: encoders of the BERT kind on a packed stream; embeddings, classification, scores of pairs.

Everything that shapes a score is in the bundle: the tokeniser in tokenizer.json, how texts are made of columns and cut in
model.yaml, weights in weights.safetensors. On a CPU a batch is computed in packs of a thousand tokens, whose activations stay in
cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

from scoring import columns
from scoring.errors import ModelError
from scoring.models import heads as head
from scoring.models.bundle import Bundle, check_outputs
from scoring.models.encoder import STRIP, Encoder
from scoring.models.encoder_shape import (
    Pooling,
    Projection,
    Shape,
    read_pooling,
    read_projections,
    read_shape,
    tensors_of,
    vector_width,
)
from scoring.models.golden import pieces, score_table
from scoring.models.manifest import Fields
from scoring.models.plain_encoder import ACTIVATE
from scoring.models.precision import refuse, text_dtype
from scoring.models.templates import TextInput, read_text
from scoring.models.texts import Texts
from scoring.models.tokenise import Tokeniser
from scoring.settings import Precision
from scoring.types import Output

PACK_TOKENS = 1024  # of a pack on a CPU


@dataclass(frozen=True)
class Layout:
    """What model.yaml says beside the fields that all bundles have; `embedding` or `heads`."""

    text: TextInput
    encoder: Shape
    pooling: Pooling
    projections: tuple[Projection, ...]
    unit: bool
    embedding: Output | None
    heads: tuple[head.Head, ...]

    @property
    def outputs(self) -> tuple[Output, ...]:
        return head.outputs(self.heads) if self.embedding is None else (self.embedding,)


def open_model(bundle: Bundle, device: torch.device, module: str | None, precision: Precision) -> Text:
    """Raises: ModelError: the bundle is not a text model."""
    if module is not None:
        raise ModelError(f"Bundle {bundle.name} is of the text family; model.module ({module}) is for the module family only.")
    refuse(bundle, precision, ("fp32", "bf16"))
    layout = read_layout(bundle)
    logits = sum(h.width for h in layout.heads)
    tensors = bundle.tensors(tensors_of(layout.encoder, layout.projections, logits))
    path = bundle.tokenizer()
    tokeniser = Tokeniser(path, layout.text, layout.encoder.types > 1, torch.get_num_threads())
    if tokeniser.vocabulary > layout.encoder.vocabulary:
        raise ModelError(
            f"{path} gives ids up to {tokeniser.vocabulary - 1:,}, but the encoder knows {layout.encoder.vocabulary:,} tokens."
        )
    return Text(bundle, layout, tokeniser, tensors, device, text_dtype(precision, device))


class Text:
    """A Model. The encoder computes in `dtype`; norms, pooling and heads in float32."""

    unit: Literal["rows", "tokens"] = "tokens"
    reentrant = True

    def __init__(
        self,
        bundle: Bundle,
        layout: Layout,
        tokeniser: Tokeniser,
        tensors: Mapping[str, torch.Tensor],
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.name, self.version, self.digest = bundle.name, bundle.version, bundle.digest
        self.inputs, self.tolerance, self.device = bundle.inputs, bundle.tolerance, device
        self.outputs = layout.outputs
        self._layout, self._tokeniser = layout, tokeniser
        self._encoder = Encoder(layout.encoder, tensors, device, dtype)
        self._tail = {k: v.to(device) for k, v in tensors.items() if k.startswith(("projections.", "classifier."))}
        self._heads = head.Activation(layout.heads, device) if layout.heads else None

    def count(self, edges: Mapping[str, tuple[float, ...]]) -> frozenset[str]:
        return frozenset()

    def encode(self, batch: pa.RecordBatch) -> Texts:
        """Raises: ModelError: a column is missing or of another type than declared."""
        return self._tokeniser(batch)

    def forward(self, encoded: Texts) -> torch.Tensor:
        """Float32 (items, sum of widths) on the model's device."""
        with torch.inference_mode():
            if self.device.type != "cpu":
                return self._compute(encoded)
            parts = [self._compute(piece) for piece in pieces(encoded, PACK_TOKENS)]
            return torch.cat(parts) if parts else torch.empty((0, columns.width(self.outputs)))

    def score(self, table: pa.Table) -> pa.Table:
        """Output columns of a table with the declared inputs, in its order. Raises: ModelError: the inputs do not fit."""
        return score_table(self, table)

    def _compute(self, texts: Texts) -> torch.Tensor:
        layout, cut = self._layout, self._layout.text.overlong == "windows"
        last = not layout.projections and not cut
        vectors = self._encoder.vectors(texts.ids, texts.types, texts.offsets, layout.pooling, layout.unit and last)
        if cut:
            vectors = _together(vectors, texts.offsets, texts.first.to(self.device))
        if last and self._heads is None:
            return vectors
        rows = len(vectors)
        vectors = self._finished(F.pad(vectors, (0, 0, 0, -rows % STRIP)))
        return vectors[:rows]

    def _finished(self, vectors: torch.Tensor) -> torch.Tensor:
        """What comes after pooling, on whole strips of rows: then a row has the same bits in every batch, also after activations,
        which may compute the last numbers of a vector otherwise.
        """
        for k, one in enumerate(self._layout.projections):
            vectors = self._projected(vectors, k, one)
        if self._heads is not None:
            return self._heads.scores(self._linear(vectors, "classifier"))
        return F.normalize(vectors) if self._layout.unit else vectors

    def _projected(self, vectors: torch.Tensor, k: int, one: Projection) -> torch.Tensor:
        vectors = ACTIVATE[one.activation](self._linear(vectors, f"projections.{k}"))
        if not one.norm:
            return vectors
        weight, bias = (self._tail[f"projections.{k}.norm.{part}"] for part in ("weight", "bias"))
        return F.layer_norm(vectors, vectors.shape[1:], weight, bias, self._layout.encoder.epsilon)

    def _linear(self, vectors: torch.Tensor, name: str) -> torch.Tensor:
        """The bias is added afterwards: begun from it, a product of few rows has other bits than one of many."""
        weight, bias = self._tail[f"{name}.weight"], self._tail.get(f"{name}.bias")
        product = F.linear(vectors, F.pad(weight, (0, 0, 0, -len(weight) % STRIP)))[:, : len(weight)]
        return product.contiguous() if bias is None else product + bias


def _together(vectors: torch.Tensor, offsets: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """The mean of the windows of each text, weighted by their tokens; float32 (items, H)."""
    tokens = offsets.diff().to(torch.float32)
    total = torch.segment_reduce(tokens, "sum", offsets=first, unsafe=True)
    share = tokens / total.repeat_interleave(first.diff(), output_size=len(tokens))
    return torch.segment_reduce(vectors * share[:, None], "sum", offsets=first, unsafe=True)


def read_layout(bundle: Bundle) -> Layout:
    """Raises: ModelError: keys of model.yaml that are missing, unknown or do not fit together."""
    body = bundle.body
    text = read_text(body, bundle.inputs)
    shape, pooling = read_shape(body.fields("encoder")), read_pooling(body.fields("pooling"))
    projections, unit = read_projections(body), body.flag("unit", False)
    width = vector_width(shape, projections)
    embedding = _embedding(body.fields("embedding"), width) if body.has("embedding") else None
    heads = head.read_heads(body) if embedding is None else ()
    body.done()
    where = bundle.folder / "model.yaml"
    if heads and unit:
        raise ModelError(f"{where}: 'unit' is for an embedding; heads take the vector as it is.")
    if text.max_length > shape.longest:
        raise ModelError(f"{where}: text: 'max_length' is {text.max_length}, but the encoder has {shape.longest} positions.")
    return Layout(text, shape, pooling, projections, unit, embedding, heads)


def _embedding(fields: Fields, width: int) -> Output:
    name, store = fields.text("name"), fields.text("store", "float32")
    if store not in ("float32", "float16", "int8"):
        fields.wrong("store", "float32, float16 or int8", store)
    fields.done()
    check_outputs((name,), fields.where)
    return Output(name, width, store)  # type: ignore[arg-type]
