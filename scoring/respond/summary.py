"""The account of a run as a person reads it: does it add up, what was lost and why, where the time went, what to do next."""

from __future__ import annotations

import shlex

from scoring.respond.manual import clean
from scoring.respond.texts import clause
from scoring.settings import WATCHED
from scoring.types import Check, RunRecord

_CONTRASTS = 3
_SHOWN = 12  # reasons and files; the rest is counted


def render(record: RunRecord, workspace: str, program: str = "scoring") -> str:
    """Some 30 lines of plain text. `program` is how the user calls us, so that the next commands work as printed."""
    lines = [f"{record.status}: run {record.run_id}" if record.run_id else record.status]
    if record.message:
        lines.append(clean(record.message))
    rows = record.rows
    if rows["in"]:
        lines.append(_equation(rows))
        lines += [f"  {count:>12,}  {clean(reason)}" for reason, count in _most(record.reasons)]
        lines += _costs(record) + _files(record) + _partitions(record) + _drift(record) + _time(record)
    return "\n".join(clean(line, most=2_000) for line in [*lines, *_where(record, workspace, program)])


def _equation(rows: dict[str, int]) -> str:
    parts = " + ".join(f"{rows[k]:,} {k}" for k in ("scored", "quarantined", "suppressed") if rows[k] or k != "suppressed")
    return f"rows: {rows['in']:,} in = {parts}"


def _most(counts: dict[str, int]) -> list[tuple[str, int]]:
    ordered = sorted(((reason, n) for reason, n in counts.items() if n), key=lambda item: (-item[1], item[0]))
    rest = ordered[_SHOWN:]
    return ordered[:_SHOWN] + ([(f"and {len(rest)} more reasons", sum(n for _, n in rest))] if rest else [])


def _costs(record: RunRecord) -> list[str]:
    """Rows that were scored with a warning, and whom the rules that lost rows cost."""
    lines = [f"warned, and scored: {n:,}  {clean(rule)}" for rule, n in _most(record.warned)]
    for cost in record.costs[:_CONTRASTS]:
        among = (
            f"{cost.share_lost:.0%} of the rows that {clean(cost.rule)} lost have {clean(cost.column)} = {clean(cost.value, 40)}"
        )
        lines.append(f"whom it costs: {among}, of all rows {cost.share_all:.0%}")
    return lines


def _files(record: RunRecord) -> list[str]:
    if not record.bad_files:
        return []
    lines = [f"files quarantined: {len(record.bad_files)}"]
    lines += [f"  {clean(bad.path)}: {clean(bad.reason)}" for bad in record.bad_files[:_SHOWN]]
    return lines + ([f"  and {len(record.bad_files) - _SHOWN} more"] if len(record.bad_files) > _SHOWN else [])


def _partitions(record: RunRecord) -> list[str]:
    by_status: dict[str, list[str]] = {}
    for partition in record.partitions:
        by_status.setdefault(partition.status, []).append(partition.key)
    lines = ["partitions: " + ", ".join(f"{len(keys)} {status}" for status, keys in sorted(by_status.items()))]
    for partition in record.partitions:
        failed = [c for c in partition.checks if c.status == "fail" and (c.name not in WATCHED or c.severity == "error")]
        lines += [f"  {clean(partition.key)} {partition.status}: {c.name} {c.actual}, expected {c.expected}" for c in failed]
    return lines


def _drift(record: RunRecord) -> list[str]:
    """What does not look like the baseline, or like before: one line for each column, told as the last of its partitions has it."""
    found: dict[tuple[str, str], list[tuple[str, Check]]] = {}
    for partition in record.partitions:
        for check in partition.checks:
            if check.name in WATCHED and check.status in ("warn", "fail"):
                found.setdefault((check.name, check.subject), []).append((partition.key, check))
    if not found:
        return []
    keys = sorted({key for checks in found.values() for key, _ in checks})
    lines = [f"unlike the baseline or before: {len(keys)} partition(s), {_span(keys)}"]
    for (name, subject), checks in list(found.items())[:_SHOWN]:
        where = "" if len(checks) == len(keys) else f" ({len(checks)} of them: {_span([key for key, _ in checks])})"
        lines.append(f"  {name} {clean(subject)}: {clean(checks[-1][1].actual)}{where}")
    return lines + ([f"  and {len(found) - _SHOWN} more; see the checks of record.json"] if len(found) > _SHOWN else [])


def _span(keys: list[str]) -> str:
    return clean(keys[0]) if len(keys) == 1 else f"{clean(keys[0])} to {clean(keys[-1])}"


def _time(record: RunRecord) -> list[str]:
    total = sum(record.stages.values()) or 1.0
    stages = ", ".join(f"{name} {seconds / total:.0%}" for name, seconds in sorted(record.stages.items(), key=lambda s: -s[1]))
    routes = ", ".join(f"{route} {rows:,}" for route, rows in sorted(record.routes.items()))
    devices = ", ".join(clean(device) for device in sorted(record.devices))
    rate, wall = record.rates["rows_per_second"], record.rates["wall_seconds"]
    lines = [f"rate: {rate:,.0f} rows/s, {wall:.1f} s in all", f"time: {stages}", f"device: {devices}; rows by route: {routes}"]
    lines += _estimate(record)
    texts = clause(record.work, record.rates.get("tokens_per_second", 0.0), sum(record.stages.values()))
    lines += [f"texts: {texts}"] if texts else []
    return lines + _energy(record) + [f"note: {clean(note)}" for note in record.notes[:_SHOWN]]


def _energy(record: RunRecord) -> list[str]:
    """Where it could be read."""
    joules = record.energy.get("joules")
    if not joules:
        return []
    total = sum(joules.values())
    return [f"energy: {total / 3.6e6:,.4g} kWh by {clean(record.energy['source'])} of {clean(', '.join(joules))}"]


def _estimate(record: RunRecord) -> list[str]:
    if not record.estimate:
        return []
    off = record.estimate["off"]
    return [f"estimate: {record.estimate['seconds']:.1f} s of scoring; it took {abs(off):.0%} {'longer' if off > 0 else 'less'}"]


def _where(record: RunRecord, workspace: str, program: str) -> list[str]:
    place = workspace.rstrip("/")
    lines = [f"scores:     {place}/scores", f"quarantine: {place}/quarantine"]
    if record.run_id:
        lines.append(f"record:     {place}/runs/{record.run_id}/record.json")
    quoted = shlex.quote(f"workspace={place}")
    held = [shlex.quote(p.key) for p in record.partitions if p.status == "held"][:1]
    decide = [f"  {program} release-held {shlex.quote(record.run_id)} {key} {quoted} --reason=…" for key in held]
    scored = record.run_id and record.status.startswith("published")
    again = [f"  {program} replay {shlex.quote(record.run_id)} {quoted}"] if scored else []
    return [*lines, "next:", f"  {program} quarantine {quoted}", *decide, f"  {program} verify {quoted}", *again]
