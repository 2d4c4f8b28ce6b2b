"""What was quarantined, by reason and by file, from the published manifests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from scoring.jobs.arguments import Given
from scoring.jobs.workspace import existing
from scoring.respond.manual import clean
from scoring.sinks.publish import published
from scoring.types import BadFile


@dataclass(frozen=True)
class QuarantineRecord:
    """Rows by "stage:reason" and by source file; a row with two reasons counts under both.

    Files whose rows nobody could count stand there with 0.
    """

    rows: int
    reasons: dict[str, int]
    files: dict[str, int]


def quarantine(workspace: str) -> QuarantineRecord:
    """Raises: ConfigError: nothing ever ran there. StoreError: it cannot be read."""
    store = existing(workspace)
    rows, reasons, files = 0, Counter[str](), Counter[str]()
    for manifest in published(store):
        for file in manifest.quarantine:
            table = pq.read_table(store.open_path(file.path), columns=["_source_file", "_row", "_rows", "_stage", "_reasons"])
            for row in table.to_pylist():
                rows += row["_rows"]
                files[row["_source_file"]] += row["_rows"]
                reasons.update({f"{row['_stage']}:{reason}": row["_rows"] for reason in _reasons(row)})
    return QuarantineRecord(rows, dict(reasons), dict(files))


def _reasons(row: dict[str, Any]) -> list[str]:
    """Reasons as words that can be counted."""
    if row["_row"] is None:
        return [BadFile(row["_source_file"], row["_stage"], row["_reasons"][0], row["_rows"]).kind]
    return [reason.split(": ")[0] if row["_stage"] == "score" else reason for reason in row["_reasons"]]


def command(given: Given) -> tuple[QuarantineRecord, int]:
    return quarantine(given.needed("workspace")), 0


def render(found: QuarantineRecord) -> str:
    lines = [f"{found.rows:,} rows in quarantine"]
    for title, counts in (("by reason", found.reasons), ("by file", found.files)):
        lines += [f"{title}:"] + [
            f"  {f'{n:,}' if n else 'unknown':>12}  {clean(name)}"
            for name, n in sorted(counts.items(), key=lambda c: (-c[1], c[0]))[:30]
        ]
    return "\n".join(lines)
