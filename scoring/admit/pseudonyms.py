"""Pseudonyms: key id, ":", and 26 base32 characters (130 bits) of HMAC-SHA256 (RFC 2104) of the value as text.

Each (purpose, column) has a key of its own, derived by HMAC from the one in the environment, so that outputs of different purposes
cannot be joined. The same value gives the same pseudonym in any window, lane, file or type that writes it alike (7, "7", 7.0).
Costs some 2 core-seconds per million distinct values (hashlib's two SHA-256 take half of it), so answers are remembered: rows whose
values were seen before cost about 0.1 core-seconds per million, those of a small dictionary next to nothing.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scoring.admit.coerce import Array
from scoring.admit.keys import KeyRing
from scoring.types import canonical

LENGTH = 26
REMEMBERED = 1 << 17  # values of a column whose answers are kept
_BLOCK_BYTES = 64  # of SHA-256
_LARGEST = 2.0**53
_ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", np.uint8)
_BYTES = 5 * np.arange(LENGTH) // 8  # where each 5 bits begin, and how far they lie from the end of that byte and the next
_SHIFTS = (11 - 5 * np.arange(LENGTH) % 8).astype(np.uint16)


class Mac:
    """HMAC-SHA256 with one key over many values; the padded key is hashed once."""

    def __init__(self, key: bytes) -> None:
        block = (hashlib.sha256(key).digest() if len(key) > _BLOCK_BYTES else key).ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(bytes(b ^ 0x36 for b in block))
        self._outer = hashlib.sha256(bytes(b ^ 0x5C for b in block))

    def digests(self, values: list[bytes]) -> list[bytes]:
        inner, outer, found = self._inner.copy, self._outer.copy, []
        for value in values:
            one, two = inner(), outer()
            one.update(value)
            two.update(one.digest())
            found.append(two.digest())
        return found


class Pseudonyms:
    """Of one key, purpose and column."""

    def __init__(self, ring: KeyRing, key_id: str, purpose: str, column: str) -> None:
        domain = canonical(["scoring.pseudonym.v1", purpose, column])
        self._mac = Mac(Mac(ring.key(key_id)).digests([domain])[0])
        self._prefix = f"{key_id}:".encode()

    def __call__(self, values: Array) -> Array:
        """string (n,), null where the value is null."""
        found = self.of(texts(values.drop_null() if values.null_count else values))
        if not values.null_count:
            return found
        places = np.cumsum(np.asarray(values.is_valid().to_numpy(zero_copy_only=False))) - 1
        return found.take(pa.array(places, pa.int64(), mask=np.asarray(values.is_null())))

    def of(self, values: list[bytes]) -> Array:
        """string (n,) of texts."""
        width = len(self._prefix) + LENGTH
        shown = np.empty((len(values), width), np.uint8)
        shown[:, : len(self._prefix)] = np.frombuffer(self._prefix, np.uint8)
        raw = np.frombuffer(b"".join(self._mac.digests(values)), np.uint8).reshape(-1, hashlib.sha256().digest_size)
        pairs = (raw[:, :-1].astype(np.uint16) << 8) | raw[:, 1:]
        shown[:, len(self._prefix) :] = _ALPHABET[(pairs[:, _BYTES] >> _SHIFTS) & 31]
        ends = np.arange(len(values) + 1, dtype=np.int32) * width
        return pa.StringArray.from_buffers(len(values), pa.py_buffer(cast(Any, ends)), pa.py_buffer(cast(Any, shown)))


def texts(values: Array) -> list[bytes]:
    """Values without nulls as UTF-8 texts; whole floats as integers, so that a column read as float names the same people."""
    kind = values.type
    if isinstance(values, pa.DictionaryArray):
        return texts(values.dictionary_decode())
    if pa.types.is_floating(kind):
        return [_number(cast(float, v)) for v in values.to_pylist()]
    if kind not in (pa.string(), pa.large_string(), pa.binary(), pa.large_binary()):
        values = values.cast(pa.string())
    return cast("list[bytes]", values.cast(pa.large_binary()).to_pylist())


def _number(value: float) -> bytes:
    return str(int(value) if value.is_integer() and abs(value) <= _LARGEST else value).encode()


class Memo:
    """A function of values, asked once per distinct value; at most `most` answers are kept, or those of the last call."""

    def __init__(self, answer: Callable[[Array], Array], most: int = REMEMBERED) -> None:
        self._answer, self._most = answer, most
        self._known: Array | None = None
        self._answers: Array | None = None
        self._last: tuple[Array, Array] | None = None
        self._lock = threading.Lock()

    def __call__(self, values: Array) -> Array:
        """Answers in the order of `values`, null for null."""
        if isinstance(values, pa.DictionaryArray):
            return self._distinct(values.dictionary).take(values.indices)
        with self._lock:
            places = self._places(values)
            return cast(Array, cast(Any, self._answers).take(places))

    def _distinct(self, dictionary: Array) -> Array:
        """Windows of one row group come with one dictionary."""
        last = self._last
        if last is None or not last[0].equals(dictionary):
            last = self._last = (dictionary, self(dictionary))
        return last[1]

    def _places(self, values: Array) -> Array:
        if self._known is None or self._known.type != values.type:
            self._known, self._answers = values[:0], self._answer(values[:0])
        places: Array = pc.index_in(values, self._known)
        if places.null_count == values.null_count:
            return places
        absent = pc.and_(places.is_null(), values.is_valid())
        fresh = cast(Any, values).filter(absent).dictionary_encode()
        assert self._answers is not None
        if len(self._known) + len(fresh.dictionary) > self._most:
            used = places.unique().drop_null()
            places = pc.index_in(places, used)
            self._known, self._answers = self._known.take(used), self._answers.take(used)
        theirs = pc.add(fresh.indices, pa.scalar(len(self._known), pa.int32()))
        self._known = pa.concat_arrays([self._known, fresh.dictionary])
        self._answers = pa.concat_arrays([self._answers, self._answer(fresh.dictionary)])
        return cast(Array, pc.replace_with_mask(cast(Any, places), absent, theirs))
