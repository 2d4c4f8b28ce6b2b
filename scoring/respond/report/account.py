"""What happened to the rows and whether it was in order: one sentence, the account by partition, the checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scoring.respond.report.facts import Facts
from scoring.respond.report.pictures import parts
from scoring.respond.report.words import count, name, plural, share, span, status
from scoring.settings import WATCHED
from scoring.types import Check, PartitionRecord, RunRecord

SUPPRESSED = "admit:suppressed"
OUTCOMES = ("scored", "quarantined", "suppressed")
_GRAVITY = ("failed", "held", "paused", "refused", "published-with-warnings", "published", "skipped")
_VERDICTS = ("fail", "warn", "skip", "pass")
_DRAWN = ("drift", "score_drift", "null_rate")
_MOST_CHECKS = 300


@dataclass(frozen=True)
class Line:
    """A partition: counts by outcome, `lost` the share that was not scored, `balanced` whether in is their sum."""

    key: str
    status: str
    grave: bool
    rows: dict[str, int]
    lost: str
    balanced: bool
    version: int


@dataclass(frozen=True)
class Verdict:
    """One check over all partitions, or over those with one subject; `example` is the worst of them, at `where`."""

    check: str
    subject: str
    status: str
    holds: bool
    partitions: dict[str, int]
    example: Check
    where: str

    @property
    def drawn(self) -> bool:
        """Whether the drift of a column tells it, in a picture."""
        return self.check in _DRAWN and bool(self.subject)

    @property
    def met(self) -> str:
        """In how many partitions it came out so: "10 of 30"."""
        return f"{count(self.partitions[self.status])} of {count(sum(self.partitions.values()))}"


def grave(word: str) -> bool:
    return word in _GRAVITY[:5]


def sentence(facts: Facts) -> str:
    """What happened, for somebody who reads nothing else."""
    return _ending(facts.record)


def further(facts: Facts) -> str:
    """What was lost, and what looks odd: for somebody who reads on."""
    return " ".join([*_lost(facts.record), *_unlike(facts.record)])


def _ending(record: RunRecord) -> str:
    mine = [p for p in record.partitions if p.status != "skipped"]
    done, rows = [p for p in mine if p.status.startswith("published")], record.rows
    scored = f"{count(rows['scored'])} of {count(rows['in'])} rows"
    why = f": {name(record.message).rstrip('.')}" if record.message else ""
    if not rows["in"] and record.status == "published":
        return name(record.message) or "There was nothing to do."
    if record.status == "held":
        held = [p for p in mine if p.status == "held"]
        failed = next((c for p in held for c in p.checks if c.status == "fail" and c.severity == "error"), None)
        first = f", first of all by {name(failed.name)} ({name(failed.actual)})" if failed else ""
        return f"{len(held)} of {plural(len(mine), 'partition')} held by the gate{first}; the other {len(done)} were published."
    if record.status in ("paused", "failed"):
        ended = "stopped before its end" if record.status == "paused" else "failed"
        return f"The run {ended}{why}. {len(done)} of {plural(len(mine), 'partition')} published so far; what is done is kept."
    return f"{scored} were scored and published in {plural(len(done), 'partition')}{', with warnings' * _warned(record)}."


def _warned(record: RunRecord) -> bool:
    return record.status == "published-with-warnings"


def _lost(record: RunRecord) -> Iterable[str]:
    rows = record.rows
    if rows["quarantined"]:
        reason = max(rejections(record).items(), key=lambda r: (r[1], r[0]), default=("", 0))
        most = f", most often by {name(reason[0])} ({count(reason[1])})" if reason[1] else ""
        yield f"{count(rows['quarantined'])} rows ({share(rows['quarantined'], rows['in'])}) are in quarantine{most}."
    elif rows["in"]:
        yield "No row was lost."
    if rows["suppressed"]:
        yield f"{count(rows['suppressed'])} rows were suppressed."


def rejections(record: RunRecord) -> dict[str, int]:
    """Rows by "stage:rule" that are in quarantine: suppressed ones are counted among the reasons, and are not."""
    return {reason: rows for reason, rows in record.reasons.items() if reason != SUPPRESSED}


def _unlike(record: RunRecord) -> Iterable[str]:
    keys = sorted(p.key for p in record.partitions if any(c.name in WATCHED and c.status in ("warn", "fail") for c in p.checks))
    if keys:
        yield f"{plural(len(keys), 'partition does', 'partitions do')} not look like the data before: {span(keys)}."


def statuses(record: RunRecord) -> str:
    """ "17 published, 13 published with warnings"."""
    found = [p.status for p in record.partitions]
    return ", ".join(f"{count(found.count(s))} {status(s)}" for s in _GRAVITY if s in found)


def lines(record: RunRecord) -> list[Line]:
    """Partitions, the worst first: by how they ended, then by the share of rows that was lost."""
    return [_line(p) for p in sorted(record.partitions, key=lambda p: (_GRAVITY.index(p.status), -_share_lost(p), p.key))]


def _line(partition: PartitionRecord) -> Line:
    rows = {outcome: partition.rows.get(outcome, 0) for outcome in ("in", *OUTCOMES)}
    balanced = rows["in"] == sum(rows[o] for o in OUTCOMES)
    lost = share(rows["in"] - rows["scored"], rows["in"])
    key, word = name(partition.key), partition.status
    return Line(key, status(word), grave(word), rows, lost, balanced, partition.version)


def _share_lost(partition: PartitionRecord) -> float:
    total = partition.rows.get("in", 0)
    return 1 - partition.rows.get("scored", 0) / total if total else 0.0


def bar(record: RunRecord) -> list[tuple[str, float, float]]:
    """(outcome, start, width) of the account as one bar of 1,000."""
    return [(o, *place) for o, place in zip(OUTCOMES, parts([record.rows[o] for o in OUTCOMES]), strict=True)]


def verdicts(record: RunRecord) -> list[Verdict]:
    """Checks of all partitions by name and subject, the worst first."""
    groups: dict[tuple[str, str], list[tuple[str, Check]]] = {}
    for partition in record.partitions:
        for check in partition.checks:
            subject = "" if check.subject == partition.key else check.subject
            groups.setdefault((check.name, subject), []).append((partition.key, check))
    found = [_verdict(check, subject, said) for (check, subject), said in groups.items()]
    return sorted(found, key=_weight)[:_MOST_CHECKS]


def _verdict(check: str, subject: str, said: Sequence[tuple[str, Check]]) -> Verdict:
    times = {s: sum(c.status == s for _, c in said) for s in _VERDICTS}
    where, example = min(reversed(said), key=lambda s: (_VERDICTS.index(s[1].status), s[1].severity != "error"))
    holds = example.status == "fail" and example.severity == "error"
    return Verdict(name(check), name(subject), example.status, holds, times, example, name(where))


def _weight(verdict: Verdict) -> tuple[bool, int, int, str, str]:
    times = verdict.partitions[verdict.status]
    return not verdict.holds, _VERDICTS.index(verdict.status), -times, verdict.check, verdict.subject
