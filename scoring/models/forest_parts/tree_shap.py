"""Exact path-dependent TreeSHAP: how much each feature of a row adds to its margin (Lundberg et al. 2020, Nature Machine
Intelligence 2:56-67, algorithm 2; arXiv:1802.03888).

Where a set S of a row's features is known, a path to a leaf of value v is worth v * prod_j (o_j if j in S else z_j): o_j is 1 if
the row passes the conditions on feature j, else 0; z_j is the share of training rows that pass. The Shapley value of i in this game
is an integral along the diagonal of a cube (Owen 1972, Multilinear extensions of games, Management Science 18:64-79):

    v * (o_i - z_i) * int_0^1 prod_{j != i} (t o_j + (1 - t) z_j) dt

The integrand is a polynomial of degree m - 1 for m features on the path: ceil(m / 2) points of Gauss-Legendre give it exactly. All
its terms have one sign: unlike extending and unwinding weights of subsets, this cancels nothing on long paths, and no z_j of 0
harms. With P(t) = prod_j (t o_j + (1 - t) z_j) the integral and its factor are int -P / (1 - t) dt for every i that the row fails,
and int (1 - z_i) P / (t + (1 - t) z_i) dt for one that it passes.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from scoring.models.forest_parts.compiled import jit
from scoring.models.forest_parts.cover import Cover
from scoring.models.forest_parts.paths import Bytes, Codes, Flags, Floats, Integers, paths_of

ROWS = 256  # at a time: what is kept of them for one path fits in a level 1 cache
MISSING = int(np.iinfo(np.int32).min)


class Explainer:
    """Contributions to the margins of a forest.

    `expected` float64 [margins]: the base and what the leaves of all trees are worth if nothing is known of a row. Where a node was
    reached by no training row (cover 0), both its children are taken to be as likely.
    """

    expected: Floats

    def __init__(self, trees: Any, cover: Cover, ranking: Any, features: int):
        """`trees`: Trees; `ranking`: the Ranking that makes the ranks; `features`: columns of ranks and of contributions.

        Raises: ValueError: covers or trees that cannot be.
        """
        paths = paths_of(trees, cover, ranking.thresholds(trees).numpy())
        self._features, self._known = features, paths.known
        self._used, column = np.unique(paths.feature, return_inverse=True)
        self._elements: tuple[Any, ...] = (paths.starts, column, paths.zero)
        self._conditions: tuple[Any, ...] = (paths.low, paths.high, paths.missing, paths.place, paths.bits)
        self._rules: tuple[Any, ...] = _rules(np.diff(paths.starts))
        leaves, base = trees.leaves.double().numpy()[paths.leaf], trees.base.double().numpy()
        every = np.arange(paths.leaf.size)
        self._of_margin: list[tuple[Integers, Floats]]  # by margin: its paths, the values of their leaves
        if leaves.shape[1] > 1 or base.size == 1:
            self._of_margin = [(every, np.ascontiguousarray(values)) for values in leaves.T]
        else:
            output = trees.output.numpy()[paths.tree]
            self._of_margin = [(every[output == margin], leaves[output == margin, 0]) for margin in range(base.size)]
        reached = np.ones(every.size)
        np.multiply.at(reached, np.repeat(every, np.diff(paths.starts)), paths.zero)
        self.expected = base + [float((values * reached[chosen]).sum()) for chosen, values in self._of_margin]

    def contributions(self, ranks: npt.NDArray[Any], margin: npt.NDArray[Any] | None) -> Floats:
        """float64 [N, features], to the margin of each row (`margin` int [N]; None: to the only one); with its `expected` they sum
        to it. `ranks` int16 or int32 [features, N], as Ranking makes them.

        The bits of a row depend on that row alone, not on rows beside it or on torch.get_num_threads(), the number of threads.

        Raises: ValueError: arguments that do not fit.
        """
        rows = ranks.shape[-1]
        if ranks.shape != (self._features, rows) or ranks.dtype not in (np.int16, np.int32):
            raise ValueError(f"forest: ranks must be int16 or int32 [{self._features}, N], found {ranks.dtype} {ranks.shape}")
        of_row = np.zeros(rows, np.int64) if margin is None else np.asarray(margin)
        if (margin is None and self.expected.size > 1) or of_row.shape != (rows,):
            raise ValueError(f"forest: one of {self.expected.size} margins is needed for each of {rows} rows")
        if rows and not 0 <= of_row.min() <= of_row.max() < self.expected.size:
            raise ValueError(f"forest: margins must be 0 to {self.expected.size - 1}, found {of_row.min()} to {of_row.max()}")
        found = np.zeros((rows, self._features))

        def explain(block: tuple[int, Integers]) -> None:
            wanted, chosen = block
            found[chosen[:, None], self._used] = self._explained(ranks, chosen, wanted).T

        blocks = [
            (wanted, same[at : at + ROWS])
            for wanted in np.unique(of_row).tolist()
            for same in [np.flatnonzero(of_row == wanted)]
            for at in range(0, same.size, ROWS)
        ]
        with ThreadPoolExecutor(torch.get_num_threads()) as threads:
            for _ in threads.map(explain, blocks):
                pass
        return found

    def _explained(self, ranks: npt.NDArray[Any], rows: Integers, margin: int) -> Floats:
        """[used features, rows]"""
        codes = np.empty((self._used.size, rows.size), np.int32)
        for column, feature in zip(codes, self._used.tolist(), strict=True):
            given = ranks[feature, rows]
            missing = given == np.iinfo(ranks.dtype).min
            known = self._known.get(feature)
            if known is None:
                column[:] = given
                column[missing] = MISSING
            else:
                place = np.searchsorted(known, given)
                column[:] = np.where(np.append(known, -1)[place] == given, place, known.size)
                column[missing] = known.size + 1
        found = np.zeros(codes.shape)
        _add(found, codes, *self._of_margin[margin], *self._elements, *self._conditions, *self._rules)
        return found


def _rules(lengths: Integers) -> tuple[Integers, Floats, Floats]:
    """Where the rule of so many points begins; points in (0, 1); weights. Rules are made for paths that there are."""
    starts, points, weights, size = np.zeros(lengths.max(initial=0) // 2 + 2, np.int64), [np.zeros(0)], [np.zeros(0)], 0
    for count in np.unique((lengths + 1) // 2).tolist():
        if count:
            at, weight = np.polynomial.legendre.leggauss(count)
            points.append((at + 1) / 2)
            weights.append(weight / 2)
            starts[count], size = size, size + count
    return starts, np.concatenate(points), np.concatenate(weights)


@jit
def _passes(holds: Bytes, codes: Codes, low: int, high: int, missing: bool, place: int, bits: Bytes) -> None:
    """Fills `holds` [rows] with 1 where the code meets the conditions of an element, else 0."""
    if place < 0:
        for row in range(holds.size):
            code = codes[row]
            holds[row] = ((code > low) & (code <= high)) | ((code == MISSING) & missing)
    else:
        for row in range(holds.size):
            slot = codes[row]
            holds[row] = (bits[place + (slot >> 3)] >> (slot & 7)) & 1


@jit
def _add(
    found: Floats, codes: Codes, chosen: Integers, values: Floats, starts: Integers, column: Integers, zero: Floats,
    low: Codes, high: Codes, missing: Flags, place: Integers, bits: Bytes,
    rules: Integers, points: Floats, weights: Floats,
) -> None:  # fmt: skip
    """Adds to `found` [used features, rows] what the `chosen` paths with leaves of `values` contribute.

    Loops over rows are innermost: each row is computed by the same operations in the same order, in whatever lane of a vector.
    """
    rows, longest = codes.shape[1], np.max(np.diff(starts)) if starts.size > 1 else 0
    holds = np.empty((longest, rows), np.uint8)
    product = np.empty((longest // 2 + 1, rows))
    fails, share = np.empty(rows), np.empty(rows)
    for number in range(chosen.size):
        begin, size = starts[chosen[number]], starts[chosen[number] + 1] - starts[chosen[number]]
        count = (size + 1) // 2
        rule = rules[count]
        for element in range(size):
            at = begin + element
            _passes(holds[element], codes[column[at]], low[at], high[at], missing[at], place[at], bits)
        fails[:] = 0.0
        for point in range(count):
            t, weight, held = points[rule + point], weights[rule + point], product[point]
            held[:] = values[number] * weight
            for element in range(size):
                less, passed = (1 - t) * zero[begin + element], holds[element]
                more = t + less
                for row in range(rows):
                    held[row] *= more if passed[row] else less
            factor = -1 / (1 - t)
            for row in range(rows):
                fails[row] += factor * held[row]
        for element in range(size):
            share[:] = 0.0
            z, passed, sums = zero[begin + element], holds[element], found[column[begin + element]]
            for point in range(count):
                t, held = points[rule + point], product[point]
                factor = (1 - z) / (t + (1 - t) * z)
                for row in range(rows):
                    share[row] += factor * held[row]
            for row in range(rows):
                sums[row] += share[row] if passed[row] else fails[row]
