"""Keys of a slice as a file of its attempt, and at the gate the count of rows whose key another row of the partition has.

Written sorted, read in step: memory is one block of each file, however large the partition is. Files whose keys lie apart from all
others' are still read, since a slice may repeat a key within itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scoring.errors import StoreError
from scoring.stores import Store
from scoring.types import StagedFile

_WORTH = 64  # rows of a run, on average, that make runs worth while
_GROUP_ROWS, _HELD_ROWS = 1 << 18, 1 << 22  # of one row group; of all blocks in memory
Block = np.ndarray[Any, Any]


def write(path: Path, keys: Block) -> None:
    """`keys` int64 (rows,) or uint64 (rows, 2), ascending. Integers that follow each other are kept as runs. Raises: OSError."""
    if keys.ndim == 2:
        table = pa.table({"key": np.ascontiguousarray(keys[:, 0]), "more": np.ascontiguousarray(keys[:, 1])})
    elif len(starts := _runs(keys)) * _WORTH < len(keys):
        table = pa.table({"key": keys[starts], "run": np.diff(starts, append=len(keys))})
    else:
        table = pa.table({"key": keys})
    pq.write_table(table, path, compression="none", use_dictionary=False, row_group_size=_GROUP_ROWS, write_page_checksum=True)


def _runs(keys: Block) -> Block:
    """Where a key does not follow the one before it."""
    return np.append(0, np.flatnonzero(keys[1:] - keys[:-1] != 1) + 1)


def duplicates(store: Store, files: Sequence[StagedFile]) -> int:
    """Rows beyond the first of their key, over all files of a partition. Raises: StoreError: a file is gone or damaged."""
    rows = max(1024, _HELD_ROWS // max(len(files), 1))
    try:
        return sum(repeated(block) for block in _in_step([_blocks(store, file, rows) for file in files if file.rows]))
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{store.root}: keys of rows cannot be read ({' '.join(str(error).split())[:200]}). Run again.") from None


def _blocks(store: Store, file: StagedFile, rows: int) -> Iterator[Block]:
    """(rows, 1 or 2), ascending by the first column."""
    with pq.ParquetFile(store.open_file(file.key), page_checksum_verification=True) as parquet:
        if "run" not in parquet.schema_arrow.names:
            for batch in parquet.iter_batches(rows, use_threads=False):
                yield np.stack([column.to_numpy() for column in batch.columns], axis=1)
            return
        for run in parquet.read().to_batches(1):
            first, length = run.column(0)[0].as_py(), run.column(1)[0].as_py()
            for at in range(0, length, rows):
                yield np.arange(first + at, first + min(at + rows, length))[:, None]


def _in_step(files: list[Iterator[Block]]) -> Iterator[Block]:
    """Everything once, in pieces such that no key stands in two of them: up to the least of the blocks' last keys, each time."""
    held = [(block, file) for file in files if (block := next(file, None)) is not None]
    while held:
        bound = min(block[-1, 0] for block, _ in held)
        ripe, left = [], []
        for block, file in held:
            cut = int(np.searchsorted(block[:, 0], bound, side="right"))
            ripe.append(block[:cut])
            rest: Block | None = block[cut:]
            while rest is not None and (not len(rest) or rest[0, 0] <= bound):
                more = next(file, None)
                rest = more
                if more is not None:
                    cut = int(np.searchsorted(more[:, 0], bound, side="right"))
                    ripe.append(more[:cut])
                    rest = more[cut:]
            if rest is not None:
                left.append((rest, file))
        yield np.concatenate(ripe)
        held = left


def repeated(block: Block) -> int:
    """Rows beyond the first of their key; `block` (rows, 1 or 2) in any order."""
    if block.shape[1] == 1:
        keys = np.sort(block[:, 0])
        return int((keys[1:] == keys[:-1]).sum())
    keys = block[np.lexsort((block[:, 1], block[:, 0]))]
    return int((keys[1:] == keys[:-1]).all(axis=1).sum())
