"""Rows through small trees on a CPU, without a branch: every node of a tree is asked, and strikes out the leaves that it excludes.

The leaves of a tree, from left to right, are bits; a node whose answer is "right" clears those below its left side, and the first
bit left is the leaf (QuickScorer, Lucchese et al. 2015, SIGIR; rows side by side in vectors: RapidScorer, Ye et al. 2018, KDD).
A node costs one comparison and one `and` of 16 bits for 16 or 32 rows at once, which beats walking while trees have few leaves.

Every feature has two rows of a block: in one what is missing is above all thresholds and goes right, in the other below and goes
left.
A categorical node looks its code up in a table of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from scoring.models.forest_parts.compiled import jit
from scoring.models.forest_parts.threads import spread

WORD = 16  # leaves in a word
_BLOCK = 512  # rows side by side
_MOST_TABLES = 64 << 20  # bytes of all categorical nodes
_STEP = 32  # nodes asked in the time of one step of a walk: measured as 75 with AVX-512, and AVX2 has half of its width
_ALL = np.uint16(0xFFFF)


def pays(trees: Any, ranking: Any, depth: int) -> bool:
    """Whether asking all nodes is faster than walking, and can be done."""
    nodes, count = trees.feature.numel(), max(trees.roots.numel(), 1)
    codes = [max(held, default=0) + 3 for held in trees.sets.values()]
    cuts = max((len(cut) for cut in ranking.cuts if cut is not None), default=0)
    fits = max([cuts, *codes]) < int(_ALL) and sum(codes) <= _MOST_TABLES and nodes // count < int(_ALL)
    return fits and nodes < _STEP * count * max(depth, 1)


class Bits:
    """Each node of `trees` has one parent. Ranks are those of `ranking`."""

    def __init__(self, trees: Any, ranking: Any) -> None:
        feature = trees.feature.numpy().astype(np.int64)
        self._codes = np.zeros(len(ranking.cuts), np.int64)  # of categorical features; what is beyond is unseen
        for node, held in trees.sets.items():  # one code at least: none is what numeric features have
            self._codes[feature[node]] = max(self._codes[feature[node]], max(held, default=0) + 1)
        self._tables, at = _tables(trees, self._codes[feature])
        upper = trees.default_left.numpy().astype(bool) & (at < 0)
        output = np.zeros(len(trees.roots), np.int64) if trees.output is None else trees.output.numpy()
        self._groups = np.sort(output, kind="stable")
        roots = trees.roots.numpy().astype(np.int64)[np.argsort(output, kind="stable")]
        left, right = (part.numpy().astype(np.int64) for part in (trees.left, trees.right))
        begin, middle, order, first = _ranges(roots, left, right)
        thresholds = ranking.thresholds(trees).numpy()
        self._asked: tuple[Any, ...] = _words(
            roots, left, right, begin, middle, first, feature + len(ranking.cuts) * upper, thresholds, at
        )
        self._leaves = trees.leaves.double().numpy()[order]
        self._first, self._base = first, trees.base.double().numpy()

    def margins(self, ranks: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
        """int16 or int32 (features, rows) to float64 (margins, rows)."""
        sums = np.repeat(self._base[:, None], ranks.shape[1], 1)
        trees = (self._first, self._groups, self._leaves)

        given: tuple[Any, ...] = (ranks, self._codes, np.iinfo(ranks.dtype).min, *self._asked, self._tables, *trees, sums)
        spread(lambda start, stop: _run(*(*given, start, stop)), ranks.shape[1], _BLOCK)
        return sums


def _tables(trees: Any, codes: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """uint8, 1 where a code goes left: `codes` of the node, unseen, missing; and where each begins, -1 for numeric nodes."""
    at = np.full(len(codes), -1, np.int64)
    parts, end = [np.empty(0, np.uint8)], 0
    for node, held in trees.sets.items():
        part = np.zeros(codes[node] + 2, np.uint8)
        part[np.array(list(held), np.int64)] = 1
        part[-1] = bool(trees.default_left[node])
        at[node], end = end, end + len(part)
        parts.append(part)
    return np.concatenate(parts), at


@jit
def _ranges(roots, left, right):  # type: ignore[no-untyped-def]
    """Where the leaves below each node begin, and those of its right side; all leaves from left to right, in whole words."""
    begin, middle = np.zeros(len(left), np.int64), np.zeros(len(left), np.int64)
    order = np.zeros(len(left) + len(roots) * WORD, np.int64)
    first = np.zeros(len(roots) + 1, np.int64)
    stack = np.empty(len(left) + 1, np.int64)
    for tree in range(len(roots)):
        end, top = first[tree], 1
        stack[0] = 2 * roots[tree] if roots[tree] >= 0 else -2 * ~roots[tree] - 1
        while top:
            top -= 1
            word = stack[top]
            if word < 0:  # a leaf
                order[end] = (-word - 1) // 2
                end += 1
                continue
            node = word >> 1
            down = left[node]
            if word & 1:
                middle[node], down = end - first[tree], right[node]
            else:
                begin[node] = end - first[tree]
                stack[top] = word | 1
                top += 1
            stack[top] = 2 * down if down >= 0 else -2 * ~down - 1
            top += 1
        first[tree + 1] = (end + WORD - 1) // WORD * WORD
    return begin, middle, order[: first[-1]], first // WORD


@jit
def _words(roots, left, right, begin, middle, first, places, thresholds, tables):  # type: ignore[no-untyped-def]
    """Of each word: its numeric questions, then the categorical ones. `bounds` int64 (words, 3): begin of both, and the end."""
    bounds = np.zeros((first[-1] + 1, 3), np.int64)
    stack = np.empty(len(left) + 1, np.int64)
    place, threshold, mask, table = (
        np.empty(0, np.int64), np.empty(0, np.uint16), np.empty(0, np.uint16), np.empty(0, np.int64),
    )  # fmt: skip
    for filling in range(2):
        filled = np.zeros((first[-1] + 1, 2), np.int64)
        for tree in range(len(roots)):
            top = 1 if roots[tree] >= 0 else 0
            stack[0] = roots[tree]
            while top:
                top -= 1
                node = stack[top]
                for word in range(begin[node] // WORD, (middle[node] - 1) // WORD + 1):
                    at, kind = first[tree] + word, 1 if tables[node] >= 0 else 0
                    if filling:
                        one = bounds[at, kind] + filled[at, kind]
                        low, high = max(begin[node] - word * WORD, 0), min(middle[node] - word * WORD, WORD)
                        place[one], threshold[one], table[one] = places[node], thresholds[node] * (1 - kind), tables[node]
                        mask[one] = ~(((1 << (high - low)) - 1) << low) & 0xFFFF
                    filled[at, kind] += 1
                for down in (left[node], right[node]):
                    if down >= 0:
                        stack[top] = down
                        top += 1
        if not filling:
            end = 0
            for at in range(first[-1]):
                bounds[at, 0], bounds[at, 1] = end, end + filled[at, 0]  # one by one: a row at once takes seconds to compile
                end += filled[at, 0] + filled[at, 1]
                bounds[at, 2] = end
            place, threshold, mask, table = (
                np.empty(end, np.int64), np.empty(end, np.uint16), np.empty(end, np.uint16), np.empty(end, np.int64),
            )  # fmt: skip
    return bounds, place, threshold, mask, table


@jit
def _load(ranks, codes, least, block, start, size):  # type: ignore[no-untyped-def]
    """Both rows of each feature; a code is itself, then unseen, then missing."""
    features = len(codes)
    for f in range(features):
        for r in range(size):
            x = ranks[f, start + r]
            if codes[f]:
                code = x if 0 <= x < codes[f] else codes[f]
                block[f, r] = codes[f] + 1 if x == least else code
            else:
                block[f, r] = _ALL if x == least else np.uint16(x)
                block[features + f, r] = np.uint16(0) if x == least else np.uint16(x)


@jit
def _run(  # type: ignore[no-untyped-def]
    ranks, codes, least, bounds, place, threshold, mask, table, tables, first, groups, leaves, sums, begin, end,
):  # fmt: skip
    block = np.zeros((2 * len(codes), _BLOCK), np.uint16)
    left, chosen, word = np.zeros(_BLOCK, np.uint16), np.zeros(_BLOCK, np.uint16), np.zeros(_BLOCK, np.uint16)
    width = leaves.shape[1]
    for start in range(begin, end, _BLOCK):
        size = min(_BLOCK, end - start)
        _load(ranks, codes, least, block, start, size)
        for tree in range(len(groups)):
            for at in range(first[tree + 1] - 1, first[tree] - 1, -1):
                left[:] = _ALL
                _ask(block, place, threshold, mask, left, bounds[at, 0], bounds[at, 1])
                for one in range(bounds[at, 1], bounds[at, 2]):
                    code, struck, of = block[place[one]], mask[one], tables[table[one] :]
                    for r in range(_BLOCK):
                        left[r] &= _ALL if of[code[r]] else struck
                offset = np.uint16((at - first[tree]) * WORD)
                for r in range(_BLOCK):
                    some = left[r] != 0
                    chosen[r] = left[r] if some else chosen[r]
                    word[r] = offset if some else word[r]
            _lowest(chosen, word)
            own = leaves[first[tree] * WORD :]
            for k in range(width):
                into = sums[groups[tree] * width + k]
                for r in range(size):
                    into[start + r] += own[word[r], k]


@jit
def _ask(block, place, threshold, mask, left, begin, end):  # type: ignore[no-untyped-def]
    """Two questions at a time: half of the loads and stores of what is left."""
    one = begin
    while one + 1 < end:
        x, y = block[place[one]], block[place[one + 1]]
        a, b, c, d = threshold[one], threshold[one + 1], mask[one], mask[one + 1]
        for r in range(_BLOCK):
            left[r] = left[r] & (c if x[r] > a else _ALL) & (d if y[r] > b else _ALL)
        one += 2
    if one < end:
        x, a, c = block[place[one]], threshold[one], mask[one]
        for r in range(_BLOCK):
            left[r] &= c if x[r] > a else _ALL


@jit
def _lowest(chosen, word):  # type: ignore[no-untyped-def]
    """Add the place of the lowest bit."""
    for r in range(_BLOCK):
        bit = chosen[r] & np.uint16(-np.int64(chosen[r]))
        place = np.uint16(1) if bit & np.uint16(0xAAAA) else np.uint16(0)
        place |= np.uint16(2) if bit & np.uint16(0xCCCC) else np.uint16(0)
        place |= np.uint16(4) if bit & np.uint16(0xF0F0) else np.uint16(0)
        place |= np.uint16(8) if bit & np.uint16(0xFF00) else np.uint16(0)
        word[r] += place
