"""Why a row's score does not depend on its neighbours: on the CPU every model computes blocks of one fixed size.

A matrix product chooses its kernel by shape, and kernels differ in the last bit. Measured with MKL 2024.2: another one for a last
strip of 1-3 rows (and for a thread's share of them), for 2-11 columns one that gives rows different bits by their position, for
one column one that depends on the stride, and beyond two threads one that splits odd widths. With 2,048 rows and a width that is a
multiple of 16 no bit ever differed: any position, stride, inner size of 1 to 1,000, operand transposed or not, 1 to 16 threads. So
rows are copied into scratch of BLOCK_ROWS rows, the last block and other widths are padded (`widen`), and only such shapes are ever
computed: a row gives the same bits in every batch (law 7; tests/models/test_same_answer.py).
What follows a product, elementwise, takes whole blocks as well, because the end of a vector may give other bits than within; but a
call of an operator costs some 40 us, so that it takes many blocks at once.
The price is one whole block, under a millisecond for a small model, for a batch of one row. A block also keeps activations of a
few hundred values per row inside a 1-2 MB cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn

_SERIAL_ELEMENTS = (1 << 15) - 1  # torch computes elementwise what is smaller in one piece, whatever the threads (GRAIN_SIZE)
BLOCK_ROWS = 2048  # a multiple of every vector and tile width; 1,024 to 4,096 are equally fast for 48-128-64-1


def in_blocks(
    compute: Callable[[Sequence[torch.Tensor]], torch.Tensor],
    inputs: Sequence[tuple[torch.Tensor, int]],
    rows: int,
    outputs: int,
    block_rows: int = BLOCK_ROWS,
    copy: bool = True,
    finish: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> torch.Tensor:
    """Compute float32 (rows, outputs) block by block; then `finish`, an elementwise or row-wise function, on many blocks at once.

    `inputs` are CPU tensors with the dimension along which rows lie; `compute` gets tensors of the same layout with exactly
    `block_rows` rows, valid until it returns, and gives (block_rows, outputs). The last block is padded with its last row, so
    that a model never sees values that no row has. With `copy` blocks are the model's own, and contiguous; without, whole ones are
    views of the inputs, for what neither writes to them nor minds strides.
    """
    whole = rows - rows % block_rows
    scores = torch.empty((whole + block_rows if whole < rows else whole, outputs), dtype=torch.float32)
    scratch = [_like(tensor, dim, block_rows) for tensor, dim in inputs] if copy or whole < rows else []
    for start in range(0, whole, block_rows):
        blocks = [tensor.narrow(dim, start, block_rows) for tensor, dim in inputs]
        if copy:
            blocks = [place.copy_(block) for place, block in zip(scratch, blocks, strict=True)]
        scores[start : start + block_rows] = compute(blocks)
    if whole < rows:
        for (tensor, dim), block in zip(inputs, scratch, strict=True):
            rest, more = rows - whole, block_rows - rows + whole
            block.narrow(dim, 0, rest).copy_(tensor.narrow(dim, whole, rest))
            padded = block.narrow(dim, rest, more)
            padded.copy_(tensor.narrow(dim, rows - 1, 1).expand_as(padded))
        scores[whole:] = compute(scratch)
    if finish is not None:
        step = max(1, _SERIAL_ELEMENTS // (block_rows * outputs)) * block_rows
        for start in range(0, len(scores), step):
            scores[start : start + step] = finish(scores[start : start + step])
    return scores[:rows]


def _like(tensor: torch.Tensor, dim: int, rows: int) -> torch.Tensor:
    shape = list(tensor.shape)
    shape[dim] = rows
    return torch.empty(shape, dtype=tensor.dtype)


def padding(width: int, inner: int) -> int:
    """Columns to add to a product of `width` columns with sums over `inner` terms. One column is safe when its rows are aligned."""
    return 0 if width == 1 and inner % 16 == 0 else -width % 16


def widen(net: nn.Module) -> None:
    """Make every plain nn.Linear of a trained module compute a padded width and return its own. Weights stay as they are."""
    for layer in net.modules():
        if type(layer) is nn.Linear and padding(layer.out_features, layer.in_features):
            layer.forward = _Wide(layer)  # type: ignore[method-assign]


class _Wide:
    def __init__(self, layer: nn.Linear) -> None:
        more = padding(layer.out_features, layer.in_features)
        self._width = layer.out_features
        self._weight = F.pad(layer.weight.detach(), (0, 0, 0, more))
        self._bias = None if layer.bias is None else F.pad(layer.bias.detach(), (0, more))

    def __call__(self, input: torch.Tensor) -> torch.Tensor:
        return F.linear(input, self._weight, self._bias)[..., : self._width].contiguous()
