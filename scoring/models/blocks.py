"""Why a row's score does not depend on its neighbours: on the CPU every model computes blocks of one fixed size.

A matrix product chooses its kernel by shape: MKL takes another one for a last strip of 1-3 rows, for products with one column, and
for odd shares of a thread, and these differ in the last bit (measured: 128 -> 64, 5 rows on 2 threads against 4,096 rows). So rows
are copied into aligned scratch of BLOCK_ROWS rows, the last block is padded, and only that one shape is ever computed. Within it
every row position gives the same bits, whatever the batch (law 7, bit for bit; tests/models/test_same_answer.py).
The price is one whole block, under a millisecond for a small model, for a batch of one row. A block also keeps activations of a
few hundred values per row inside a 1-2 MB cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

BLOCK_ROWS = 2048  # a multiple of every vector and tile width; 1,024 to 4,096 are equally fast for 48-128-64-1


def in_blocks(
    compute: Callable[[Sequence[torch.Tensor]], torch.Tensor],
    inputs: Sequence[tuple[torch.Tensor, int]],
    rows: int,
    outputs: int,
    block_rows: int = BLOCK_ROWS,
) -> torch.Tensor:
    """Compute float32 (rows, outputs) block by block.

    `inputs` are CPU tensors with the dimension along which rows lie; `compute` gets tensors of the same layout with exactly
    `block_rows` rows, valid until it returns, and gives (block_rows, outputs). The last block is padded with its last row, so
    that a model never sees values that no row has.
    """
    scores = torch.empty((rows, outputs), dtype=torch.float32)
    scratch = [_like(tensor, dim, block_rows) for tensor, dim in inputs]
    for start in range(0, rows, block_rows):
        count = min(block_rows, rows - start)
        for (tensor, dim), block in zip(inputs, scratch, strict=True):
            block.narrow(dim, 0, count).copy_(tensor.narrow(dim, start, count))
            if count < block_rows:
                block.narrow(dim, count, block_rows - count).copy_(
                    tensor.narrow(dim, start + count - 1, 1).expand_as(block.narrow(dim, count, block_rows - count))
                )
        scores[start : start + count] = compute(scratch)[:count]
    return scores


def _like(tensor: torch.Tensor, dim: int, rows: int) -> torch.Tensor:
    shape = list(tensor.shape)
    shape[dim] = rows
    return torch.empty(shape, dtype=tensor.dtype)
