"""What stands published of one slice, read back by place: its rows, what they were made of, and which rows of its input are in
quarantine. Scores have no id; a row is known by its place among the rows of the slice that were scored, which stand in input order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scoring.errors import StoreError
from scoring.sinks import made
from scoring.sinks.manifest import PublicFile
from scoring.sinks.staged import RECEIPT
from scoring.stores import Store
from scoring.types import Receipt

Positions = np.ndarray[Any, np.dtype[np.int64]]
_BATCH_ROWS = 1 << 16
_PLACE = ["_source_file", "_row"]


class Standing:
    """`quarantine` are the partition's public quarantine files: a slice's own may have lost its staged name. `explained` are
    digests that the file may have besides the manifest's: those that an erasure gave it.

    `rows` is how many stand, `altered` whether the file is another than the manifest names.
    """

    def __init__(self, store: Store, file: PublicFile, quarantine: Sequence[PublicFile], explained: Collection[str] = ()) -> None:
        """Raises: StoreError: the file is gone, or no file of scores."""
        self._store, self._quarantine = store, quarantine
        self.key = file.staged if store.exists(file.staged) else file.path
        self.altered = store.sha256(self.key) not in (file.sha256, *explained)
        try:
            self._parquet = pq.ParquetFile(store.open_file(self.key), page_checksum_verification=True)
            footer = self._parquet.metadata.metadata or {}
            self.receipt = Receipt.from_json(footer[RECEIPT.encode()])
            self.made = made.parsed(footer)
        except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:  # Arrow's errors are ValueErrors
            raise StoreError(f"{store.root}: {self.key} is damaged ({error}). See scoring verify.") from None
        self.rows: int = self._parquet.metadata.num_rows
        self.names: list[str] = self._parquet.schema_arrow.names
        counts = [self._parquet.metadata.row_group(n).num_rows for n in range(self._parquet.num_row_groups)]
        self._ends = np.cumsum(counts, dtype=np.int64)
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._batch: pa.RecordBatch | None = None
        self._group = self._first = -1

    def close(self) -> None:
        self._parquet.close()

    def __enter__(self) -> Standing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def rejected(self) -> dict[str, Positions]:
        """Rows of the slice's input that are in quarantine: ascending places by input file.

        Raises: StoreError: a quarantine file is gone or damaged.
        """
        found: defaultdict[str, list[Positions]] = defaultdict(list)
        public = {file.staged: file.path for file in self._quarantine}
        for file in self.receipt.quarantine:
            key = file.key if self._store.exists(file.key) else public.get(file.key, file.key)
            try:
                with pq.ParquetFile(self._store.open_file(key)) as parquet:
                    for batch in parquet.iter_batches(_BATCH_ROWS, columns=_PLACE):
                        _add(found, batch)
            except (OSError, ValueError) as error:
                raise StoreError(f"{self._store.root}: {key} cannot be read ({error}). See scoring verify.") from None
        return {path: np.sort(np.concatenate(parts)) for path, parts in found.items()}

    def take(self, start: int, stop: int, columns: Sequence[str]) -> pa.Table:
        """Rows [start, stop). Fastest when asked in ascending order, always for the same columns.

        Raises: StoreError: the file is damaged.
        """
        parts: list[pa.RecordBatch] = []
        while start < stop:
            batch = self._holding(start, columns)
            part = batch.slice(start - self._first, stop - start)
            parts.append(part)
            start += part.num_rows
        schema = pa.schema([self._parquet.schema_arrow.field(name) for name in columns])
        return pa.Table.from_batches(parts) if parts else schema.empty_table()

    def _holding(self, row: int, columns: Sequence[str]) -> pa.RecordBatch:
        """The batch that holds a row; `_first` is then the place of its first row."""
        group = int(np.searchsorted(self._ends, row, side="right"))
        try:
            if group != self._group or self._batch is None or row < self._first:
                self._group, self._first = group, int(self._ends[group - 1]) if group else 0
                self._batches = self._parquet.iter_batches(_BATCH_ROWS, row_groups=[group], columns=list(columns))
                self._batch = next(self._batches)
            while row >= self._first + self._batch.num_rows:
                self._first += self._batch.num_rows
                self._batch = next(self._batches)
        except (OSError, ValueError) as error:
            raise StoreError(f"{self._store.root}: {self.key} is damaged ({error}). See scoring verify.") from None
        return self._batch


def _add(found: dict[str, list[Positions]], batch: pa.RecordBatch) -> None:
    """Rows that were lost with their file have no place of their own."""
    places = batch.column("_row")
    rows = batch.filter(places.is_valid()) if places.null_count else batch
    files = rows.column("_source_file").dictionary_encode()
    codes, positions = files.indices.to_numpy(), rows.column("_row").to_numpy()
    for n, path in enumerate(files.dictionary.to_pylist()):
        found[str(path)].append(positions[codes == n].astype(np.int64))
