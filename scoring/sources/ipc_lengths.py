"""The rows of each record batch of an Arrow IPC file, from its metadata alone.

Arrow tells a batch's length only after it has loaded a column of it: 74 kB of compressed zeros took 2.4 GB, in the driver. The
metadata are FlatBuffers, of which four fields are needed. Sources: Arrow columnar format, "IPC File Format", format/File.fbs and
Message.fbs; FlatBuffers internals, "Tables". Every place is checked before it is read.
"""

from __future__ import annotations

import struct

import pyarrow as pa

from scoring.errors import SourceError

_TAIL = struct.Struct("<i6s")  # length of the footer, magic
_BLOCK = struct.Struct("<qi4xq")  # offset, length of the metadata, length of the body
_MOST_METADATA = 64 << 20  # bytes of a message; a column takes some 50
_CONTINUED = b"\xff\xff\xff\xff"  # stands before the length since version 0.15
_BATCHES_OF_FOOTER, _HEADER_OF_MESSAGE, _LENGTH_OF_BATCH = 3, 2, 0  # field numbers


def lengths(source: pa.NativeFile, count: int) -> tuple[int, ...]:
    """Rows of each of the `count` batches, as the file says; only reading tells whether it is so.

    Raises:
        SourceError: the metadata contradict themselves.
    """
    try:
        size, _ = _TAIL.unpack(_bytes(source, source.size() - _TAIL.size, _TAIL.size))
        footer = _bytes(source, source.size() - _TAIL.size - size, size)
        blocks = _vector(footer, _BATCHES_OF_FOOTER)
        found = tuple(_length(source, *_BLOCK.unpack_from(footer, blocks + n * _BLOCK.size)) for n in range(count))
    except (struct.error, IndexError, ValueError, OSError) as error:
        raise SourceError(f"the metadata of the record batches are damaged: {error}") from None
    if min(found, default=0) < 0:
        raise SourceError(f"a record batch of {min(found)} rows")
    return found


def _length(source: pa.NativeFile, offset: int, size: int, body: int) -> int:
    message = _bytes(source, offset, size)
    message = message[8 if message.startswith(_CONTINUED) else 4 :]
    batch = _follow(message, _place(message, _follow(message, 0), _HEADER_OF_MESSAGE))
    place = _field(message, batch, _LENGTH_OF_BATCH)
    return int(_number("<q", message, place)) if place else 0


def _bytes(source: pa.NativeFile, offset: int, size: int) -> bytes:
    if not (0 < size <= _MOST_METADATA and 0 <= offset <= source.size() - size):
        raise ValueError(f"{size} bytes at {offset}")
    source.seek(offset)
    return bytes(source.read(size))


def _follow(buffer: bytes, place: int) -> int:
    return place + int(_number("<I", buffer, place))


def _vector(buffer: bytes, field: int) -> int:
    """Where the first element of a vector of the root table is, behind its length."""
    return _follow(buffer, _place(buffer, _follow(buffer, 0), field)) + 4


def _place(buffer: bytes, table: int, field: int) -> int:
    place = _field(buffer, table, field)
    if not place:
        raise ValueError(f"field {field} is missing")
    return place


def _field(buffer: bytes, table: int, field: int) -> int:
    """Where a field of a table is; 0 if it is not written, and has its default."""
    schema = table - _number("<i", buffer, table)
    slot = 4 + 2 * field
    offset = _number("<H", buffer, schema + slot) if slot < _number("<H", buffer, schema) else 0
    return table + offset if offset else 0


def _number(form: str, buffer: bytes, place: int) -> int:
    if place < 0:
        raise ValueError(f"a place before the start: {place}")
    found: int = struct.unpack_from(form, buffer, place)[0]
    return found
