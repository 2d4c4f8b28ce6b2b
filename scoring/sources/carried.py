"""The columns that are to be carried, found in the footers: which files lack one, and as what type the others have it.

A column that no file of a partition has is a mistake and is said before the partition is begun. One that only some files have came
or went while the data were written: rows of files without it carry nulls of the type that the others have. A Hive key is told by
the folder's name. Where only reading tells (JSON Lines), a key that no line has is null in every line.
"""

from __future__ import annotations

import base64
import difflib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from scoring.errors import ConfigError
from scoring.redact import are_plain
from scoring.sources.discover import decode_part
from scoring.sources.windows import stored
from scoring.types import File, Partition, Slice

_NEAR = 3  # names that a mistake is held against


class Carried:
    """What is known so far about the columns to carry of one partition; `see` every file that can be scored, in order."""

    def __init__(self, partition: Partition, carry: tuple[str, ...]) -> None:
        keys = {decode_part(part.partition("=")[0]) for part in partition.key.split("/") if "=" in part}
        self._key = partition.key
        self._wanted = [name for name in carry if name not in keys]
        self._types: dict[str, pa.DataType] = {}
        self._told = True  # by every file that was seen
        self._seen = 0
        self._first: tuple[str, list[str]] = ("", [])
        self._held: list[tuple[Slice, pa.Schema | None]] = []
        self._judged: tuple[pa.Schema | None, str] | None = None  # the last columns, and what they lack, encoded

    @property
    def known(self) -> bool:
        """Every column was seen in some file, or will only be seen by reading."""
        return not self._told or len(self._types) == len(self._wanted)

    def see(self, file: File, fields: pa.Schema | None, rows: int | None) -> None:
        """`fields` None: only reading tells. A file without rows misses nothing, but may tell a type."""
        self._told = self._told and fields is not None
        if fields is None or self.known:
            return
        found = {name: stored(fields.field(name).type) for name in self._wanted if fields.get_field_index(name) >= 0}
        self._types = found | self._types
        if rows != 0:
            self._first = self._first if self._seen else (file.path, fields.names)
            self._seen += 1

    def settle(self, work: Slice, fields: pa.Schema | None) -> Iterator[Slice]:
        """The slices that may leave: while a column was seen nowhere, all are held back, in order."""
        self._held.append((work, fields))
        if self.known:
            yield from self._released()

    def close(self) -> Iterator[Slice]:
        """What is still held back, now that every file was seen.

        Raises:
            ConfigError: no file with rows has a column that is to be carried.
        """
        self.refuse_absent()
        yield from self._released()

    def refuse_absent(self) -> None:
        """Raises: ConfigError: as `close`; to be called when every file was seen."""
        absent = [name for name in self._wanted if name not in self._types]
        if not absent or not self._told or not self._seen:
            return
        path, names = self._first
        others = f", nor of the {self._seen - 1} other file(s) of {self._key}" if self._seen > 1 else ""
        near = difflib.get_close_matches(absent[0], names, _NEAR, 0.5)
        there = f"Did you mean {' or '.join(map(repr, near))}?" if near else f"There is {', '.join(map(repr, names[:8]))}."
        if not are_plain(names):
            there = "What there is may be data and is not shown: is there a header line?"
        raise ConfigError(f"source.carry: {absent[0]!r} is no column of {path}{others}. {there}")

    def _released(self) -> Iterator[Slice]:
        held, self._held = self._held, []
        for work, fields in held:
            lacking = "" if work.fault else self._lacking(fields)
            yield replace(work, absent=lacking) if lacking else work

    def _lacking(self, fields: pa.Schema | None) -> str:
        """`absent` of a slice, once every column was seen. Slices of a file have the same columns: it is found once for all."""
        if self._judged is None or self._judged[0] is not fields:
            lacking = [n for n in self._wanted if fields is None or fields.get_field_index(n) < 0]
            self._judged = fields, encoded([(n, self._types.get(n, pa.null())) for n in lacking]) if lacking else ""
        return self._judged[1]


def encoded(columns: list[tuple[str, pa.DataType]]) -> str:
    """Columns as text that passes between processes: an Arrow IPC schema in base64."""
    return base64.b64encode(pa.schema(columns).serialize().to_pybytes()).decode()


def decoded(text: str) -> pa.Schema:
    """The inverse of `encoded`; "" is no column."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text))) if text else pa.schema([])


def with_absent(batch: pa.RecordBatch, carry: tuple[str, ...], absent: pa.Schema) -> pa.RecordBatch:
    """The columns to carry, in that order: what the batch has as it is, `absent` as nulls; a Hive key may be neither."""
    columns: dict[str, Any] = {}
    for name in carry:
        if name in batch.schema.names:
            columns[name] = batch.column(name)
        elif name in absent.names:
            columns[name] = pa.nulls(batch.num_rows, absent.field(name).type)
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns)) if columns else batch.select([])
