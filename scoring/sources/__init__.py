"""Where rows come from: one file per kind. Nothing here knows models, contracts or Ray.

`discover` lists files into partitions (no file is opened); `slices` turns footers into slices, streaming; a kind reads rows.
Foreign files are dangerous: a kind translates every reader error into SourceError with one line of reason (`guard`), and validates
fully whatever could crash the process later. A line of text that is no row costs itself only: it leaves as `Rejected`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from scoring.settings import Source
from scoring.types import File, Fragment


@dataclass(frozen=True)
class Footer:
    """What a file says of itself. `groups` holds the rows of each row group, or None where only reading tells (text, streams);
    `fields` the columns, or None where only reading tells (JSON Lines).
    """

    schema: str
    groups: tuple[int, ...] | None
    fields: pa.Schema | None = field(default=None, compare=False)

    @property
    def rows(self) -> int | None:
        return None if self.groups is None else sum(self.groups)


@dataclass(frozen=True)
class Rejected:
    """A line that is no row: it has a position but no columns. `reason` reads "line:rule"; `text` is the line as found."""

    row: int
    text: str
    reason: str


@dataclass(frozen=True)
class Window:
    """Rows read together. `positions` int64 (rows,): ascending places of the rows in the file; `rejected` lines fill gaps.

    `origins` string (rows,): the files that rows came from first, where that is not the file that was read (requeued rows).
    `ignored` names columns that the file has and nobody asked for.
    """

    batch: pa.RecordBatch
    positions: np.ndarray[Any, np.dtype[np.int64]]
    rejected: tuple[Rejected, ...] = ()
    origins: pa.StringArray | None = None
    ignored: tuple[str, ...] = ()


class Kind(Protocol):
    """What a module `scoring/sources/<kind>.py` offers. Both functions raise SourceError, and nothing else, on a bad file."""

    SUFFIXES: tuple[str, ...]

    def footer(self, file: File, settings: Source) -> Footer: ...

    def read(self, fragment: Fragment, columns: Sequence[str] | None, window_rows: int, settings: Source) -> Iterator[Window]: ...
