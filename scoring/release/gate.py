"""The gate before publishing: limits held against counts. Pure functions; a verdict is a Check, and the worst Check decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from scoring.settings import Release
from scoring.types import BadFile, Check, Counts

FALLBACK_ROUTES = ("gpu-smaller-batch", "cpu", "backup-model")
Decision = Literal["published", "published-with-warnings", "held"]


def checks(
    key: str,
    counts: Counts,
    bad_files: Sequence[BadFile],
    fallback_rows: int,
    limits: Release,
    max_fallback_share: float,
    planned_rows: int | None = None,
    absent: Mapping[str, int] | None = None,
) -> tuple[Check, ...]:
    """Verdicts on one partition.

    The row budget judges rows that were read and found bad; files lost as a whole have a budget of their own and always warn.
    `fallback_rows` were answered by another route than the one the lane was meant for. `planned_rows` is what the footers promised,
    None where only reading told. `absent` are scored rows by carried column that is null in them because their file lacks it.
    A share is held against its limit exactly; only what is shown of it is rounded.
    """
    bad_rows = counts.quarantined - sum(b.rows for b in bad_files)
    judged = counts.scored + bad_rows
    share = bad_rows / judged if judged else 0.0
    fallen = fallback_rows / counts.scored if counts.scored else 0.0
    files = _limit("bad_files", key, len(bad_files), limits.max_bad_files)
    if bad_files and files.status == "pass":
        files = Check("bad_files", key, "warn", "warn", files.expected, files.actual)
    empty = Check("not_empty", key, "warn" if not counts.total else "pass", "warn", "> 0 rows", f"{counts.total:,} rows")
    return (
        _conservation(key, counts.total, planned_rows),
        _limit("bad_rows", key, bad_rows, limits.max_bad_rows),
        _limit("bad_share", key, share, limits.max_bad_share),
        files,
        _readable(key, judged, len(bad_files)),
        _carried(key, counts.scored, bool(bad_files), absent or {}),
        _limit("fallback_share", key, fallen, max_fallback_share),
        empty,
    )


def under(policy: Mapping[str, str], verdicts: Sequence[Check]) -> tuple[Check, ...]:
    """Verdicts with the severity that the policy gives them; the longest beginning of a check's name that it names decides.

    "hold": what was found is a failure, and holds. "warn": it warns. "ignore": it is told, as skipped, and leads to nothing.
    """
    return tuple(_governed(check, policy) for check in verdicts)


def _governed(check: Check, policy: Mapping[str, str]) -> Check:
    named = max((name for name in policy if check.name.startswith(name)), key=len, default=None)
    if named is None:
        return check
    severity: Literal["warn", "error"] = "error" if policy[named] == "hold" else "warn"
    found = check.status in ("warn", "fail")
    status = {"hold": "fail", "ignore": "skip"}.get(policy[named], check.status) if found else check.status
    return replace(check, severity=severity, status=status)  # type: ignore[arg-type]


def decide(verdicts: Sequence[Check]) -> Decision:
    """Publish, publish and say so, or hold."""
    if any(c.status == "fail" and c.severity == "error" for c in verdicts):
        return "held"
    return "published-with-warnings" if any(c.status in ("warn", "fail") for c in verdicts) else "published"


def fallback_rows(routes: Mapping[str, int], meant: str) -> int:
    """Rows answered by a route below the one the lanes were meant for."""
    return sum(rows for route, rows in routes.items() if route in FALLBACK_ROUTES and route != meant)


def _conservation(key: str, accounted: int, planned: int | None) -> Check:
    status: Literal["pass", "fail", "skip"] = "skip" if planned is None else "pass" if planned == accounted else "fail"
    expected = "not known before reading" if planned is None else f"{planned:,} rows"
    return Check("conservation", key, status, "error", expected, f"{accounted:,} rows")


def _readable(key: str, judged: int, lost: int) -> Check:
    """A partition of which nothing could be read is not an empty one: readers would take it for a day without rows."""
    status: Literal["pass", "fail"] = "fail" if lost and not judged else "pass"
    return Check("readable", key, status, "error", "rows from some file", f"{judged:,} rows read, {lost:,} file(s) lost")


def _carried(key: str, scored: int, lost: bool, absent: Mapping[str, int]) -> Check:
    """A column that no row has was misspelt; what only reading tells, planning could not refuse. A lost file may have had it."""
    nowhere = sorted(name for name, rows in absent.items() if rows == scored)
    status: Literal["pass", "warn", "fail"] = "pass" if not nowhere else "warn" if lost else "fail"
    actual = f"{', '.join(map(repr, nowhere))} in no row" if nowhere else "each in some row"
    return Check("carried_columns", key, status, "error", "each column of source.carry in some row", actual)


def _limit(name: str, key: str, actual: float, limit: float | None) -> Check:
    expected = "no limit" if limit is None else f"<= {limit:,}"
    shown = f"{actual:,}" if isinstance(actual, int) else f"{actual:.6g}"
    return Check(name, key, "fail" if limit is not None and actual > limit else "pass", "error", expected, shown)
