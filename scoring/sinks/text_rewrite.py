"""A CSV or JSON Lines file again without some of its records: what stays, stays byte for byte. Compressed files stay compressed.

CSV: a header line, commas (tabs in .tsv), quotes after RFC 4180, so that a record may hold line breaks. What is no record of its
format (JSON that does not parse) is searched as text, and goes whole if it names the person.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa

from scoring.sinks.rewrite import Search

_TEXTS = (".csv", ".tsv", ".jsonl", ".ndjson")
_CODECS: dict[str, Any] = {".gz": "gzip", ".zst": "zstd"}
_AT_ONCE = 10_000
_LINE = "_line"  # the column in which a search expects text that is no row
Record = tuple[bytes, dict[str, str | None] | None]


def fits(path: Path) -> bool:
    """Whether the name is that of a text of records."""
    return _kind(path) in _TEXTS


def count(path: Path, search: Search) -> int | None:
    """Records that are found; None where no column can tell. Raises: OSError, ValueError: not readable, or no such format."""
    with _opened(path) as lines:
        _, records = _records(path, lines, search)
        return None if records is None else sum(sum(hits) for _, hits in _judged(records, search))


def rewrite(path: Path, target: Path, search: Search, gone: Callable[[int], None]) -> None:
    """Write what stays to `target`, which has the suffixes of `path`; `gone` is told how many records go."""
    with _opened(path) as lines, pa.output_stream(str(target), compression=_codec(path)) as out:
        head, records = _records(path, lines, search)
        out.write(head)
        for raws, hits in _judged(records or (), search):
            gone(sum(hits))
            out.write(b"".join(raw for raw, hit in zip(raws, hits, strict=True) if not hit))


def _judged(records: Iterable[Record], search: Search) -> Iterator[tuple[list[bytes], list[bool]]]:
    """Some records at a time, and which of them are about the person."""
    rest = iter(records)
    while some := list(islice(rest, _AT_ONCE)):
        names = search.columns(sorted({name for _, fields in some for name in fields or ()}))
        columns = {name: pa.array([(fields or {}).get(name) for _, fields in some], pa.string()) for name in names}
        hits = search.hits(pa.table(columns)) if columns else np.zeros(len(some), np.bool_)
        if texts := {n: raw.decode("utf-8", "backslashreplace") for n, (raw, fields) in enumerate(some) if fields is None}:
            hits[list(texts)] = search.hits(pa.table({_LINE: list(texts.values())}))
        yield [raw for raw, _ in some], hits.tolist()


def _records(path: Path, lines: BinaryIO, search: Search) -> tuple[bytes, Iterator[Record] | None]:
    """(what stands before the records, the records); None instead of them where no column can tell."""
    if _kind(path) in (".jsonl", ".ndjson"):
        return b"", _of_json(lines)
    parsed = _of_csv(lines, "\t" if _kind(path) == ".tsv" else ",")
    head, names = next(parsed, (b"", []))
    if not search.columns(names):
        return head, None
    return head, ((raw, dict(zip(names, row, strict=False))) for raw, row in parsed)


def _of_json(lines: BinaryIO) -> Iterator[Record]:
    for raw in lines:
        try:
            found = json.loads(raw)
        except (ValueError, RecursionError):
            found = None
        yield raw, {k: _said(v) for k, v in found.items()} if isinstance(found, dict) else None


def _said(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _of_csv(lines: BinaryIO, delimiter: str) -> Iterator[tuple[bytes, list[str]]]:
    taken: list[bytes] = []

    def told() -> Iterator[str]:
        for raw in lines:
            taken.append(raw)
            yield raw.decode("utf-8-sig" if raw.startswith(b"\xef\xbb\xbf") else "utf-8", "surrogateescape")

    for row in csv.reader(told(), delimiter=delimiter):
        yield b"".join(taken), [cell.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for cell in row]
        taken.clear()


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with pa.input_stream(str(path), compression=_codec(path)) as stream, io.BufferedReader(cast(Any, stream)) as lines:
        yield cast(BinaryIO, lines)


def _codec(path: Path) -> Any:
    return _CODECS.get(path.suffix.lower())


def _kind(path: Path) -> str:
    return Path(path.stem if path.suffix.lower() in _CODECS else path.name).suffix.lower()
