"""What a backfill has to say of every interval, before and after; and how it is told to a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from scoring.jobs.backfills.choosing import Chosen, Line
from scoring.jobs.backfills.request import Request
from scoring.jobs.endings import code, worst
from scoring.respond.calendar import draw, letter
from scoring.respond.manual import clean
from scoring.types import PartitionRecord, RunRecord

_SHOWN = 40


@dataclass(frozen=True)
class IntervalRecord:
    """A partition in its interval, `key` "" where an interval has none. `state`, `action`, `why` and `reason` are what was found
    before; `status` what became of it, "" if nothing was tried. `version` and `rows` are those of what was published, or promised.
    """

    key: str
    start: str
    end: str
    state: str
    action: str
    why: tuple[str, ...]
    reason: str
    rows: dict[str, int]
    version: int
    status: str = ""
    run_id: str = ""
    model: str = ""
    exit_code: int = 0


@dataclass(frozen=True)
class BackfillRecord:
    """`counts` are intervals by what becomes, or became, of them. `seconds` and `cost` are an estimate before (None: nothing
    tells), and of the scoring itself after. `model_loads` is how often a lane loaded a model.
    """

    start: str
    end: str
    timezone: str
    grain: str
    which: tuple[str, ...]
    model: str
    dry_run: bool
    counts: dict[str, int]
    rows: dict[str, int]
    seconds: float | None
    cost: float | None
    rate: float | None
    lanes: int
    model_loads: int
    runs: tuple[str, ...]
    message: str
    exit_code: int
    intervals: tuple[IntervalRecord, ...]


def head(request: Request, chosen: Chosen) -> dict[str, Any]:
    return {
        "start": _utc(request.start),
        "end": _utc(request.end),
        "timezone": str(request.where),
        "grain": chosen.grain,
        "which": request.which,
        "model": request.model,
    }


def before(line: Line, rows: int | None) -> IntervalRecord:
    promised = {} if rows is None else {"in": rows}
    found = (line.state, line.action, line.why, line.reason, promised, line.version)
    return IntervalRecord(line.key, _utc(line.interval.start), _utc(line.interval.end), *found)


def after(line: Line, ended: tuple[RunRecord, PartitionRecord] | None, left: str) -> IntervalRecord:
    """`left` says why no more was begun, if a limit was reached."""
    action, reason, found = line.action, line.reason, before(line, None)
    if action == "score" and ended is None and left:
        action, reason = "later", left
    if ended is None:
        ending = {"score": 75, "wait": 75, "refuse": 78}.get(action, 0)
        status = "paused" if action == "score" else ""
        return replace(found, action=action, reason=reason, status=status, exit_code=ending)
    run, part = ended
    why = _why(run, part) or (found.reason if part.status in ("held", "failed") else "")
    ending = code(part.status, run.cause if part.status in ("failed", "paused") else "")
    found = replace(found, status=part.status, reason=why, exit_code=ending, rows=part.rows, version=part.version)
    return replace(found, run_id=run.run_id, model=run.model.get("version", ""))


def totals(intervals: Sequence[IntervalRecord]) -> dict[str, Any]:
    """Sums over intervals, and the exit code by the worst of them."""
    counts = Counter(one.status or _AS_COUNTED.get(one.action, one.action) for one in intervals)
    rows: Counter[str] = Counter()
    for one in intervals:
        if one.status != "skipped":
            rows.update(one.rows)
    return {"counts": dict(sorted(counts.items())), "rows": dict(rows), "exit_code": worst(one.exit_code for one in intervals)}


_AS_COUNTED = {
    "score": "to score",
    "keep": "as they are",
    "wait": "not ready",
    "refuse": "refused",
    "none": "empty",
}  # what else is said as it is


def render(found: BackfillRecord, colour: bool = False) -> str:
    """The calendar of what would be done, or what was done."""
    title = f"{'would score' if found.dry_run else 'backfill'} {found.start} to {found.end}, {'+'.join(found.which)}"
    zone = f", days of {found.timezone}" if found.timezone != "UTC" and found.grain == "day" else ""
    lines = [f"{title}{zone}: {', '.join(f'{n:,} {what}' for what, n in found.counts.items())}"]
    lines += [clean(found.message)] if found.message else []
    lines += _calendar(found, colour) if found.dry_run else []
    lines += _whys(found) + _listed(found) + _figures(found)
    lines += [f"run:        {run_id}" for run_id in found.runs]
    return "\n".join(lines)


def _calendar(found: BackfillRecord, colour: bool) -> list[str]:
    where = ZoneInfo(found.timezone) if found.grain == "day" else ZoneInfo("UTC")
    cells = [(datetime.fromisoformat(i.start).astimezone(where), letter(i.state, i.action)) for i in found.intervals]
    return draw(cells, found.grain == "hour", colour)


def _whys(found: BackfillRecord) -> list[str]:
    counted = Counter(reason for one in found.intervals if one.action == "score" for reason in one.why)
    return [f"differs:    {', '.join(f'{reason} in {n:,}' for reason, n in counted.items())}"] if counted else []


def _listed(found: BackfillRecord) -> list[str]:
    """Intervals that somebody may want to look at, each with its reason."""
    told = [one for one in found.intervals if one.status in ("held", "failed") or one.action in ("wait", "refuse")]
    told += [one for one in found.intervals if one.status == "skipped" and one.reason]
    lines = [f"  {clean(one.key or one.start)}: {one.status or one.action}: {clean(one.reason)}" for one in told[:_SHOWN]]
    return lines + ([f"  and {len(told) - _SHOWN:,} more; --json has all"] if len(told) > _SHOWN else [])


def _figures(found: BackfillRecord) -> list[str]:
    rows = ", ".join(f"{n:,} {what}" for what, n in found.rows.items() if n)
    lines = [f"rows:       {rows}"] if rows else []
    if found.seconds is not None:
        rate = f" ({found.rate:,.0f} rows/s)" if found.rate else ""
        lines.append(f"time:       {timedelta(seconds=round(found.seconds))} on {found.lanes} lane(s){rate}")
    elif found.dry_run:
        lines.append("time:       not known: nothing was scored in this workspace yet")
    lines += [f"cost:       {found.cost:,.2f}"] if found.cost is not None else []
    return lines + ([f"models:     loaded {found.model_loads} time(s) by {found.lanes} lane(s)"] if found.model_loads else [])


def _why(run: RunRecord, part: PartitionRecord) -> str:
    failed = [f"{c.name} {c.actual}, expected {c.expected}" for c in part.checks if c.status == "fail" and c.severity == "error"]
    overtaken = [check.actual for check in part.checks if check.name == "overtaken"]
    return "; ".join(failed or overtaken) or (run.message if part.status == "failed" else "")


def _utc(moment: datetime) -> str:
    return moment.isoformat(timespec="minutes").replace("+00:00", "Z")


def ended_by_key(records: Sequence[RunRecord]) -> Mapping[str, tuple[RunRecord, PartitionRecord]]:
    """The last word on each partition."""
    return {part.key: (run, part) for run in records for part in run.partitions}
