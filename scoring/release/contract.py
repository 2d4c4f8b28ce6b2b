"""Verdicts of the contract on a whole partition: its counts, its size, its age, its keys, its columns. Pure functions.

Each is a Check named "contract:<rule>". Where `limits` says nothing, rows at fault bind nothing (the budget of `gate` holds them),
duplicates and missing columns hold, and extra or widened columns are told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from scoring.settings import Contract, Level, Limit
from scoring.types import BadFile, Check, Receipt

_SHOWN = 20  # names in a check
_TOLD = Limit(level="warn")
_NEVER = Limit(rows=0)


@dataclass(frozen=True)
class Found:
    """What the receipts of a partition say together. `lost` and `warned` are rows by reason; `judged` rows were read."""

    rows: int = 0
    judged: int = 0
    bad: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)
    warned: Mapping[str, int] = field(default_factory=dict)
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    newest: int | None = None
    files: tuple[BadFile, ...] = ()


def together(receipts: Sequence[Receipt]) -> Found:
    """Commutative and associative but for the order of files."""
    lost, warned, columns = Counter[str](), Counter[str](), dict[str, set[str]]()
    for receipt in receipts:
        lost.update({name.removeprefix("admit:"): n for name, n in receipt.reasons.items() if name.startswith("admit:")})
        warned.update(receipt.found.warned)
        for kind, names in receipt.found.columns.items():
            columns.setdefault(kind, set()).update(names)
    files = tuple(bad for receipt in receipts for bad in receipt.bad_files)
    newest = [r.found.newest for r in receipts if r.found.newest is not None]
    rows, gone = sum(r.rows_in for r in receipts), sum(bad.rows for bad in files)
    bad = sum(r.counts.quarantined for r in receipts) - gone
    named = {kind: tuple(sorted(names)) for kind, names in columns.items()}
    return Found(rows, rows - gone, bad, lost, warned, named, max(newest, default=None), files)


def contract_checks(key: str, contract: Contract, found: Found, duplicates: int | None, now: datetime) -> tuple[Check, ...]:
    """Verdicts on one partition. `duplicates`: rows beyond the first of their key, None where there is no key. `now` is UTC."""
    checks = [_breach(key, name, n, found.judged, contract.limits.get(name)) for name, n in sorted(found.warned.items())]
    for name, limit in contract.limits.items():
        if name == "total" or (":" in name and not name.startswith("schema:") and name not in found.warned):
            count = found.bad if name == "total" else found.lost.get(name, 0)
            checks.append(_share(key, name, count, found.judged, limit))
    if duplicates is not None:
        checks.append(_share(key, "unique", duplicates, found.judged, contract.limits.get("unique", _NEVER)))
    return (*checks, *_size(key, contract, found), *_age(key, contract, found, now), *_schema(key, contract, found))


def _breach(key: str, name: str, count: int, judged: int, limit: Limit | None) -> Check:
    """A rule of level warn warns with its first row; a limit of its own may hold beyond that."""
    beyond = _share(key, name, count, judged, limit or _TOLD)
    return beyond if beyond.status == "fail" else _share(key, name, count, judged, Limit(rows=0, level="warn"))


def _share(key: str, name: str, count: int, judged: int, limit: Limit) -> Check:
    """Beyond one of both is beyond. A limit that says neither binds nothing."""
    share = count / judged if judged else 0.0
    over = (limit.rows is not None and count > limit.rows) or (limit.share is not None and share > limit.share)
    rows = "" if limit.rows is None else f"<= {limit.rows:,} rows"
    part = "" if limit.share is None else f"<= {limit.share:g} of rows"
    return _check(
        key, name, over, limit.level, " and ".join(filter(None, (rows, part))) or "no limit", f"{count:,} rows, {share:.6g}"
    )


def _check(key: str, name: str, over: bool, level: Level, expected: str, actual: str) -> Check:
    status: Literal["pass", "warn", "fail"] = "pass" if not over else "fail" if level == "error" else "warn"
    return Check(f"contract:{name}", key, status, level, expected, actual)


def _size(key: str, contract: Contract, found: Found) -> list[Check]:
    checks = []
    for name, bound, over in (
        ("min_rows", contract.min_rows, contract.min_rows is not None and found.rows < contract.min_rows),
        ("max_rows", contract.max_rows, contract.max_rows is not None and found.rows > contract.max_rows),
    ):
        if bound is not None:
            sign = ">=" if name == "min_rows" else "<="
            level = contract.limits.get(name, _NEVER).level
            checks.append(_check(key, name, over, level, f"{sign} {bound:,} rows", f"{found.rows:,} rows"))
    return checks


def _age(key: str, contract: Contract, found: Found, now: datetime) -> list[Check]:
    """Old is what lies more than so many hours before the end of the partition's day; a partition without a day ends now."""
    if contract.freshness_hours is None:
        return []
    level, expected = contract.limits.get("freshness", _NEVER).level, f"<= {contract.freshness_hours:g} hours old"
    if found.newest is None:
        return [Check("contract:freshness", key, "skip", level, expected, "no row has a time")]
    newest = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=found.newest)
    age = ((day_of(key) or now) - newest) / timedelta(hours=1)
    actual = f"{age:.1f} hours ({newest:%Y-%m-%d %H:%M} UTC)"
    return [_check(key, "freshness", age > contract.freshness_hours, level, expected, actual)]


def day_of(key: str) -> datetime | None:
    """The end of the day that a partition key names ("date=2026-01-31/country=DE"), in UTC."""
    for part in key.split("/"):
        try:
            day = date.fromisoformat(part.partition("=")[2])
        except ValueError:
            continue
        return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    return None


def _schema(key: str, contract: Contract, found: Found) -> list[Check]:
    """Missing columns hold (the files that lack them are quarantined whole); extra and widened ones are told."""
    lacking = sorted({f"{bad.path.rsplit('/', 1)[-1]}: {bad.reason}" for bad in found.files if bad.stage == "admit"})
    checks = []
    if lacking:
        level = contract.limits.get("schema:missing", _NEVER).level
        checks.append(_check(key, "schema:missing", True, level, "all declared columns", _listed(lacking)))
    for kind in ("extra", "widened"):
        if names := found.columns.get(kind):
            limit = contract.limits.get(f"schema:{kind}")
            expected = "declared columns" if kind == "extra" else "declared types"
            checks.append(_check(key, f"schema:{kind}", limit is not None, (limit or _TOLD).level, expected, _listed(names)))
    return checks


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
