"""The two renames that Python does not offer: onto a free name only, and the exchange of two names (renameat2(2), Linux 3.15)."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

_AT_FDCWD, _NOREPLACE, _EXCHANGE = -100, 1, 2
UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def rename_new(source: Path, target: Path) -> None:
    """Raises: FileExistsError: the name is taken. OSError with an errno in UNSUPPORTED: this file system cannot do it."""
    _renameat2(source, target, _NOREPLACE)


def exchange(one: Path, other: Path) -> None:
    """Swap two files or folders in one step.

    A file system that cannot do it gets three renames; a reader may then miss `other` for an instant, and a crash between them
    leaves it missing, which the next repair sees.
    """
    try:
        _renameat2(one, other, _EXCHANGE)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        aside = one.with_name(one.name + ".old")
        os.rename(other, aside)
        os.rename(one, other)
        os.rename(aside, one)


def _renameat2(source: Path, target: Path, flags: int) -> None:
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(target))
