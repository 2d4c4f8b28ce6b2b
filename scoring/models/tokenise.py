"""Arrow columns to token ids, by the `tokenizers` library on the cores of the lane; each different text of a window once.

The library's threads are those of rayon, which reads RAYON_NUM_THREADS when it is first used in a process and never again, and
TOKENIZERS_PARALLELISM at each call. Both are set by the first Tokeniser of a process, which thereby decides for all that follow.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from tokenizers import Encoding, Tokenizer

from scoring.errors import ModelError, told
from scoring.models.bundle import TOKENIZER_MAX_BYTES
from scoring.models.templates import TextInput, distinct
from scoring.models.texts import Texts

PADDED_ROWS = 32  # of the batches that `padding_avoided` is told against
_CHUNK = 1 << 20  # characters handed over at a time: an encoding takes some 100 bytes a token while it lives
UNKNOWN = "\U0010fffd"  # of no script: a tokenizer that cannot say "unknown" fails here and not at a row
_DECIDED: list[int] = []
Integers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class _Sequences:
    """`ids` and `types` int32 (tokens,), `lengths` int64 (sequences,), `counts` of sequences int64 and `cut` bool (texts,)."""

    ids: np.ndarray[Any, np.dtype[np.int32]]
    types: np.ndarray[Any, np.dtype[np.int32]] | None
    lengths: Integers
    counts: Integers
    cut: np.ndarray[Any, np.dtype[np.bool_]]


class Tokeniser:
    """`vocabulary` is one more than the largest id that it can give. May be called in several threads at once."""

    def __init__(self, path: str | Path, given: TextInput, types: bool, threads: int) -> None:
        """`types`: whether the model wants token types (only pairs have any but 0). `threads`: cores of this process.

        Raises: ModelError: not a tokenizer, or one that does not go with `given`.
        """
        _decide(threads)
        self._given, self._pairs = given, len(given.templates) == 2
        self._types = types and self._pairs
        self._tokenizer = _opened(Path(path))
        self._limit(Path(path))
        self.vocabulary = 1 + max(chain(self._tokenizer.get_vocab().values(), self._tried(Path(path))))

    def __call__(self, batch: pa.RecordBatch) -> Texts:
        """Texts of the rows on the host. Raises: ModelError: as `templates.distinct`."""
        found = distinct(batch, self._given)
        began = time.perf_counter()
        sequences = self._encoded(found.texts)
        spent = round(1e6 * (time.perf_counter() - began))
        return _arranged(sequences, found.item, {"tokenise_us": spent})

    def _limit(self, path: Path) -> None:
        """As transformers: pairs lose tokens of the longer text first. Which end is cut is said in the file."""
        given, special = self._given, self._tokenizer.num_special_tokens_to_add(self._pairs)
        if not special:
            raise ModelError(f"{path} adds no special tokens, so that an empty text has no token at all; add a post_processor.")
        stride = given.stride if given.overlong == "windows" else 0
        if given.max_length - special <= stride:
            raise ModelError(
                f"{path} adds {special} special tokens, which beside a stride of {stride} leaves no room in {given.max_length}:"
                " raise max_length."
            )
        direction = (self._tokenizer.truncation or {}).get("direction", "right")
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(given.max_length, stride=stride, strategy="longest_first", direction=direction)

    def _tried(self, path: Path) -> list[int]:
        """Ids of texts that are hard for a tokenizer. Raises: ModelError: too hard."""
        hard = ["", UNKNOWN]
        try:
            return [n for found in self._batch([hard] * len(self._given.templates)) for n in found.ids]
        except BaseException as error:  # a panic of Rust does not derive from Exception
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise ModelError(f"{path} cannot be used: {told(error)}.") from None

    def _encoded(self, texts: Sequence[list[str]]) -> _Sequences:
        ids, types, lengths = [np.empty(0, np.int32)], [np.empty(0, np.int32)], [np.empty(0, np.int64)]
        counts, cut = [np.empty(0, np.int64)], [np.empty(0, np.bool_)]
        for start, end in _chunks(texts):
            found = self._batch([own[start:end] for own in texts])
            sizes = _sizes(found)
            more = [self._beyond(one) for one in found]
            beyond = np.fromiter(map(len, more), np.int64, len(more))
            if self._given.overlong == "windows":
                found = [sequence for one, others in zip(found, more, strict=True) for sequence in (one, *others)]
                sizes = _sizes(found)
                counts.append(1 + beyond)
                cut.append(np.zeros(len(beyond), np.bool_))
            else:
                counts.append(np.ones_like(beyond))
                cut.append(beyond > 0)
            lengths.append(sizes)
            ids.append(_flat((one.ids for one in found), sizes))
            if self._types:
                types.append(_flat((one.type_ids for one in found), sizes))
        of_all = np.concatenate(types) if self._types else None
        return _Sequences(np.concatenate(ids), of_all, np.concatenate(lengths), np.concatenate(counts), np.concatenate(cut))

    def _beyond(self, found: Encoding) -> list[Encoding]:
        """What did not fit. To ask costs a copy, and only a full one can have left something out."""
        return found.overflowing if len(found) == self._given.max_length else []

    def _batch(self, texts: Sequence[list[str]]) -> list[Encoding]:
        """Without places of tokens in the text, which nobody asks for."""
        given: Any = list(zip(*texts, strict=True)) if self._pairs else texts[0]
        return self._tokenizer.encode_batch_fast(given)


def _decide(threads: int) -> None:
    if not _DECIDED:
        _DECIDED.append(threads)
        os.environ["RAYON_NUM_THREADS"] = str(threads)
        os.environ["TOKENIZERS_PARALLELISM"] = "true" if threads > 1 else "false"


def _opened(path: Path) -> Tokenizer:
    try:
        if (size := path.stat().st_size) > TOKENIZER_MAX_BYTES:
            raise ModelError(f"{path} has {size:,} bytes; at most {TOKENIZER_MAX_BYTES:,} are read.")
        return Tokenizer.from_buffer(path.read_bytes())
    except (ModelError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of Rust does not derive from Exception
        raise ModelError(f"{path} cannot be read as a tokenizer: {told(error)}.") from None


def _chunks(texts: Sequence[list[str]]) -> Iterator[tuple[int, int]]:
    """Texts in a row that begin in the same million characters."""
    sizes = sum(np.fromiter(map(len, own), np.int64, len(own)) for own in texts)
    part = (np.cumsum(sizes) - sizes) // _CHUNK
    starts = np.flatnonzero(np.diff(part, prepend=-1)).tolist()
    return pairwise([*starts, len(part)])


def _sizes(found: Sequence[Encoding]) -> Integers:
    return np.fromiter(map(len, found), np.int64, len(found))


def _flat(lists: Iterator[list[int]], sizes: Integers) -> np.ndarray[Any, np.dtype[np.int32]]:
    """Each list is freed before the next is made: a quarter of the time of making an array of each."""
    return np.fromiter(chain.from_iterable(lists), np.int32, int(sizes.sum()))


def _arranged(found: _Sequences, item: Integers, spent: dict[str, int]) -> Texts:
    """Longest item first; among those of one length, the one that came first."""
    first, offsets = _edges(found.counts), _edges(found.lengths)
    starts = offsets[first]
    tokens = np.diff(starts)
    by = np.argsort(-tokens, kind="stable")
    place = np.empty_like(by)
    place[by] = np.arange(len(by))
    moved = _ranges(starts[by], tokens[by])
    lengths = found.lengths[_ranges(first[by], found.counts[by])]
    facts = {
        "texts": len(item),
        "unique_texts": len(by),
        "tokens": len(moved),
        "tokens_saved": int(tokens[item].sum()) - len(moved),
        "truncated": int(found.cut[item].sum()),
        "windows": len(lengths) - len(by),
        "padding_avoided": _padding(found.lengths[_ranges(first[item], found.counts[item])]),
    }
    return Texts(
        torch.from_numpy(found.ids[moved]),
        None if found.types is None else torch.from_numpy(found.types[moved]),
        torch.from_numpy(_edges(lengths).astype(np.int32)),
        torch.from_numpy(_edges(found.counts[by])),
        _edges(tokens[by]),
        place[item],
        facts | spent,
    )


def _edges(sizes: Integers) -> Integers:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])


def _ranges(starts: Integers, sizes: Integers) -> Integers:
    """start, start + 1, … of each range, one behind the other."""
    return np.arange(int(sizes.sum())) + np.repeat(starts - np.cumsum(sizes) + sizes, sizes)


def _padding(lengths: Integers) -> int:
    """What batches of 32 sequences in input order, padded to their longest, would compute beyond the tokens there are."""
    if not len(lengths):
        return 0
    edges = np.arange(0, len(lengths), PADDED_ROWS)
    longest = np.maximum.reduceat(lengths, edges)
    return int((longest * np.diff(edges, append=len(lengths))).sum() - lengths.sum())
