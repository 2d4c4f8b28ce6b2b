"""Which row of the input became which published row: windows of a slice, and the place that each of their rows has in its file.

Published rows stand in input order with quarantined and suppressed ones missing, so that a place is found by counting. What lies
before it is counted without reading where footers tell: a whole row group, unless people of the slice are suppressed or row groups
of a file were lost, because only reading tells which rows those are. A text file is read up to the place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scoring.engine.flow import Broken, Flow
from scoring.parts import part
from scoring.sources import Window
from scoring.types import BadFile, File, Fragment, Slice

Positions = np.ndarray[Any, np.dtype[np.int64]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Span = tuple[int, int]


@dataclass(frozen=True)
class Stretch:
    """Rows that lie side by side in a file. `standing` says which are published; the first of those is row `first` of the slice."""

    fragment: Fragment
    window: Window
    standing: Mask
    first: int

    @property
    def published(self) -> int:
        return int(self.standing.sum())


class Walk:
    """Over one slice. `rejected` are places in quarantine by input file, `lost` what its receipt says of files that were given up;
    `listed` says that people on the list have rows in it.
    """

    def __init__(self, flow: Flow, rejected: Mapping[str, Positions], lost: Sequence[BadFile], listed: bool, rows: int) -> None:
        self._flow, self._rejected, self._listed, self._rows = flow, rejected, listed, rows
        self._lost: dict[str, int] = {}
        for bad in lost:
            self._lost[bad.path] = self._lost.get(bad.path, 0) + bad.rows
        self._at = 0

    def stretches(self, work: Slice, spans: Sequence[Span]) -> Iterator[Stretch]:
        """The rows that became the published rows in `spans` (ascending, apart), with the quarantined ones between them.

        Raises:
            Broken: a file cannot be read now, or has other rows. SourceError: it is gone.
        """
        left = [(start, stop + (stop == self._rows)) for start, stop in spans]  # what follows the last row belongs to it
        for fragment in work.fragments:
            if self._gone(fragment) or self._passed(fragment, left):
                continue
            for piece in self._pieces(fragment):
                left = [span for span in left if span[1] > self._at]
                if not left:
                    return
                if not self._passed(piece, left):
                    yield from self._piece(piece, left)

    def _piece(self, piece: Fragment, left: Sequence[Span]) -> Iterator[Stretch]:
        if piece.path in self._lost and not self._readable(piece):
            return
        for window in self._flow.read(piece):
            if all(stop <= self._at for _, stop in left):
                return
            window = self._flow.without_listed(window) if self._listed else window
            standing = self._standing(piece, window)
            before = self._at + np.cumsum(standing) - standing
            for start, stop in left:
                first, last = np.searchsorted(before, (start, stop)).tolist()
                if last > first:
                    yield Stretch(piece, _cut(window, first, last), standing[first:last], int(before[first]))
            self._at += int(standing.sum())

    def _passed(self, piece: Fragment, left: Sequence[Span]) -> bool:
        """Whether nothing of it is wanted and its rows can be counted without reading it: they are counted then."""
        count = self._count(piece)
        if count is None or any(start < self._at + max(count, 1) and stop > self._at for start, stop in left):
            return False
        self._at += count
        return True

    def _gone(self, fragment: Fragment) -> bool:
        """Whether all of it was lost: as a whole, or each of its row groups."""
        lost = self._lost.get(fragment.path)
        return lost is not None and (fragment.groups is None or fragment.rows is None or lost >= fragment.rows)

    def _pieces(self, fragment: Fragment) -> Iterator[Fragment]:
        """Row groups one by one, where there are several."""
        if fragment.groups is None or fragment.groups[1] - fragment.groups[0] < 2:
            yield fragment
            return
        kind, first = part("sources", self._flow.job.source.kind), fragment.first_row
        footer = kind.footer(File(fragment.path, 0, fragment.version), self._flow.job.source)
        if footer.groups is None or len(footer.groups) < fragment.groups[1]:
            raise Broken(fragment, "read", f"the file has no row groups {fragment.groups[0]} to {fragment.groups[1] - 1} any more")
        promised = sum(footer.groups[slice(*fragment.groups)])
        if fragment.rows not in (None, promised):
            raise Broken(fragment, "read", f"its row groups have {promised} rows now, and had {fragment.rows}")
        for group in range(*fragment.groups):
            rows = footer.groups[group]
            yield replace(fragment, groups=(group, group + 1), first_row=first, rows=rows)
            first += rows

    def _count(self, piece: Fragment) -> int | None:
        """Published rows of a piece, if that can be told without reading it."""
        if piece.rows is None or self._listed or piece.path in self._lost or self._flow.job.source.kind == "quarantine":
            return None
        places = self._rejected.get(piece.path, np.empty(0, np.int64))
        first, last = np.searchsorted(places, (piece.first_row, piece.first_row + piece.rows))
        return piece.rows - int(last - first)

    def _readable(self, piece: Fragment) -> bool:
        """Whether it was read then, too: what broke in the middle gave no row."""
        try:
            for _ in self._flow.read(piece):
                pass
        except Broken:
            return False
        return True

    def _standing(self, piece: Fragment, window: Window) -> Mask:
        found = np.ones(window.batch.num_rows, np.bool_)
        if window.origins is None:
            found &= ~np.isin(window.positions, self._rejected.get(piece.path, np.empty(0, np.int64)))
        else:
            files: Any = window.origins.dictionary_encode()
            codes = files.indices.to_numpy()
            for n, path in enumerate(files.dictionary.to_pylist()):
                found &= ~((codes == n) & np.isin(window.positions, self._rejected.get(path, np.empty(0, np.int64))))
        return found


def _cut(window: Window, first: int, last: int) -> Window:
    """Rows [first, last). Lines that are no rows are left out: nothing was published of them."""
    batch = window.batch.slice(first, last - first)
    origins: Any = None if window.origins is None else window.origins.slice(first, last - first)
    return Window(batch, window.positions[first:last], (), origins, window.ignored)
