"""Footers into slices, streaming: the first slice leaves as soon as it is full, however many files there are.

A slice holds row groups of one physical schema up to about `slice_rows`; small files share one. Files that cannot be scored leave
at once as slices with a `fault`. What a slice is depends on the files alone, never on the order in which they were listed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pyarrow as pa

from scoring.errors import ConfigError, SourceError
from scoring.parts import part
from scoring.settings import Source
from scoring.sources import Footer
from scoring.sources.carried import Carried
from scoring.sources.guard import translated
from scoring.types import File, Fragment, Partition, Slice

_TEXT_ROW_BYTES = 100  # rows of a file without a footer are guessed by its size, to fill slices evenly
_MOST_ROWS = 1 << 40  # of a file: a damaged footer must not make counts overflow
_Shape = tuple[int, str, tuple[int, ...] | None]  # size in bytes, schema, rows of row groups
_Planned = tuple[Slice, pa.Schema | None]  # a slice, and the columns of its files
_MOST_FRAGMENTS = 256  # of a slice: it must stay small to send, and the first must not wait for thousands of tiny files


def plan(partition: Partition, settings: Source) -> Iterator[Slice]:
    """Slices of a partition, in the order of its files (sorted by path). Opens each file once, for its footer.

    Raises:
        ConfigError: the source settings cannot work for any file, or no file has a column that is to be carried. A bad file never
        raises, it is a slice with a fault.
    """
    kind = part("sources", settings.kind)
    copies = _Copies() if settings.duplicates == "quarantine" else None
    carried = Carried(partition, settings.carry)
    pending = _Pending(partition.key, settings.slice_rows)
    for file in sorted(partition.files, key=lambda f: f.path):
        footer, fault = _examine(kind, file, settings, copies)
        if footer is None or fault is not None:
            fragment = Fragment(file.path, file.version, None, 0, footer.rows if footer else None, file.size)
            yield from carried.settle(Slice(partition.key, (fragment,), fault), None)
            continue
        carried.see(file, footer.fields, footer.rows)
        for fragment in _fragments(file, footer):
            if (full := pending.add(fragment, footer)) is not None:
                yield from carried.settle(*full)
    if (full := pending.flush()) is not None:
        yield from carried.settle(*full)
    yield from carried.close()


def refuse_absent(partition: Partition, settings: Source) -> None:
    """Read footers until every column that is to be carried was seen: the first tells, unless a name is wrong.

    Raises:
        ConfigError: no file of the partition has it.
    """
    kind = part("sources", settings.kind)
    carried = Carried(partition, settings.carry)
    for file in sorted(partition.files, key=lambda f: f.path):
        if carried.known:
            return
        footer, _ = _examine(kind, file, settings, None)
        if footer is not None:
            carried.see(file, footer.fields, footer.rows)
    carried.refuse_absent()


def _examine(kind: Any, file: File, settings: Source, copies: _Copies | None) -> tuple[Footer | None, str | None]:
    try:
        with translated():
            footer: Footer = kind.footer(file, settings)
            if (footer.rows or 0) > _MOST_ROWS:
                raise SourceError(f"the footer promises {footer.rows:,} rows")
            original = copies.original(file, footer) if copies else None
    except ConfigError:
        raise
    except SourceError as error:
        return None, f"unreadable: {error}"
    return footer, None if original is None else f"duplicate of {original}"


def _fragments(file: File, footer: Footer) -> Iterator[Fragment]:
    """One per row group; one for the whole file where there are none."""
    if not footer.groups:
        yield Fragment(file.path, file.version, None, 0, footer.rows, file.size)
        return
    first, total = 0, max(sum(footer.groups), 1)
    for n, rows in enumerate(footer.groups):
        yield Fragment(file.path, file.version, (n, n + 1), first, rows, file.size * rows // total)
        first += rows


class _Pending:
    """The slice that is being filled."""

    def __init__(self, partition: str, slice_rows: int) -> None:
        self._partition, self._limit = partition, slice_rows
        self._fragments: list[Fragment] = []
        self._footer, self._rows = Footer("", None), 0

    def add(self, fragment: Fragment, footer: Footer) -> _Planned | None:
        """The slice that was full before this fragment, if it was."""
        done = None
        rows = fragment.bytes // _TEXT_ROW_BYTES if fragment.rows is None else fragment.rows
        full = self._rows + rows > self._limit or len(self._fragments) >= _MOST_FRAGMENTS
        if self._fragments and (full or footer.schema != self._footer.schema):
            done = self.flush()
        self._fragments.append(fragment)
        self._footer, self._rows = footer, self._rows + rows
        return done

    def flush(self) -> _Planned | None:
        """What there is, if there is something."""
        fragments, self._fragments, self._rows = self._fragments, [], 0
        if len(fragments) > 1:
            fragments = [_joined(list(run)) for _, run in groupby(fragments, key=lambda f: f.path)]
        return (Slice(self._partition, tuple(fragments)), self._footer.fields) if fragments else None


def _joined(run: list[Fragment]) -> Fragment:
    """Adjacent row groups of one file as one fragment."""
    first, last = run[0], run[-1]
    if first is last or first.groups is None or last.groups is None:
        return first
    rows = sum(f.rows or 0 for f in run)
    return Fragment(first.path, first.version, (first.groups[0], last.groups[1]), first.first_row, rows, sum(f.bytes for f in run))


class _Copies:
    """Files of one partition with the same bytes: equal size and footer first, then SHA-256 of the whole of both.

    Files without rows may look alike: empty part files are an ordinary thing. A file is hashed once at most.
    """

    def __init__(self) -> None:
        self._first: dict[_Shape, str] = {}  # paths; not hashed before another looks alike
        self._hashed: dict[_Shape, dict[str, str]] = {}  # digest -> path

    def original(self, file: File, footer: Footer) -> str | None:
        """The earlier file that this one repeats."""
        if footer.rows == 0:
            return None
        shape = (file.size, footer.schema, footer.groups)
        first = self._first.setdefault(shape, file.path)
        if first is file.path:
            return None
        if shape not in self._hashed:
            self._hashed[shape] = {_sha256(first): first}
        found = self._hashed[shape].setdefault(_sha256(file.path), file.path)
        return None if found is file.path else found


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
