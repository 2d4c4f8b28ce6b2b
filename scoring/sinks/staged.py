"""The staged file of one slice: written by an attempt, created whole by put-if-absent, never changed after.

Its existence is the fact "this slice is done"; its footer holds the receipt. Bad rows go to files of the attempt's own name that
are durable before the scored file: they count only because a receipt names them. Everything is spooled, verified, and then created
in one step; the loser of a race removes its own files and hands back the winner's receipt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scoring import columns
from scoring.errors import ConfigError, StoreError
from scoring.settings import Sink
from scoring.sinks import keys as key_files
from scoring.sinks import made
from scoring.sinks.spool import Spool, storable
from scoring.stores import Store, sha256_of
from scoring.types import MARKS, BadFile, Findings, Output, Receipt, Slice, StagedFile

RECEIPT = "scoring.receipt"
CONSTANTS = ("model_version", "run_id")
_MARK_TYPES: tuple[pa.DataType, ...] = (pa.string(), pa.int64(), pa.int64(), pa.string(), pa.list_(pa.string()), pa.string())
_MARKS = pa.schema(dict(zip(MARKS, _MARK_TYPES, strict=True)))
_NOTHING = Findings()


def key_of(run_id: str, slice_id: str) -> str:
    return f"runs/{run_id}/staged/{slice_id}.parquet"


def find(store: Store, run_id: str, slice_id: str) -> Receipt | None:
    """The receipt of a slice that is done, or None. The footer decides; a note beside it only saves hashing the file again.

    Raises:
        StoreError: the staged file is there but damaged.
    """
    key = key_of(run_id, slice_id)
    stamp = store.stamp(key)  # before anything else is looked at: of a file that is changed meanwhile it must be the old one
    size = store.size(key) if stamp is not None else None
    if stamp is None or size is None:
        return None
    try:
        receipt = _receipt(store.open_file(key), slice_id)
    except (OSError, ValueError, KeyError, TypeError, AssertionError, pa.ArrowException) as error:
        raise StoreError(f"{store.root}: {key} is damaged ({error}). Remove it and run again.") from None
    known = _recall(store, run_id, slice_id)
    if known is not None and known.scores is not None and known.scores.bytes == size and replace(known, scores=None) == receipt:
        return replace(known, scores=replace(known.scores, stamp=stamp))
    counted = replace(receipt, scores=StagedFile(key, receipt.counts.scored, size, store.sha256(key), stamp))
    remember(store, run_id, counted)
    return counted


def finished(store: Store, run_id: str) -> dict[str, str]:
    """Ids of the slices that are done, with the stamps of their staged files: one listing."""
    found = store.stamps(f"runs/{run_id}/staged")
    return {key.rsplit("/", 1)[1].removesuffix(".parquet"): stamp for key, stamp in found if key.endswith(".parquet")}


def forget(store: Store, run_id: str, slice_id: str) -> int:
    """Remove a slice that is done and its quarantine files, so that it will be scored again. Returns the rows that went.

    The staged file goes last: what died in between is found, and ended, by forgetting again.
    """
    receipt = find(store, run_id, slice_id)
    if receipt is None:
        return 0
    for key in (*(file.key for file in receipt.quarantine), _note(run_id, slice_id), key_of(run_id, slice_id)):
        store.remove(key)
    return receipt.rows_in


class StagedWriter:
    """For one attempt; not thread-safe. `outputs` are what the model gives, `sites` is told where we are (fault drills); `private`
    keeps bad rows, which are as they came, from other users of the machine; `environment` is what the scores are made with.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        work: Slice,
        attempt: str,
        sink: Sink,
        model_version: str,
        outputs: Sequence[Output],
        sites: Callable[[str], None] = lambda site: None,
        private: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._store, self._run_id, self._work, self._attempt, self._sink = store, run_id, work, attempt, sink
        self._outputs, self._sites, self._private = tuple(outputs), sites, private
        self._made = made.text(work, environment or {})
        self._constants = {"model_version": model_version, "run_id": run_id}
        self._scores = Spool(store.spool(f"{work.id}.{attempt}"), sink, CONSTANTS)
        self._rejects: dict[pa.Schema, Spool] = {}

    def scores(self, carried: pa.RecordBatch, outputs: np.ndarray[Any, np.dtype[np.float32]]) -> None:
        """Append rows: carried columns as they are, then `outputs` (rows, sum of widths), then what made them.

        Raises:
            ConfigError: a carried column has the name of an output, or a type that Parquet does not have. OSError: disk.
        """
        if not self._scores.open:
            refuse_clashes(carried.schema.names, self._outputs)
        found = [*carried.columns, *columns.arrays(self._outputs, outputs)]
        found += [_constant(self._constants[name], len(outputs)) for name in CONSTANTS]
        names = [*carried.schema.names, *columns.schema(self._outputs).names, *CONSTANTS]
        self._scores.write(pa.RecordBatch.from_arrays(found, names=names))

    def quarantine(
        self,
        raw: pa.RecordBatch,
        path: str | list[Any],
        rows: np.ndarray[Any, np.dtype[np.int64]],
        stage: str,
        reasons: list[tuple[str, ...]],
    ) -> None:
        """Append bad rows, their columns unchanged. `rows` are positions in the file, `reasons` one tuple a row; `path` is the
        file, or one for each row.

        A raw column that has the name of one of ours ("_row", …) gets a "_" behind it.
        """
        count = raw.num_rows
        why = [list(r) for r in reasons]
        marks: list[Any] = [
            [path] * count if isinstance(path, str) else path,
            rows,
            [1] * count,
            [stage] * count,
            why,
            [self._run_id] * count,
        ]
        names = [name + "_" if name in _MARKS.names else name for name in raw.schema.names]
        found = [*raw.columns, *(pa.array(values, f.type) for values, f in zip(marks, _MARKS, strict=True))]
        self._reject(pa.RecordBatch.from_arrays(found, names=[*names, *_MARKS.names]))

    def bad_file(self, bad: BadFile) -> None:
        """Name a file that was lost as a whole: one row that stands for `bad.rows`."""
        row = {"_source_file": bad.path, "_row": None, "_rows": bad.rows, "_stage": bad.stage, "_reasons": [bad.reason]}
        self._reject(pa.RecordBatch.from_pylist([row | {"_run_id": self._run_id}], schema=_MARKS))

    def flush(self) -> None:
        """Write out what is buffered: the bulk of the work of `commit`. Raises: OSError."""
        for spool in (self._scores, *self._rejects.values()):
            spool.flush()

    def commit(self, found: Findings = _NOTHING, keys: np.ndarray[Any, Any] | None = None, **facts: Any) -> Receipt:
        """Create the staged file; `facts` are the remaining fields of the receipt, `keys` the sorted keys of the rows. Returns the
        receipt that counts: another attempt's, if that came first.

        Raises:
            StoreError, OSError: it may have been created nevertheless; `find` tells.
        """
        self._sites("stage.before_quarantine")
        kept = tuple(self._keep(n, spool) for n, spool in enumerate(self._rejects.values()))
        found = replace(found, keys=self._keep_keys(keys))
        receipt = Receipt(self._work.id, self._work.partition, self._attempt, quarantine=kept, found=found, **facts)
        path, key = self._close(receipt), key_of(self._run_id, self._work.id)
        scores = StagedFile(key, receipt.counts.scored, path.stat().st_size, sha256_of(path))
        self._sites("stage.before_link")
        won = self._store.put(key, path)
        self._sites("stage.after_link")
        self.abort()
        if won:
            counted = replace(receipt, scores=replace(scores, stamp=self._store.stamp(key) or ""))
            remember(self._store, self._run_id, counted)
            return counted
        return self._yield_to_winner((*kept, *((found.keys,) if found.keys else ())))

    def abort(self) -> None:
        """Remove what was spooled; nothing of it was ever visible."""
        for spool in (self._scores, *self._rejects.values()):
            spool.discard()

    def _close(self, receipt: Receipt) -> Path:
        """Finish the scored file and read its footer back: what is wrong now must not become the truth."""
        if not self._scores.open:
            self._scores.write(self._empty())
        path = self._scores.close({RECEIPT: receipt.to_json(), made.MADE: self._made})
        try:
            _receipt(str(path), self._work.id)
        except (ValueError, KeyError, TypeError) as error:
            raise AssertionError(f"Slice {self._work.id}: the file is not what was counted: {error}. This is a bug.") from None
        return path

    def _yield_to_winner(self, kept: Sequence[StagedFile]) -> Receipt:
        for file in kept:
            self._store.remove(file.key)
        standing = find(self._store, self._run_id, self._work.id)
        if standing is None:
            raise StoreError(f"{key_of(self._run_id, self._work.id)} was there a moment ago and is gone. Run again.")
        return standing

    def _reject(self, batch: pa.RecordBatch) -> None:
        if batch.schema not in self._rejects:
            name = f"{self._work.id}.{self._attempt}.q{len(self._rejects)}"
            self._rejects[batch.schema] = Spool(self._spooled(name), self._sink)
        self._rejects[batch.schema].write(storable(batch))

    def _spooled(self, name: str) -> Path:
        path = self._store.spool(name)
        if self._private:
            path.touch(0o600)
        return path

    def _keep(self, n: int, spool: Spool) -> StagedFile:
        key = f"runs/{self._run_id}/quarantine/{self._work.id}.{self._attempt}.{n}.parquet"
        return self._create(key, spool.close({}), spool.rows)

    def _keep_keys(self, keys: np.ndarray[Any, Any] | None) -> StagedFile | None:
        if keys is None or not len(keys):
            return None
        path = self._store.spool(f"{self._work.id}.{self._attempt}.k")
        key_files.write(path, keys)
        return self._create(f"runs/{self._run_id}/keys/{self._work.id}.{self._attempt}.parquet", path, len(keys))

    def _create(self, key: str, path: Path, rows: int) -> StagedFile:
        """An immutable file of this attempt, durable when this returns."""
        staged = StagedFile(key, rows, path.stat().st_size, sha256_of(path))
        if not self._store.put(key, path):
            raise StoreError(f"{key} is there already: attempt {self._attempt} is not a name of its own.")
        return staged

    def _empty(self) -> pa.RecordBatch:
        """No row was scored and no batch was seen: the columns that are known."""
        nothing = np.empty((0, columns.width(self._outputs)), np.float32)
        found = columns.arrays(self._outputs, nothing) + [_constant("", 0) for _ in CONSTANTS]
        return pa.RecordBatch.from_arrays(found, names=[*columns.schema(self._outputs).names, *CONSTANTS])


def refuse_clashes(carried: Sequence[str], outputs: Sequence[Output]) -> None:
    """Raises: ConfigError: a carried column and an output column would have the same name."""
    taken = sorted({*carried} & {*columns.schema(outputs).names, *CONSTANTS})
    if taken:
        raise ConfigError(f"source.carry names {', '.join(taken)}, which is also a column that scoring adds. Leave it out.")


def _receipt(file: Any, slice_id: str) -> Receipt:
    """Raises: OSError, ValueError, KeyError, TypeError, pa.ArrowException: not the staged file of this slice."""
    with pq.ParquetFile(file) as parquet:
        footer = parquet.metadata
        receipt = Receipt.from_json((footer.metadata or {})[RECEIPT.encode()])
    if footer.num_rows != receipt.counts.scored or receipt.slice_id != slice_id:
        raise ValueError(f"{footer.num_rows} rows; its receipt says {receipt.counts.scored} rows of slice {receipt.slice_id}")
    return receipt


def _note(run_id: str, slice_id: str) -> str:
    return f"runs/{run_id}/receipts/{slice_id}.json"


def remember(store: Store, run_id: str, receipt: Receipt) -> None:
    """Note a receipt beside its staged file, so that the file need not be hashed again."""
    with suppress(StoreError, OSError):  # advisory: the footer holds all of it but the digest
        store.replace(_note(run_id, receipt.slice_id), receipt.to_json().encode())


def _recall(store: Store, run_id: str, slice_id: str) -> Receipt | None:
    try:
        return Receipt.from_json(store.get(_note(run_id, slice_id)))
    except (StoreError, OSError, ValueError, KeyError, TypeError, AssertionError):
        return None


def _constant(value: str, rows: int) -> pa.DictionaryArray[Any, Any]:
    return pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), pa.array([value]))
