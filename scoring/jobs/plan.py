"""The work without doing it: footers are read, nothing is scored or written. Refuses what a run would refuse."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from scoring.engine.estimate import Rate, expected, price_per_hour
from scoring.errors import PlanError
from scoring.jobs.preparation import Prepared, prepare
from scoring.jobs.workspace import if_there
from scoring.respond.manual import clean
from scoring.respond.report.words import amount, duration
from scoring.settings import Job, Source
from scoring.sources import slices
from scoring.types import Partition

SCORE_BYTES, CARRIED_BYTES = 24, 16  # of a row and of a carried value, before compression: more than most take
_SHOWN = 40  # partitions; --json has all of them


@dataclass(frozen=True)
class PartitionPlan:
    """`rows` is what the footers promise; text files promise nothing. `faults` are files that cannot be scored."""

    key: str
    files: int
    slices: int
    rows: int
    bytes: int
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Estimate:
    """Time in seconds, start of the lanes included, and money; each with the range that the quartiles of the bench give.

    `notes` say what was measured, where, and what was assumed. Money is None where hardware.price_per_hour is not said.
    """

    rows_per_second: float
    seconds: float
    seconds_low: float
    seconds_high: float
    cost: float | None
    cost_low: float | None
    cost_high: float | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PlanRecord:
    """`memory_gb` and `output_bytes` are estimates: host memory of all lanes, scores before compression. `estimate` is by what
    scoring bench saved with the hardware profile; without it `no_estimate` says why, "" where nothing was saved.
    """

    lanes: int
    lane_kind: str
    cpus_per_lane: int
    gpus_per_lane: float
    memory_gb: float
    reasons: tuple[str, ...]
    partitions: tuple[PartitionPlan, ...]
    skipped: int
    ignored: tuple[str, ...]
    rows: int
    bytes: int
    slices: int
    output_bytes: int
    estimate: Estimate | None = None
    no_estimate: str = ""


def plan(job: Job) -> PlanRecord:
    """Raises: what `run` would raise before it begins; PlanError when the output would not fit on the disk."""
    prepared = prepare(job, if_there(job.workspace))
    found = [_planned(partition, job.source) for partition in prepared.todo]
    lanes = prepared.lanes
    estimate = _estimate(job, prepared, sum(p.rows for p in found))
    record = PlanRecord(
        lanes=lanes.count,
        lane_kind=lanes.kind,
        cpus_per_lane=lanes.cpus,
        gpus_per_lane=lanes.gpus,
        memory_gb=round(lanes.count * lanes.memory_gb, 3),
        reasons=lanes.reasons,
        partitions=tuple(found),
        skipped=len(prepared.standing),
        ignored=prepared.found.ignored,
        rows=sum(p.rows for p in found),
        bytes=sum(p.bytes for p in found),
        slices=sum(p.slices for p in found),
        output_bytes=sum(p.rows for p in found) * _bytes_per_row(job),
        estimate=estimate if isinstance(estimate, Estimate) else None,
        no_estimate=estimate if isinstance(estimate, str) else "",
    )
    _fits(job, record)
    return record


def _planned(partition: Partition, source: Source) -> PartitionPlan:
    """No slice is kept: a million of them would take more memory than all else."""
    count = rows = size = 0
    faults: list[str] = []
    for work in slices.plan(partition, source):
        count, size = count + 1, size + work.bytes
        if work.fault:
            faults.append(f"{work.fragments[0].path}: {work.fault}")
        else:
            rows += work.rows
    return PartitionPlan(partition.key, len(partition.files), count, rows, size, tuple(faults))


def _estimate(job: Job, prepared: Prepared, rows: int) -> Estimate | str:
    rate = expected(job.hardware, job.engine, prepared.lanes, prepared.identity.model["digest"])
    if not isinstance(rate, Rate):
        return rate or ""
    if prepared.todo and not rows:
        return "the files promise no rows: text tells them only when it is read"
    seconds = [rate.start_seconds + rows / r if rows else 0.0 for r in (rate.median, rate.high, rate.low)]
    price = price_per_hour(job.hardware, prepared.lanes)
    cost = [None if price is None else round(price * s / 3600, 9) for s in seconds]
    found = [round(s, 3) for s in seconds]
    return Estimate(round(rate.median, 1), found[0], found[1], found[2], cost[0], cost[1], cost[2], rate.notes)


def _bytes_per_row(job: Job) -> int:
    return SCORE_BYTES + CARRIED_BYTES * len(job.source.carry)


def _fits(job: Job, record: PlanRecord) -> None:
    if "://" in job.workspace.removeprefix("file://"):
        return  # a bucket has no end
    place = Path(job.workspace.removeprefix("file://")).expanduser().absolute()
    folder = next(p for p in (place, *place.parents) if p.is_dir())
    free = shutil.disk_usage(folder).free
    if record.output_bytes > free:
        raise PlanError(
            f"{record.rows:,} rows x {_bytes_per_row(job)} bytes = {record.output_bytes / 1e9:.1f} GB of scores, "
            f"{folder} has {free / 1e9:.1f} GB free. Free some space, carry fewer columns, or choose another workspace."
        )


def _said(record: PlanRecord) -> list[str]:
    found = record.estimate
    if found is None:
        return [f"no estimate of time: {clean(record.no_estimate)}"] if record.no_estimate else []
    line = f"about {duration(found.seconds)} ({duration(found.seconds_low)} to {duration(found.seconds_high)}) "
    line += f"at {found.rows_per_second:,.0f} rows/s"
    if found.cost is not None and found.cost_low is not None and found.cost_high is not None:
        line += f", cost {amount(found.cost)} ({amount(found.cost_low)} to {amount(found.cost_high)})"
    return [f"{line}; {clean('; '.join(found.notes))}"]


def render(record: PlanRecord) -> str:
    lines = [f"{record.slices:,} slices, {record.rows:,} rows promised by footers, {record.bytes / 1e6:,.1f} MB"]
    lines += [f"{record.lanes} {record.lane_kind} lane(s): {'; '.join(record.reasons)}"]
    share = f"{record.gpus_per_lane:g} GPU(s), " if record.gpus_per_lane else ""
    lines += [f"each with {share}{record.cpus_per_lane} core(s); about {record.memory_gb:g} GB of memory in all"]
    lines += [f"scores will take up to {record.output_bytes / 1e6:,.1f} MB"]
    lines += _said(record)
    if record.skipped:
        lines.append(f"{record.skipped} partition(s) are published already and unchanged")
    for part in record.partitions[:_SHOWN]:
        lines.append(
            f"  {part.key:30} {part.files:>6} files {part.slices:>6} slices {part.rows:>14,} rows {part.bytes / 1e6:>10,.1f} MB"
        )
        lines += [f"    cannot be scored: {clean(fault)}" for fault in part.faults]
    if more := len(record.partitions) - _SHOWN:
        lines += [f"  and {more:,} more partitions"] if more > 0 else []
    if record.ignored:
        lines.append(f"left out: {len(record.ignored)} file(s) of another kind, e.g. {clean(record.ignored[0])}")
    return "\n".join(lines)
