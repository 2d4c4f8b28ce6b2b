"""The staged file of one slice: written by an attempt, created whole by put-if-absent, never changed after.

Its existence is the fact "this slice is done"; its footer holds the receipt. Bad rows go to files of the attempt's own name that
are durable before the scored file: they count only because a receipt names them. pyarrow writers publish truncated files when an
error closes them, so everything is spooled, verified, and then created in one step.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scoring.errors import StoreError
from scoring.settings import Sink
from scoring.stores import Store, sha256_of
from scoring.types import BadFile, Receipt, Slice, StagedFile

RECEIPT = b"scoring.receipt"
_CONSTANTS = ("model_version", "run_id")
_MARKS = pa.schema(
    [
        ("_source_file", pa.string()),
        ("_row", pa.int64()),
        ("_rows", pa.int64()),
        ("_stage", pa.string()),
        ("_reasons", pa.list_(pa.string())),
        ("_run_id", pa.string()),
    ]
)


def key_of(run_id: str, slice_id: str) -> str:
    return f"runs/{run_id}/staged/{slice_id}.parquet"


def find(store: Store, run_id: str, slice_id: str) -> Receipt | None:
    """The receipt of a slice that is done, or None.

    Raises:
        StoreError: the staged file is there but damaged.
    """
    key = key_of(run_id, slice_id)
    if not store.exists(key):
        return None
    path = store.open_path(key)
    try:
        with pq.ParquetFile(path) as file:
            receipt = Receipt.from_json(file.metadata.metadata[RECEIPT])
            rows = file.metadata.num_rows
        if rows != receipt.counts.scored or receipt.slice_id != slice_id:
            raise ValueError(f"{rows} rows of slice {receipt.slice_id}")
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise StoreError(f"{key} is damaged ({error}). Remove it and run again.") from None
    size = Path(path).stat().st_size
    return Receipt(**{**receipt.__dict__, "scores": StagedFile(key, rows, size, sha256_of(path))})


def finished(store: Store, run_id: str) -> set[str]:
    """Ids of the slices that are done: one listing."""
    return {Path(key).stem for key in store.list(f"runs/{run_id}/staged") if key.count(".") == 1 or key.endswith(".parquet")}


class StagedWriter:
    """For one attempt; not thread-safe. `outputs` are the names of the score columns, `sites` is told where we are (fault drills)."""

    def __init__(
        self,
        store: Store,
        run_id: str,
        work: Slice,
        attempt: str,
        sink: Sink,
        model_version: str,
        outputs: Sequence[str],
        sites: Callable[[str], None] = lambda site: None,
    ) -> None:
        self._store, self._run_id, self._work, self._attempt, self._sink = store, run_id, work, attempt, sink
        self._outputs, self._sites = tuple(outputs), sites
        self._constants = {"model_version": model_version, "run_id": run_id}
        self._scores = Spool(store, f"{work.id}.{attempt}", sink)
        self._rejects: dict[str, Spool] = {}

    def scores(self, carried: pa.RecordBatch, outputs: np.ndarray[Any, np.dtype[np.float32]]) -> None:
        """Append rows: carried columns as they are, then `outputs` (rows, heads), then what made them."""
        columns = [*carried.columns, *(pa.array(np.ascontiguousarray(outputs[:, n])) for n in range(len(self._outputs)))]
        columns += [_constant(self._constants[name], len(outputs)) for name in _CONSTANTS]
        names = [*carried.schema.names, *self._outputs, *_CONSTANTS]
        self._scores.write(pa.RecordBatch.from_arrays(columns, names=names))

    def quarantine(
        self, raw: pa.RecordBatch, path: str, rows: np.ndarray[Any, np.dtype[np.int64]], stage: str, reasons: list[tuple[str, ...]]
    ) -> None:
        """Append bad rows, their columns unchanged. `rows` are positions in the file, `reasons` one tuple a row."""
        count = raw.num_rows
        marks = [pa.array([path] * count), pa.array(rows, pa.int64()), pa.array([1] * count), pa.array([stage] * count)]
        marks += [pa.array([list(r) for r in reasons], pa.list_(pa.string())), pa.array([self._run_id] * count)]
        columns = [*raw.columns, *(m.cast(f.type) for m, f in zip(marks, _MARKS, strict=True))]
        self._reject(pa.RecordBatch.from_arrays(columns, schema=pa.schema([*raw.schema, *_MARKS])))

    def bad_file(self, bad: BadFile) -> None:
        """Name a file that was lost as a whole: one row that stands for `bad.rows`."""
        row = {"_source_file": bad.path, "_row": None, "_rows": bad.rows, "_stage": bad.stage, "_reasons": [bad.reason]}
        self._reject(pa.RecordBatch.from_pylist([row | {"_run_id": self._run_id}], schema=_MARKS))

    def commit(self, **facts: Any) -> Receipt:
        """Create the staged file. Returns the receipt that counts: another attempt's, if that came first.

        Raises:
            StoreError, OSError: nothing was created.
        """
        self._sites("stage.before_quarantine")
        kept = tuple(self._keep(n, spool) for n, spool in enumerate(self._rejects.values()))
        receipt = Receipt(self._work.id, self._work.partition, self._attempt, quarantine=kept, **facts)
        if not self._scores.open:
            self._scores.write(self._empty())
        path = self._scores.close({RECEIPT: receipt.to_json().encode()})
        if (found := pq.read_metadata(path).num_rows) != receipt.counts.scored:
            raise AssertionError(f"{found} rows written, {receipt.counts.scored} counted. This is a bug.")
        self._sites("stage.before_link")
        won = self._store.put(key_of(self._run_id, self._work.id), path)
        self._sites("stage.after_link")
        if not won:
            for file in kept:
                self._store.remove(file.key)
        self.abort()
        standing = find(self._store, self._run_id, self._work.id)
        if standing is None:
            raise StoreError(f"{key_of(self._run_id, self._work.id)} was created and is gone.")
        return standing

    def abort(self) -> None:
        """Remove what was spooled."""
        for spool in (self._scores, *self._rejects.values()):
            spool.discard()

    def _reject(self, batch: pa.RecordBatch) -> None:
        shape = batch.schema.to_string(show_field_metadata=False, show_schema_metadata=False)
        name = f"{self._work.id}.{self._attempt}.q{len(self._rejects)}"
        self._rejects.setdefault(shape, Spool(self._store, name, self._sink)).write(batch)

    def _keep(self, n: int, spool: Spool) -> StagedFile:
        path = spool.close({})
        key = f"runs/{self._run_id}/quarantine/{self._work.id}.{self._attempt}.{n}.parquet"
        if not self._store.put(key, path):
            raise StoreError(f"{key} is there already. This is a bug: attempts have names of their own.")
        return StagedFile(key, spool.rows, path.stat().st_size, sha256_of(path))

    def _empty(self) -> pa.RecordBatch:
        fields = [pa.field(name, pa.float32()) for name in self._outputs] + [pa.field(name, pa.string()) for name in _CONSTANTS]
        return pa.RecordBatch.from_pylist([], schema=pa.schema(fields))


class Spool:
    """One Parquet file in the making, opened by its first batch. Row groups are written as they fill; page checksums always."""

    def __init__(self, store: Store, name: str, sink: Sink) -> None:
        self.rows = 0
        self._path, self._sink = store.spool(name), sink
        self._writer: pq.ParquetWriter | None = None
        self._waiting: list[pa.RecordBatch] = []
        self._buffered = 0

    @property
    def open(self) -> bool:
        return self._writer is not None

    def write(self, batch: pa.RecordBatch) -> None:
        if self._writer is None:
            self._writer = self._begin(batch.schema)
        self._waiting.append(batch)
        self.rows += batch.num_rows
        self._buffered += batch.num_rows
        if self._buffered >= self._sink.row_group_rows:
            self._flush()

    def close(self, metadata: dict[bytes, bytes]) -> Path:
        """Finish the file. Raises: OSError."""
        if self._writer is None:
            raise AssertionError("A spool without a batch has no schema. This is a bug.")
        self._flush()
        self._writer.add_key_value_metadata(metadata)
        self._writer.close()
        return self._path

    def discard(self) -> None:
        if self._writer is not None and self._writer.is_open:
            self._writer.close()
        self._waiting.clear()
        self._path.unlink(missing_ok=True)

    def _flush(self) -> None:
        assert self._writer is not None
        if self._buffered:
            self._writer.write_table(pa.Table.from_batches(self._waiting, self._waiting[0].schema), row_group_size=self._buffered)
        self._waiting.clear()
        self._buffered = 0

    def _begin(self, schema: pa.Schema) -> pq.ParquetWriter:
        # Constant columns are written from dictionaries, which is cheap, but must read back as the plain strings that they are:
        # the Arrow schema that readers restore is ours.
        plain = pa.schema([f.with_type(pa.string()) if f.name in _CONSTANTS else f for f in schema])
        writer = pq.ParquetWriter(
            self._path, schema, compression=self._sink.compression, write_page_checksum=True, store_schema=False
        )
        writer.add_key_value_metadata({b"ARROW:schema": base64.b64encode(plain.remove_metadata().serialize().to_pybytes())})
        return writer


def _constant(value: str, rows: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([value]))
