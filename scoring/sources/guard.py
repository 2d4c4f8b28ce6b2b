"""The one place where errors of foreign readers become SourceError: one line, no path (the caller knows it), no
traceback, no value of the data.

Also holds a file to the version it had when it was listed: rows of two versions must never be mixed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from scoring.errors import InputChangedError, ScoringError, SourceError, told
from scoring.types import File, Fragment

_PASS = (ScoringError, KeyboardInterrupt, SystemExit, GeneratorExit)


def version(status: os.stat_result) -> str:
    """What changes when the content may have."""
    return f"{status.st_size}-{status.st_mtime_ns}"


def content_of(file: File) -> str:
    """SHA-256 (hex) of a file's bytes. Raises: SourceError: it cannot be read."""
    try:
        with open(file.path, "rb") as found:
            return hashlib.file_digest(found, "sha256").hexdigest()
    except OSError as error:
        raise SourceError(f"{file.path}: {error.strerror or error}.") from None


@contextmanager
def translated() -> Iterator[None]:
    """Whatever a reader raises inside leaves as SourceError.

    BaseException on purpose: panics of Rust readers do not derive from Exception.
    """
    try:
        yield
    except _PASS:
        raise
    except BaseException as error:
        raise SourceError(told(error)) from None


@contextmanager
def unchanged(fragment: Fragment) -> Iterator[None]:
    """Translate errors, and hold the file to the planned version before the first and after the last row.

    Raises:
        SourceError: unreadable.
        InputChangedError: gone, or "changed since planning".
    """
    with translated():
        _compare(fragment)
        try:
            yield
        except GeneratorExit:
            raise
        except Exception:
            _compare(fragment)  # a file rewritten under the reader looks corrupt: say what really happened
            raise
        _compare(fragment)


def _compare(fragment: Fragment) -> None:
    try:
        found = version(os.stat(fragment.path))
    except OSError as error:
        raise InputChangedError(f"changed since planning: {error.strerror or error}") from None
    if found != fragment.version:
        raise InputChangedError(f"changed since planning: it was {fragment.version} (size-mtime), now it is {found}")
