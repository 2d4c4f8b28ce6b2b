"""A block of JSON lines in one step: Arrow's parser, told every type, so that it guesses nothing and refuses what is otherwise.

It costs a fifth of parsing line by line. What it refuses is cut into pieces, and a piece that it refuses is left as lines: a bad
line costs its neighbours some microseconds, nothing else. What it would read in another way than line by line is not shown to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.json as arrow_json

_PIECE_LINES = 256
_PATIENCE = 64  # pieces refused in a row, after which the rest of a file is not tried any more: a wanted column has objects
_BLANKS = b" \t\r"  # JSON's
_NO_JSON = re.compile(rb"[:,\[]\s*-?(?:NaN|Inf)")  # Arrow takes them for numbers

Parse = Callable[[bytes, int], pa.RecordBatch | None]


class Blocks:
    """The blocks of one file on their way through `parse` (text, number of lines), which answers None to refuse."""

    def __init__(self, parse: Parse) -> None:
        self._parse = parse
        self._refused = 0

    def read(self, block: bytes) -> Iterator[pa.RecordBatch | list[bytes]]:
        """The rows of a block in order: as batches, or as lines (blank ones among them) to be looked at one by one."""
        count = _tidy(block)
        batch = self._tried(block, count) if count else None
        if batch is not None:
            yield batch
            return
        lines = block.split(b"\n")
        for start in range(0, len(lines), _PIECE_LINES):
            part = lines[start : start + _PIECE_LINES]
            yield self._piece(part) or part

    def _piece(self, lines: list[bytes]) -> pa.RecordBatch | None:
        objects = [line.strip(_BLANKS) for line in lines if line.strip()]
        if not objects or not all(line.startswith(b"{") and line.endswith(b"}") for line in objects):
            return None
        return self._tried(b"\n".join(objects), len(objects))

    def _tried(self, text: bytes, lines: int) -> pa.RecordBatch | None:
        if self._refused >= _PATIENCE:
            return None
        batch = self._parse(text, lines)
        self._refused = self._refused + 1 if batch is None else 0
        return batch


def parsed(text: bytes, lines: int, types: dict[str, pa.DataType], others: bool) -> pa.RecordBatch | None:
    """Objects, one to a line, as columns of these types in this order; None where that is not exactly what the text says.

    `others`: there may be other keys, which are left out. Integers fit their type, text is text, a key that a line lacks is null.
    """
    if not types or not _is_text(text) or ((b"NaN" in text or b"Inf" in text) and _NO_JSON.search(text)):
        return None
    read = arrow_json.ReadOptions(use_threads=False, block_size=len(text) + 1)
    form = arrow_json.ParseOptions(pa.schema(list(types.items())), False, "ignore" if others else "error")
    try:
        table = arrow_json.read_json(cast(Any, pa.BufferReader(text)), read, form).select(list(types))
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    batches = table.combine_chunks().to_batches()
    return batches[0] if len(batches) == 1 and batches[0].num_rows == lines else None


def mentioned(names: Sequence[str], text: bytes) -> bool:
    """Whether one of the keys may stand in the text; with an escape in it a key may be spelled in many ways."""
    return bool(names) and (b"\\" in text or any(f'"{name}"'.encode(errors="replace") in text for name in names))


def _tidy(block: bytes) -> int | None:
    """The number of lines if each is braces from end to end, None otherwise.

    With that many rows found, each line is one object: whatever crosses a line end is cut at a place where JSON has a comma.
    """
    if not block.startswith(b"{") or not block.endswith(b"}"):
        return None
    text = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(text == ord("\n"))
    whole = (text[ends - 1] == ord("}")).all() and (text[ends + 1] == ord("{")).all()
    return len(ends) + 1 if whole else None


def _is_text(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
