"""Tables outside the workspace that hold people too: Parquet, CSV and JSON Lines on disk, rewritten in place by one rename."""

from __future__ import annotations

import csv
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from scoring.errors import ConfigError
from scoring.sinks import text_rewrite
from scoring.sinks.rewrite import Search, count, rewrite
from scoring.stores import sha256_of
from scoring.stores.local import sync

_Say = Callable[[Path, str, str, int, os.stat_result, os.stat_result], None]


def files(path: str) -> Iterator[Path]:
    """The files of a table, a file or a folder, links followed to files only.

    Raises:
        ConfigError: there is nothing there.
    """
    place = Path(path).expanduser().absolute()
    if not place.exists():
        raise ConfigError(f"datasets: there is no file or folder {place}.")
    found = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    yield from (p for p in found if not p.name.startswith((".", "_")))


def found(path: Path, search: Search) -> int | None:
    """Rows that are found; None where nobody can tell: another format, a damaged file, no column that identifies a person."""
    try:
        return text_rewrite.count(path, search) if text_rewrite.fits(path) else count(str(path), search)
    except (OSError, ValueError, ArithmeticError, csv.Error):  # Arrow's errors are ValueErrors
        return None


def erase(path: Path, search: Search, say: _Say, sites: Callable[[str], None]) -> None:
    """Put the file without the rows in its place; `say` is told before. What a crash leaves is a file beside it that none reads."""
    real = path.resolve()
    for left in real.parent.glob(f".{real.name}.*.erasing"):
        left.unlink(missing_ok=True)
    target, away = real.with_name(f".{real.name}.{secrets.token_hex(6)}.erasing"), [0]
    try:
        if text_rewrite.fits(path):
            text_rewrite.rewrite(real, target, search, away.append)
        else:
            rewrite(str(real), target, search, {}, lambda rows: away.append(rows.num_rows))
        shutil.copymode(real, target)
        sync(target)
        say(path, sha256_of(real), sha256_of(target), sum(away), real.stat(), target.stat())
        sites("erase.before_table")
        os.replace(target, real)
        sync(real.parent)
        sites("erase.after_table")
    finally:
        target.unlink(missing_ok=True)
