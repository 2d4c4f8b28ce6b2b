"""A Parquet file again without some of its rows: same columns, types, order, compression and footer texts, page checksums written.

Looks at the columns that can tell first; a file without a hit is not read further.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

Mask = np.ndarray[Any, np.dtype[np.bool_]]
_ARROW = b"ARROW:schema"  # written anew


class Search(Protocol):
    """Who is looked for."""

    def columns(self, names: Sequence[str]) -> list[str]: ...

    def hits(self, rows: pa.Table | pa.RecordBatch) -> Mask: ...


def count(file: Any, search: Search) -> int | None:
    """Rows that are found; None where no column can tell. Raises: OSError, pa.ArrowException: not a whole Parquet file."""
    with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        columns = search.columns(parquet.schema_arrow.names)
        if not columns:
            return None if parquet.metadata.num_rows else 0
        return sum(int(search.hits(batch).sum()) for batch in parquet.iter_batches(columns=columns))


def rewrite(file: Any, target: Path, search: Search, texts: dict[str, str], seen: Callable[[pa.Table], None]) -> int:
    """Write what stays to `target`, and return its number of rows; `seen` gets the rows that go, `texts` replace footer texts."""
    with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        schema, kept = parquet.schema_arrow, 0
        told = {k.decode(): v.decode() for k, v in (parquet.metadata.metadata or {}).items() if k != _ARROW}
        with pq.ParquetWriter(target, schema.remove_metadata(), compression=_codec(parquet), write_page_checksum=True) as writer:
            writer.add_key_value_metadata(told | texts)
            for group in range(parquet.num_row_groups):
                table = parquet.read_row_group(group)
                away = search.hits(table)
                if away.any():
                    seen(table.filter(pa.array(away)))
                    table = table.filter(pa.array(~away))
                kept += table.num_rows
                writer.write_table(table.replace_schema_metadata(None), row_group_size=max(1, table.num_rows))
        return kept


def _codec(parquet: pq.ParquetFile) -> Any:
    """Of the first chunk: files of one writer have one."""
    meta = parquet.metadata
    if not meta.num_row_groups or not meta.num_columns:
        return "snappy"
    found = meta.row_group(0).column(0).compression.lower()
    return "none" if found == "uncompressed" else found
