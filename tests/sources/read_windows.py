"""Read a path through planning and a kind, as a lane does; for the tests of kinds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scoring.errors import SourceError
from scoring.parts import part
from scoring.settings import Source
from scoring.sources import Window
from scoring.sources.discover import partitions
from scoring.sources.slices import plan


def windows(kind: str, path: Path, columns: Sequence[str] | None = None, rows: int = 7, **more: Any) -> list[Window]:
    """All windows of a path; a fault of planning is raised as SourceError."""
    source = Source(kind=kind, path=str(path), **more)
    module, out = part("sources", kind), []
    for partition in partitions(source, module.SUFFIXES):
        for work in plan(partition, source):
            if work.fault:
                raise SourceError(work.fault)
            for fragment in work.fragments:
                out += list(module.read(fragment, columns, rows, source))
    return out


def rows_of(found: list[Window]) -> list[dict[str, Any]]:
    return [row for window in found for row in window.batch.to_pylist()]


def places(found: list[Window]) -> tuple[list[int], list[int]]:
    return [p for w in found for p in w.positions.tolist()], [r.row for w in found for r in w.rejected]
