"""Rows down deep trees on a CPU: many rows of a block at one level of one tree, so that their loads wait together.

Takes what the operator `forest` takes (nodes of four words, see `kernels/forest.py`) and gives its sums to the bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scoring.models.forest_parts.compiled import jit
from scoring.models.forest_parts.threads import spread

_BLOCK = 64  # rows that go down a tree together


class Walk:
    """`packed`: ragged nodes over ranks, from `pack`."""

    def __init__(self, packed: Any) -> None:
        self._nodes, self._roots = packed.nodes.numpy(), packed.roots.numpy()
        self._leaves, self._sets = packed.leaves.double().numpy(), packed.categories.numpy()
        self._starts, self._base = packed.starts.numpy(), packed.base.numpy()
        self._depth = packed.depth

    def margins(self, ranks: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """int16 or int32 (features, rows) to float64 (margins, rows)."""
        sums = np.repeat(self._base[:, None], ranks.shape[1], 1)
        least = np.iinfo(ranks.dtype).min

        def work(start: int, stop: int) -> None:
            _walk(
                ranks, self._nodes, self._roots, self._leaves, self._sets, self._starts, self._depth, least, sums, start, stop
            )  # fmt: skip

        spread(work, ranks.shape[1], _BLOCK)
        return sums


@jit
def _walk(ranks, nodes, roots, leaves, sets, starts, depth, least, sums, begin, end):  # type: ignore[no-untyped-def]
    at = np.zeros(_BLOCK, np.int32)
    width = leaves.shape[1]
    for start in range(begin, end, _BLOCK):
        size = min(_BLOCK, end - start)
        for group in range(len(starts) - 1):
            for tree in range(starts[group], starts[group + 1]):
                at[:size] = roots[tree]
                if len(sets):
                    _down_sets(ranks, nodes, sets, depth, least, at, start, size)
                else:
                    _down(ranks, nodes, depth, least, at, start, size)
                for k in range(width):
                    into = sums[group * width + k]
                    for r in range(size):
                        into[start + r] += leaves[~at[r], k]


@jit
def _down(ranks, nodes, depth, least, at, start, size):  # type: ignore[no-untyped-def]
    """Nodes `at` become negative: ~leaf. Without a branch: counted from the least integer, what is missing is below every threshold
    of 32 bits without sign; counted from the next one, it is above.
    """
    for _ in range(depth):
        live = np.int32(-1)
        for r in range(size):
            node = at[r]
            own = max(node, np.int32(0))
            low, high = nodes[own, 0], nodes[own, 1]
            origin = least + 1 - (high & 1)
            right = np.uint32(ranks[high >> 2, start + r] - origin) > np.uint32(low - origin)
            down = nodes[own, 3] if right else nodes[own, 2]
            at[r] = node if node < 0 else down
            live &= at[r]
        if live < 0:
            break


@jit
def _down_sets(ranks, nodes, sets, depth, least, at, start, size):  # type: ignore[no-untyped-def]
    """The same where some nodes are categorical."""
    for _ in range(depth):
        live = False
        for r in range(size):
            node = at[r]
            if node < 0:
                continue
            low, high = nodes[node, 0], nodes[node, 1]
            x = np.int32(ranks[high >> 2, start + r])
            if x == least:
                left = high & 1 != 0
            elif high & 2:
                left = x >= 0 and x >> 5 < sets[low] and (sets[low + 1 + (x >> 5)] >> (x & 31)) & 1 != 0
            else:
                left = x <= low
            at[r] = nodes[node, 2] if left else nodes[node, 3]
            live = live or at[r] >= 0
        if not live:
            break
