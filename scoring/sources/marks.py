"""Bytes that are not in the stated encoding, led through a parser of text and found again behind it.

Such a byte becomes a pair of noncharacters of Unicode, U+FDD0 to U+FDEF: reserved for internal use, so that no text has such a
pair, and neither delimiter nor quote nor line end, so that records and fields are cut as if the byte were a letter.
Source: Unicode 15, section 23.7.
"""

from __future__ import annotations

import codecs
import re
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ERRORS = "scoring.mark"  # what to tell a decoder

_HIGH, _LOW = 0xFDD0, 0xFDE0  # of the upper and the lower four bits
_PAIR = "([\ufdd0-\ufddf])([\ufde0-\ufdef])"
_MARK = re.compile(_PAIR)


def found(text: str) -> bool:
    return _MARK.search(text) is not None


def restored(text: str) -> str:
    """Marks as the bytes they stand for, spelled \\xff."""
    return _MARK.sub(lambda mark: f"\\x{ord(mark[1]) - _HIGH:x}{ord(mark[2]) - _LOW:x}", text)


def rows(batch: pa.RecordBatch) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which rows of a batch of string columns have a mark in any column; bool (rows,)."""
    hits = [pc.match_substring_regex(cast(Any, column), _PAIR).fill_null(False) for column in batch.columns]
    return np.asarray(np.logical_or.reduce([hit.to_numpy(zero_copy_only=False) for hit in hits]), np.bool_)


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    return "".join(chr(_HIGH + (byte >> 4)) + chr(_LOW + (byte & 15)) for byte in bad), error.end


codecs.register_error(ERRORS, _mark)
