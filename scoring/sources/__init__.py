"""Where rows come from: one file per kind. Nothing here knows models, contracts or Ray.

`discover` lists files into partitions (no file is opened); `slices` turns footers into slices, streaming; a kind reads rows.
Foreign files are dangerous: a kind translates every reader error into SourceError with file and reason, and validates fully
whatever could crash the process later.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from scoring.settings import Source
from scoring.types import File, Fragment


class Kind(Protocol):
    """What a module `scoring/sources/<kind>.py` offers."""

    SUFFIXES: tuple[str, ...]

    def fragments(self, file: File, settings: Source) -> list[tuple[Fragment, bytes]]: ...

    def read(
        self, fragment: Fragment, columns: Sequence[str] | None, window_rows: int, settings: Source
    ) -> Iterator[pa.RecordBatch]: ...
