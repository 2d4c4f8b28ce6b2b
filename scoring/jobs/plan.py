"""The work without doing it: footers are read, nothing is scored or written. Refuses what a run would refuse."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from scoring.errors import PlanError
from scoring.jobs.preparation import prepare
from scoring.settings import Job
from scoring.sources import slices
from scoring.stores import open_store

OUTPUT_BYTES_PER_ROW = 24  # score, constants and an id, before compression: an upper bound unless much is carried along


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
class PlanRecord:
    lanes: int
    lane_kind: str
    reasons: tuple[str, ...]
    partitions: tuple[PartitionPlan, ...]
    skipped: int
    ignored: tuple[str, ...]
    rows: int
    bytes: int
    slices: int


def plan(job: Job) -> PlanRecord:
    """Raises: what `run` would raise before it begins; PlanError when the output would not fit on the disk."""
    store = open_store(job.workspace)
    prepared = prepare(job, store)
    found = []
    for partition in prepared.todo:
        work = list(slices.plan(partition, job.source))
        faults = tuple(f"{w.fragments[0].path}: {w.fault}" for w in work if w.fault)
        rows = sum(w.rows for w in work if not w.fault)
        found.append(PartitionPlan(partition.key, len(partition.files), len(work), rows, sum(w.bytes for w in work), faults))
    lanes = prepared.lanes
    record = PlanRecord(
        lanes=lanes.count,
        lane_kind=lanes.kind,
        reasons=lanes.reasons,
        partitions=tuple(found),
        skipped=len(prepared.standing),
        ignored=prepared.found.ignored,
        rows=sum(p.rows for p in found),
        bytes=sum(p.bytes for p in found),
        slices=sum(p.slices for p in found),
    )
    _fits(store.root, record.rows)
    return record


def _fits(root: str, rows: int) -> None:
    if not Path(root).is_dir():
        return
    free, need = shutil.disk_usage(root).free, rows * OUTPUT_BYTES_PER_ROW
    if need > free:
        raise PlanError(
            f"{rows:,} rows x {OUTPUT_BYTES_PER_ROW} bytes = {need / 1e9:.1f} GB of scores, {root} has {free / 1e9:.1f} GB free. "
            "Free some space or choose another workspace."
        )


def render(record: PlanRecord) -> str:
    lines = [f"{record.slices:,} slices, {record.rows:,} rows promised by footers, {record.bytes / 1e6:,.1f} MB"]
    lines += [f"{record.lanes} {record.lane_kind} lane(s): {'; '.join(record.reasons)}"]
    if record.skipped:
        lines.append(f"{record.skipped} partition(s) are published already and unchanged")
    for part in record.partitions:
        lines.append(
            f"  {part.key:30} {part.files:>6} files {part.slices:>6} slices {part.rows:>14,} rows {part.bytes / 1e6:>10,.1f} MB"
        )
        lines += [f"    cannot be scored: {fault}" for fault in part.faults]
    if record.ignored:
        lines.append(f"left out: {len(record.ignored)} file(s) of another kind, e.g. {record.ignored[0]}")
    return "\n".join(lines)
