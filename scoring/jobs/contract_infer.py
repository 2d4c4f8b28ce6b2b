"""A first contract from data: a bounded sample is looked at column by column, and written as YAML with comments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from scoring.admit.infer import Seen, look, written
from scoring.errors import ConfigError
from scoring.jobs.arguments import Given
from scoring.jobs.sampling import sample, source_of

ROWS = 200_000


@dataclass(frozen=True)
class Inferred:
    """`contract` is the YAML; `out` where it was written, if it was."""

    contract: str
    rows: int
    files: int
    files_in_all: int
    out: str


def command(given: Given) -> tuple[Inferred, int]:
    """Raises: SourceError: nothing could be read. ConfigError: `out` is there already."""
    source, out = source_of(given), given.get("out") or ""
    if out and Path(out).exists():
        raise ConfigError(f"{out} is there already. Name another file with out=…")
    batches, read, files = sample(source, given.number("rows", ROWS))
    rows = sum(batch.num_rows for batch in batches)
    heading = [
        f"Inferred from the first rows of {read} of {files} file(s), {rows:,} rows in all: a sample, and a beginning.",
        "Bounds are wider than what was seen; correct them by what you know. Comments say what was seen.",
        "Use it as conf/contract/<name>.yaml (contract=<name>, --config-dir=conf) or as contract.yaml in the bundle.",
    ]
    text = written(_columns(batches), heading)
    if out:
        Path(out).write_text(text)
    return Inferred(text, rows, read, files, out), 0


def _columns(batches: list[pa.RecordBatch]) -> dict[str, Seen]:
    """Each column over all batches that have it in its most frequent type."""
    found: dict[str, dict[str, list[pa.Array[Any]]]] = {}
    for batch in batches:
        for name, values in zip(batch.schema.names, batch.columns, strict=True):
            plain = values.dictionary_decode() if isinstance(values, pa.DictionaryArray) else values
            found.setdefault(name, {}).setdefault(str(plain.type), []).append(plain)
    columns = {}
    for name, kinds in found.items():
        most = max(kinds, key=lambda kind: sum(map(len, kinds[kind])))
        columns[name] = look(pa.concat_arrays(kinds[most]))
        others = sorted(kinds.keys() - {most})
        columns[name].notes += [f"some files have it as {', '.join(others)}"] if others else []
    return columns


def render(found: Inferred) -> str:
    return f"{found.out}: {found.rows:,} rows of {found.files} file(s) seen" if found.out else found.contract.rstrip("\n")
