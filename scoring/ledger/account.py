"""The account of a run: receipts added up into the run record. Sums only; decides nothing and keeps no row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scoring.redact import scrub
from scoring.types import Absence, BadFile, Counts, PartitionRecord, Receipt, RunRecord, Status


@dataclass
class Account:
    """Totals so far. `partitions` holds one record for each partition that was decided, skipped ones included."""

    counts: Counts = field(default_factory=Counts)
    reasons: Counter[str] = field(default_factory=Counter)
    warned: Counter[str] = field(default_factory=Counter)
    routes: Counter[str] = field(default_factory=Counter)
    devices: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    bad_files: list[BadFile] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    absent: dict[str, Absence] = field(default_factory=dict)
    work: Counter[str] = field(default_factory=Counter)
    partitions: dict[str, PartitionRecord] = field(default_factory=dict)

    def add(self, receipts: Sequence[Receipt]) -> None:
        """Many at a time: a run that goes on adds a million of them before it does anything else."""
        self.counts += total(receipts)
        _add(self.reasons, [r.reasons for r in receipts])
        _add(self.warned, [r.found.warned for r in receipts])
        _add(self.routes, [r.routes for r in receipts])
        _add(self.seconds, [r.seconds for r in receipts])
        _add(self.devices, [{r.device: r.counts.scored} for r in receipts])
        _add(self.work, [r.work for r in receipts])
        for receipt in receipts:
            self.bad_files.extend(receipt.bad_files)
            for note in receipt.notes:
                self.notes[note] += 1
            for name, missed in receipt.absent.items():
                self.absent[name] = self.absent[name] + missed if name in self.absent else missed

    def rows(self) -> dict[str, int]:
        return rows(self.counts)

    def status(self) -> Status:
        """The worst of the partitions; a run without any is published: there was nothing to do."""
        found = {p.status for p in self.partitions.values()}
        order: tuple[Status, ...] = ("failed", "held", "paused", "refused", "published-with-warnings")
        return next((s for s in order if s in found), "published")

    def _absences(self) -> list[str]:
        said = "source.carry: {!r} is null in {:,} rows, because files lack it, e.g. {}"
        return [said.format(name, missed.rows, missed.file) for name, missed in sorted(self.absent.items())]

    def record(self, run_id: str, status: Status, wall_s: float, **facts: object) -> RunRecord:
        """The record of the run; `facts` are further RunRecord fields. Rates are rows in per second of wall time."""
        facts["message"] = scrub(str(facts.get("message", "")))
        return RunRecord(
            run_id=run_id,
            status=status,
            rows=self.rows(),
            partitions=tuple(self.partitions[key] for key in sorted(self.partitions)),
            rates={
                "rows_per_second": round(self.counts.total / wall_s, 1) if wall_s > 0 else 0.0,
                "wall_seconds": round(wall_s, 3),
            },
            stages={name: round(s, 3) for name, s in sorted(self.seconds.items())},
            routes=dict(self.routes),
            devices=dict(self.devices),
            reasons=dict(self.reasons),
            warned=dict(self.warned),
            work=dict(self.work),
            bad_files=tuple(sorted(self.bad_files, key=lambda b: (b.path, b.stage))),
            notes=(*self._absences(), *(scrub(f"{note} ({n}x)" if n > 1 else note) for note, n in self.notes.items())),
            **facts,  # type: ignore[arg-type]
        )


def _add(sums: Counter[str], found: Iterable[Mapping[str, Any]]) -> None:
    """As `update` for each, which takes longer to look at what it is given than these few words take to add."""
    for more in filter(None, found):
        for name, value in more.items():
            sums[name] += value


def rows(counts: Counts) -> dict[str, int]:
    """`rows` as record.json promises it."""
    return {"in": counts.total, "scored": counts.scored, "quarantined": counts.quarantined, "suppressed": counts.suppressed}


def total(receipts: Iterable[Receipt]) -> Counts:
    found = [r.counts for r in receipts]
    return Counts(sum(c.scored for c in found), sum(c.quarantined for c in found), sum(c.suppressed for c in found))
