"""An object of a bucket as a read-only file: each read is one ranged GET. Parquet readers ask for a footer, then for columns."""

from __future__ import annotations

import io
import os
from collections.abc import Callable


class RemoteFile(io.RawIOBase):
    """`fetch(start, end)` returns the bytes [start, end) of an object of `size` bytes."""

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self._fetch, self._size, self._at = fetch, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._at + size, self._size)
        if end <= self._at:
            return b""
        found = self._fetch(self._at, end)
        self._at = end
        return found
