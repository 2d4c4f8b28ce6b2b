"""Profile and drift of a partition as tidy long tables, one row a statistic, for people's own dashboards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from scoring.watch.drift import Finding
from scoring.watch.summary import WHOLE, Summary

_STEM: dict[str, pa.DataType] = {
    "window_start": pa.timestamp("us", "UTC"),
    "window_end": pa.timestamp("us", "UTC"),
    "partition": pa.string(),
    "version": pa.int64(),
    "run_id": pa.string(),
    "model_version": pa.string(),
    "column": pa.string(),
    "slice": pa.string(),
    "statistic": pa.string(),
    "value": pa.float64(),
}
_VERDICT: dict[str, pa.DataType] = {
    "family": pa.string(),
    "psi": pa.float64(),
    "threshold": pa.float64(),
    "p_value": pa.float64(),
    "status": pa.string(),
    "rows": pa.int64(),
    "cause": pa.string(),
    "words": pa.string(),
    "baseline": pa.string(),
}


def profile(stem: Mapping[str, Any], summary: Summary) -> pa.Table:
    """`stem` holds partition, version, run_id and model_version; statistics are named as in `Summary.to_arrow`."""
    rows = [_row(stem, "", WHOLE, "rows", float(summary.rows))]
    for where, part in [(WHOLE, summary), *((n, summary.segment(n)) for n in sorted(summary.of("segments")))]:
        rows += [_row(stem, r["column"], where, r["statistic"], r["value"]) for r in part.to_arrow().to_pylist()]
    return pa.Table.from_pylist(rows, schema=pa.schema(_STEM))


def drift(stem: Mapping[str, Any], findings: Sequence[Finding], baseline: str) -> pa.Table:
    """Findings, passed and skipped ones too; `baseline` is its digest."""
    rows = [
        _row(stem, f.column, f.slice, f.statistic, f.value) | {name: getattr(f, name) for name in _VERDICT if name != "baseline"}
        for f in findings
    ]
    return pa.Table.from_pylist([r | {"baseline": baseline} for r in rows], schema=pa.schema(_STEM | _VERDICT))


def _row(stem: Mapping[str, Any], column: str, where: str, statistic: str, value: float) -> dict[str, Any]:
    start, end = window(str(stem["partition"]))
    times = {"window_start": start, "window_end": end}
    return {**times, **stem, "column": column, "slice": where, "statistic": statistic, "value": value}


def window(key: str) -> tuple[datetime | None, datetime | None]:
    """The day, and hour, that a Hive key names ("date=2026-01-01/hour=05"); nulls where it names none."""
    day = hour = None
    for name, _, value in (part.partition("=") for part in key.split("/")):
        try:
            day = day or datetime.fromisoformat(value).replace(tzinfo=UTC)
        except ValueError:
            hour = int(value) if name == "hour" and value.isdecimal() and int(value) < 24 else hour
    if day is None:
        return None, None
    return (day, day + timedelta(days=1)) if hour is None else (day + timedelta(hours=hour), day + timedelta(hours=hour + 1))
