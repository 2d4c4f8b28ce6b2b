"""The one door to kernels/: operators by name, loaded on first use, typed by what they take and give.

What an operator means, exactly, stands in `kernels/<name>.py` with its reference. On CUDA it runs Triton, on a CPU torch;
SCORING_KERNELS=triton|torch forces one, and `only_reference` does for this process (a rung of the fallback ladder).
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from typing import Any, Protocol, cast

import torch
from torch import Tensor

_reasons: list[str] = []


class ArrowIngest(Protocol):
    """Arrow columns to a matrix, and counts of them; see `kernels/arrow_ingest.py`."""

    def __call__(
        self, buffers: list[Tensor], table: Tensor, kinds: list[int], rules: Tensor, edges: Tensor | None,
        rows: int, width: int, by_column: bool, dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor, Tensor]: ...  # fmt: skip


class ArrowCodes(Protocol):
    """Codes and integer categories to slots; see `kernels/arrow_codes.py`."""

    def __call__(
        self, values: list[Tensor], bitmaps: list[Tensor], offsets: list[int], below: list[int], lookups: list[Tensor]
    ) -> Tensor: ...


class EmbeddingConcat(Protocol):
    """Numbers and looked-up embeddings in one matrix; see `kernels/embedding_concat.py`."""

    def __call__(
        self, dense: Tensor, slots: Tensor, weights: Tensor, sizes: list[int], dims: list[int],
        bag_slots: Tensor | None, bag_offsets: Tensor | None, pooling: str, width: int, dtype: torch.dtype,
    ) -> Tensor: ...  # fmt: skip


class PairInteraction(Protocol):
    """Dot products of all pairs of vectors; see `kernels/pair_interaction.py`."""

    def __call__(self, vectors: Tensor, keep_first: bool, width: int) -> Tensor: ...


class ScoreHead(Protocol):
    """Logits to calibrated scores and what is asked about them; see `kernels/score_head.py`."""

    def __call__(
        self, logits: Tensor, slope: Tensor, intercept: Tensor, activation: str, top: int, confidence: bool,
        edges: Tensor | None, steps: list[int],
    ) -> tuple[Tensor, ...]: ...  # fmt: skip


class PackedAttention(Protocol):
    """Self-attention on a packed stream of tokens; see `kernels/packed_attention.py`."""

    def __call__(
        self, qkv: Tensor, offsets: Tensor, segments: Tensor, scale: float, window: int,
        cos: Tensor | None, sin: Tensor | None, slopes: Tensor | None,
    ) -> Tensor: ...  # fmt: skip


class AddNorm(Protocol):
    """LayerNorm of a sum, and the sum; see `kernels/add_norm.py`."""

    def __call__(
        self, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, epsilon: float, keep_sum: bool
    ) -> tuple[Tensor, Tensor]: ...


class PoolNormalize(Protocol):
    """One vector for each sequence of a packed stream; see `kernels/pool_normalize.py`."""

    def __call__(
        self, x: Tensor, offsets: Tensor, pooling: str, weight: Tensor | None, bias: Tensor | None, epsilon: float,
        unit: bool, dtype: torch.dtype,
    ) -> Tensor: ...  # fmt: skip


class Forest(Protocol):
    """Sums of decision trees over columns; see `kernels/forest.py`."""

    def __call__(
        self, columns: Tensor, nodes: Tensor, roots: Tensor, categories: Tensor, leaves: Tensor, starts: Tensor, base: Tensor,
        features: int, depth: int, perfect: bool, dtype: torch.dtype,
    ) -> Tensor: ...  # fmt: skip


def arrow_ingest() -> ArrowIngest:
    return cast(ArrowIngest, kernel("arrow_ingest").op)


def arrow_codes() -> ArrowCodes:
    return cast(ArrowCodes, kernel("arrow_codes").op)


def embedding_concat() -> EmbeddingConcat:
    return cast(EmbeddingConcat, kernel("embedding_concat").op)


def pair_interaction() -> PairInteraction:
    return cast(PairInteraction, kernel("pair_interaction").op)


def score_head() -> ScoreHead:
    return cast(ScoreHead, kernel("score_head").op)


def packed_attention() -> PackedAttention:
    return cast(PackedAttention, kernel("packed_attention").op)


def add_norm() -> AddNorm:
    return cast(AddNorm, kernel("add_norm").op)


def pool_normalize() -> PoolNormalize:
    return cast(PoolNormalize, kernel("pool_normalize").op)


def forest() -> Forest:
    return cast(Forest, kernel("forest").op)


def segments(offsets: Tensor, tokens: int) -> Tensor:
    """The sequence of each token, int32 (tokens,), from int32 (sequences + 1,), as packed_attention takes it."""
    found: Tensor = kernel("packed_attention").segments_of(offsets, tokens)
    return found


def packed_tables(tables: list[Tensor]) -> Tensor:
    """Tables [size, dim] one after the other, as embedding_concat takes them."""
    packed: Tensor = kernel("embedding_concat").packed(tables)
    return packed


@cache
def kind(dtype: str) -> int:
    """What arrow_ingest calls a column of this type, e.g. "float32"."""
    known: dict[str, int] = import_module("scoring.kernels.frame.arrow").KINDS
    return known[dtype]


def only_reference(why: str) -> None:
    """Compute with torch from now on in this process, whatever the device."""
    import_module("scoring.kernels.frame.operator").force("torch")
    _reasons.append(why)


def why_reference() -> str:
    """What `only_reference` was told first; "" if kernels may be used."""
    return _reasons[0] if _reasons else ""


def computed() -> str:
    """How this process computes operators: "torch" or "triton" if one is forced, else "by device"."""
    forced: str | None = import_module("scoring.kernels.frame.operator").forced()
    return forced or os.environ.get("SCORING_KERNELS") or "by device"


def kernel_failed(error: BaseException | None) -> bool:
    """Whether a kernel could not be compiled or launched: torch can compute the same."""
    return isinstance(error, import_module("scoring.kernels.frame.operator").KernelError)


def trees() -> Any:
    """The module that makes the tensors of the forest kernel: Trees, Ranking, pack."""
    return import_module("scoring.kernels.forest_parts.trees")


def kernels_given_up(error: BaseException | None) -> bool:
    """If this is the first kernel to fail in this process, torch computes from now on. Returns whether to try again."""
    if not kernel_failed(error) or why_reference():
        return False
    only_reference(str(error))
    return True


def kernel_error(message: str) -> Exception:
    """An error of that kind."""
    found: Exception = import_module("scoring.kernels.frame.operator").KernelError(message)
    return found


@cache
def kernel(name: str) -> Any:
    """The module of a kernel."""
    return import_module(f"scoring.kernels.{name}")
