"""Bytes of a text file, decompressed on the way: gzip and zstd are known by their first bytes, not by their names.

Decompression is streamed, so that a bomb costs time but no memory; a truncated or damaged stream raises.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Literal

import pyarrow as pa

from scoring.errors import ConfigError, SourceError
from scoring.sources import marks

_MAGIC: dict[bytes, Literal["gzip", "zstd"]] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_CHUNK_BYTES = 4 << 20
_LONGEST_LINE = 64 << 20


class UndecodableError(SourceError):
    """Bytes that are not in the stated encoding."""


class Stream:
    """A readable byte stream. With an encoding it is valid UTF-8, transcoded if need be; without, the bytes are as found.

    `last` is the last byte so far that is not a line end. `marking` turns bytes that are not in the encoding into `marks`.
    """

    closed = False

    def __init__(self, path: str, encoding: str | None = None, marking: bool = False) -> None:
        """Raises: OSError; ConfigError for an encoding that nobody knows."""
        self.last = b""
        self._encoding = _known(encoding or "utf-8")
        self._marking = marking
        errors = marks.ERRORS if marking else "strict"
        self._decoder = codecs.getincrementaldecoder(self._encoding)(errors) if encoding else None
        self._file = pa.OSFile(path, "rb")
        self._source = _decompressed(self._file)

    def read(self, size: int = -1) -> bytes:
        """At most about `size` bytes; empty at the end only.

        Raises: OSError; UndecodableError when the bytes are not in the encoding.
        """
        while True:
            data: bytes = self._source.read(size if size >= 0 else None)
            ended = not data
            if self._decoder is not None:
                data = self._decoded(data, ended)
            if data or ended:
                self.last = data.rstrip(b"\r\n")[-1:] or self.last
                return data

    def _decoded(self, data: bytes, ended: bool) -> bytes:
        assert self._decoder is not None
        try:
            text = self._decoder.decode(data, final=ended)
        except UnicodeDecodeError as error:
            raise UndecodableError(f"the text is not {self._encoding} ({error.reason}). Set source.csv.encoding.") from None
        return data if self._encoding == "utf-8" and not self._marking else text.encode()

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True
        self._source.close()
        self._file.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _known(encoding: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        raise ConfigError(f"source.csv.encoding: {encoding!r} is unknown. Try utf-8, latin-1, cp1252 or utf-16.") from None


def _decompressed(source: pa.NativeFile) -> pa.NativeFile:
    start = source.read(4)
    source.seek(0)
    for magic, codec in _MAGIC.items():
        if start.startswith(magic):
            return pa.CompressedInputStream(source, codec)
    return source


def blocks_of_lines(stream: Stream) -> Iterator[bytes]:
    """Whole lines, some MB at a time, without the last line end of a block, and without the byte order mark of a file.

    Raises:
        SourceError: a line is longer than 64 MiB.
    """
    rest: list[bytes] = []
    length, first = 0, True
    while data := stream.read(_CHUNK_BYTES):
        if first:
            data, first = data.removeprefix(codecs.BOM_UTF8), False
        head, end, tail = data.rpartition(b"\n")
        length += len(head) if end else len(tail)
        if length > _LONGEST_LINE and b"\n" not in head:
            raise SourceError(f"a line is longer than {_LONGEST_LINE >> 20} MiB")
        if end:
            yield b"".join((*rest, head))
            rest, length = [tail], len(tail)
        else:
            rest.append(tail)
    if length:
        yield b"".join(rest)
