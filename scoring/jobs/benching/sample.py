"""A bounded sample of a dataset: slices as a run would cut them, spread evenly over it, and the same whenever it is asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from scoring.parts import part
from scoring.settings import Source
from scoring.sources import slices
from scoring.sources.head import head
from scoring.types import File, Fragment, Partition, Slice

_MOST_SLICES = 4_096  # that are kept to choose from: every second, fourth, … where there are more
_TEXT_ROW_BYTES = 100  # rows of a text file are guessed by its size, as planning does
_ABOUT = 1.25  # a row group that is so much larger than what is wanted is taken whole


@dataclass(frozen=True)
class Sample:
    """`rows` is None where some files do not say; what is taken of those is as rough as the guess of their rows. `bytes` are of
    all. `folder` holds the beginnings of large row groups.
    """

    source: Source
    slices: tuple[Slice, ...]
    rows: int | None
    bytes: int
    folder: Path

    def take(self, rows: int, pieces: int, mark: str) -> list[Slice]:
        """About `rows` rows in at least `pieces` slices, if there are so many. `mark` makes them other slices than those of
        another call, so that they are scored again.

        Raises:
            SourceError: a file cannot be read.
        """
        average = max(1, sum(map(_rows, self.slices)) // max(1, len(self.slices)))
        count = min(len(self.slices), max(pieces, -(-rows // average)))
        chosen = [self.slices[n * len(self.slices) // count] for n in range(count)]
        found = [self._at_most(work, -(-rows // count)) for work in chosen]
        return [replace(work, partition=f"{work.partition}/{mark}") for work in found]

    def _at_most(self, work: Slice, rows: int) -> Slice:
        """The beginning of a slice."""
        if _rows(work) <= _ABOUT * rows:
            return work
        taken: list[Fragment] = []
        left = rows
        for fragment in work.fragments:
            whole = _of_fragment(fragment) <= (left if taken else _ABOUT * left)
            taken.append(fragment if whole else self._beginning(fragment, left))
            left -= _of_fragment(fragment)
            if left <= 0:
                break
        return replace(work, fragments=tuple(taken))

    def _beginning(self, fragment: Fragment, rows: int) -> Fragment:
        """Whole row groups, as many as fit, or a part of the first."""
        if fragment.groups is not None:
            groups = part("sources", self.source.kind).footer(File(fragment.path, 0, fragment.version), self.source).groups
            start, stop = fragment.groups
            end, total = start, 0
            while end < stop and total + groups[end] <= rows * (_ABOUT if end == start else 1):
                total += groups[end]
                end += 1
            if end > start:
                return replace(fragment, groups=(start, end), rows=total, bytes=0)
        return head(fragment, rows, self.source, self.folder)


def sample_of(partitions: Iterable[Partition], source: Source, folder: Path) -> Sample:
    """Reads all footers, as planning a run would. Files that cannot be scored are left out.

    Raises:
        ConfigError: the source settings cannot work.
    """
    kept: list[Slice] = []
    rows: int | None = 0
    size, every, seen = 0, 1, 0
    for partition in partitions:
        for work in slices.plan(partition, source):
            if work.fault is not None:
                continue
            size += work.bytes
            unknown = rows is None or any(f.rows is None for f in work.fragments)
            rows = None if unknown else (rows or 0) + work.rows
            if seen % every == 0:
                kept.append(work)
            seen += 1
            if len(kept) > _MOST_SLICES:
                kept, every = kept[::2], 2 * every
    return Sample(source, tuple(kept), rows, size, folder)


def _rows(work: Slice) -> int:
    return sum(map(_of_fragment, work.fragments))


def _of_fragment(fragment: Fragment) -> int:
    return fragment.bytes // _TEXT_ROW_BYTES if fragment.rows is None else fragment.rows
