"""The slices of a run as they were planned, so that a run that goes on need not open every file for its footer again.

    runs/<run id>/plan/<when>-<token>.log     SHA-256 of all that follows; then an Arrow IPC file with a record batch for each
                                              partition, and the names of their plans in the metadata

Kept of partitions that were planned to their end, without a file at fault: an unreadable file may be readable next time. A plan
holds for the files, source settings and version of scoring that it was made of, and for no others. Advice, like the receipts in
`sinks/done.py`: what is missing, damaged or of another make here is planned anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import suppress

import pyarrow as pa

from scoring import __version__
from scoring.settings import Source
from scoring.stores import Store, advice
from scoring.types import Fragment, Partition, Slice, digest

_FORMAT = 1  # counts up when a line is written otherwise
_MOST, _LATEST_S = 20_000, 30.0  # slices in one object, about; how long a plan may wait to be written
_SCHEMA = pa.schema([("id", pa.string()), ("rows", pa.int64()), ("work", pa.large_string())])  # type: ignore[arg-type]


class Kept:
    """The plan of one partition. `ids` in order; `rows` by the footers, None as soon as one file does not say; `known_rows` by
    those that do.
    """

    def __init__(self, partition: str, batch: pa.RecordBatch) -> None:
        self._partition, self._work = partition, batch.column("work")
        self.ids: list[str] = batch.column("id").to_pylist()  # type: ignore[assignment]
        rows: list[int | None] = batch.column("rows").to_pylist()
        self.known_rows = sum(n or 0 for n in rows)
        self.rows = None if None in rows else self.known_rows

    def slice(self, n: int) -> Slice:
        fragments, absent = json.loads(self._work[n].as_py())
        found = (Fragment(path, version, groups and (groups[0], groups[1]), *rest) for path, version, groups, *rest in fragments)
        return Slice(self._partition, tuple(found), None, absent)


class Plans:
    """Of one run: what earlier passes kept, and what this one keeps. For one thread."""

    def __init__(self, store: Store, run_id: str, settings: Source) -> None:
        """Raises: StoreError: what there is cannot be listed."""
        self._store, self._folder, self._settings = store, f"runs/{run_id}/plan", settings
        self._found: dict[str, tuple[pa.RecordBatchFileReader, int]] = {}
        for reader, names in _whole(store, self._folder):
            self._found |= {name: (reader, n) for n, name in enumerate(names)}
        self._names: list[str] = []
        self._batches: list[pa.RecordBatch] = []
        self._written = time.monotonic()

    def kept(self, partition: Partition) -> Kept | None:
        """Once only: it is forgotten here, so that memory goes with what is done."""
        place = self._found.pop(self._name(partition), None)
        return Kept(partition.key, place[0].get_batch(place[1])) if place else None

    def planning(self, partition: Partition, slices: Iterator[Slice]) -> Iterator[Slice]:
        """The same slices; when the last has left, they are kept."""
        ids, rows, work, sound = list[str](), list[int | None](), list[str](), True
        for one in slices:
            yield one
            sound = sound and one.fault is None
            ids.append(one.id)
            rows.append(one.rows if all(f.rows is not None for f in one.fragments) else None)
            work.append(_text(one))
        if sound and ids:
            self._names.append(self._name(partition))
            self._batches.append(pa.record_batch([ids, rows, work], schema=_SCHEMA))
        if sum(batch.num_rows for batch in self._batches) >= _MOST or time.monotonic() - self._written >= _LATEST_S:
            self.flush()

    def flush(self) -> None:
        """Raises nothing: what is not written is planned again."""
        names, batches = self._names, self._batches
        self._names, self._batches, self._written = [], [], time.monotonic()
        if not names:
            return
        sink = pa.BufferOutputStream()
        schema = _SCHEMA.with_metadata({"plans": json.dumps(names)})
        with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            for batch in batches:
                writer.write_batch(batch)
        advice.write(self._store, self._folder, sink.getvalue().to_pybytes())

    def _name(self, partition: Partition) -> str:
        """Of a plan: all that it depends on."""
        return digest([_FORMAT, __version__, partition.key, sorted(partition.files, key=lambda f: f.path), self._settings])


def _text(work: Slice) -> str:
    """Without what is the same for the whole partition."""
    return json.dumps([[(f.path, f.version, f.groups, f.first_row, f.rows, f.bytes) for f in work.fragments], work.absent])


def _whole(store: Store, folder: str) -> Iterator[tuple[pa.RecordBatchFileReader, list[str]]]:
    """Of all objects that are, and that this version can read: a batch for each name."""
    for content in advice.whole(store, folder):
        with suppress(OSError, pa.ArrowException, ValueError, TypeError, KeyError):
            reader = pa.ipc.open_file(content)
            names = json.loads(reader.schema.metadata[b"plans"])
            if reader.schema.remove_metadata() == _SCHEMA and len(names) == reader.num_record_batches:
                yield reader, names
