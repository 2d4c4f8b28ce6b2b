"""UBJSON as XGBoost writes it, into plain values; the file is foreign: lengths and depth are held to what is there."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

_DEEPEST = 64
_NUMBERS = {b"i": ">i1", b"U": ">u1", b"I": ">i2", b"l": ">i4", b"L": ">i8", b"d": ">f4", b"D": ">f8"}
_LENGTHS = b"iUIlL"
_WORDS = {b"T": True, b"F": False, b"Z": None}


def read_ubjson(data: bytes) -> Any:
    """Raises: ValueError: no UBJSON, or not all of it."""
    reader = _Reader(data)
    try:
        value = reader.value(reader.take(1), 0)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None
    if data[reader.at :].strip(b"N\0\n"):
        raise ValueError(f"{len(data) - reader.at:,} bytes behind its end")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        if count < 0 or self.at + count > len(self.data):
            raise ValueError(f"it ends within a value, at byte {self.at:,}")
        self.at += count
        return self.data[self.at - count : self.at]

    def value(self, marker: bytes, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError(f"nested deeper than {_DEEPEST}")
        if marker == b"{":
            return self._object(depth)
        if marker == b"[":
            return self._array(depth)
        if marker in _WORDS:
            return _WORDS[marker]
        if marker == b"S":
            return self._text()
        if marker in _NUMBERS:
            return self._numbers(marker, 1)[0]
        raise ValueError(f"byte {self.at - 1:,} is no type")

    def _numbers(self, marker: bytes, count: int) -> list[Any]:
        kind = np.dtype(_NUMBERS[marker])
        found: list[Any] = np.frombuffer(self.take(count * kind.itemsize), kind).tolist()
        return found

    def _length(self) -> int:
        marker = self.take(1)
        if marker not in (bytes([one]) for one in _LENGTHS):
            raise ValueError(f"byte {self.at - 1:,} is no length")
        return int(self._numbers(marker, 1)[0])

    def _text(self) -> str:
        return self.take(self._length()).decode()

    def _head(self) -> tuple[bytes | None, int | None]:
        """The type and the count that may stand in front of all values."""
        kind = count = None
        if self.data[self.at : self.at + 1] == b"$":
            self.take(1)
            kind = self.take(1)
        if self.data[self.at : self.at + 1] == b"#":
            self.take(1)
            count = self._length()
        if (kind is not None and count is None) or (count is not None and not 0 <= count <= len(self.data)):
            raise ValueError(f"byte {self.at:,}: a count that cannot be")
        return kind, count

    def _array(self, depth: int) -> list[Any]:
        kind, count = self._head()
        if kind is not None and kind in _NUMBERS and count is not None:
            return self._numbers(kind, count)
        found: list[Any] = []
        while count is None or len(found) < count:
            marker = kind or self.take(1)
            if count is None and marker == b"]":
                break
            found.append(self.value(marker, depth + 1))
        return found

    def _object(self, depth: int) -> dict[str, Any]:
        kind, count = self._head()
        found: dict[str, Any] = {}
        read = 0
        while count is None or read < count:
            if count is None and self.data[self.at : self.at + 1] == b"}":
                self.take(1)
                break
            key = self._text()
            if key in found:
                raise ValueError(f"key {key!r} stands there twice")
            found[key] = self.value(kind or self.take(1), depth + 1)
            read += 1
        return found
