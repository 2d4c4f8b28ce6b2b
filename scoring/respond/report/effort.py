"""Where the time went, why the device waited, by which routes rows were scored, and what that cost."""

from __future__ import annotations

from dataclasses import dataclass

from scoring.respond.report.facts import Facts
from scoring.respond.report.words import amount, count, duration, name, share
from scoring.types import RunRecord

_DEVICE = "score"  # the stage that a device works in
_MEANINGS = {
    "read": "reading rows from files",
    "admit": "holding rows against the contract",
    "encode": "checking rows and turning them into tensors",
    "score": "the model, on its device",
    "stage": "writing scores and quarantine",
}
_ROUTES = {
    "gpu": "on the GPU, as planned",
    "gpu-smaller-batch": "on the GPU in smaller batches: its memory was too small for the batch",
    "cpu": "on the CPU",
    "backup-model": "by the backup model",
}
_PASS = 0.99  # of the rows: below it, the pass of the record went on with what another had begun


@dataclass(frozen=True)
class Stage:
    name: str
    meaning: str
    seconds: str
    share: str
    width: float  # of 100


@dataclass(frozen=True)
class Way:
    name: str
    meaning: str
    rows: int
    share: str
    fallback: bool


@dataclass(frozen=True)
class Item:
    """A name, its value, and how it was come by."""

    name: str
    value: str
    note: str = ""


def stages(record: RunRecord) -> list[Stage]:
    """The longest first."""
    total = sum(record.stages.values())
    ordered = sorted(record.stages.items(), key=lambda s: (-s[1], s[0]))
    longest = ordered[0][1] if ordered else 0.0
    return [
        Stage(name(n), _MEANINGS.get(n, ""), duration(s), share(s, total), round(100 * s / longest, 1) if longest else 0.0)
        for n, s in ordered
    ]


def waiting(record: RunRecord) -> str:
    """Why the device waited, in a sentence or three; "" where nothing was timed."""
    total, device = sum(record.stages.values()), record.stages.get(_DEVICE, 0.0)
    if not total:
        return ""
    stage, longest = max(((s, n) for s, n in record.stages.items() if s != _DEVICE), key=lambda s: s[1], default=("", 0.0))
    if device >= longest:
        said = "The model is the longest stage: the device set the pace."
    else:
        said = f"The device waited for {name(stage)}: {duration(longest)} there, {duration(device)} in the model."
    return " ".join(filter(None, [_busy(record, device), said, _around(record)]))


def _busy(record: RunRecord, device: float) -> str:
    lanes, scoring = record.rates.get("lanes", 0.0), record.rates.get("scoring_seconds", 0.0)
    if not lanes or not scoring or fresh(record) < record.rows["in"]:
        return ""
    held = f"{count(lanes)} lanes" if lanes > 1 else "one lane"
    return f"The model was at work {share(min(1.0, device / (lanes * scoring)))} of the scoring time of {held}."


def _around(record: RunRecord) -> str:
    wall, scoring = record.rates.get("wall_seconds", 0.0), record.rates.get("scoring_seconds", 0.0)
    apart = wall - scoring
    if not scoring or apart < 0.1 * wall:
        return ""
    return f"{duration(apart)} of {duration(wall)} went to starting lanes, loading the model and closing."


def fresh(record: RunRecord) -> int:
    """Rows of the pass that the record's times are of: all, unless an interrupted run was gone on with."""
    rows = record.rows["in"]
    timed = record.rates.get("rows_per_second", 0.0) * record.rates.get("scoring_seconds", 0.0)
    return round(timed) if 0 < timed < _PASS * rows else rows


def ways(record: RunRecord) -> list[Way]:
    """Routes, the most travelled first; a CPU is a fallback where some rows went through a GPU."""
    total = sum(record.routes.values())
    gpu = any(route.startswith("gpu") for route in record.routes)
    return [
        Way(name(r), _ROUTES.get(r, ""), n, share(n, total), r in ("gpu-smaller-batch", "backup-model") or (gpu and r == "cpu"))
        for r, n in sorted(record.routes.items(), key=lambda w: (-w[1], w[0]))
    ]


def cost(facts: Facts) -> list[Item]:
    """Rates, device-hours and money. Device-hours are of the whole time that lanes were held, start and end included."""
    record = facts.record
    wall, rows, lanes = record.rates.get("wall_seconds", 0.0), fresh(record), record.rates.get("lanes", 0.0)
    found = [Item("Rows per second", count(record.rates.get("rows_per_second", 0.0)), "while scoring")]
    found.append(Item("Time in all", duration(wall), "start and end included"))
    if tokens := record.rates.get("tokens_per_second"):
        found.append(Item("Tokens per second", count(tokens), "while scoring"))
    if not lanes:
        return [*found, Item("Device-hours", "not known", "the record does not say how many lanes there were")]
    hours = lanes * facts.device_share * wall / 3600
    held = f"{count(lanes)} x {facts.device_share:g} device for {duration(wall)}"
    return [*found, Item("Device-hours", f"{hours:,.4f}", held), *_money(facts.price, hours, rows), *_energy(record, rows)]


def _money(price: float | None, hours: float, rows: int) -> list[Item]:
    if price is None:
        return [Item("Cost", "not known", "say hardware.price_per_hour=… to have it")]
    million = [Item("Cost per million rows", amount(price * hours / rows * 1e6), f"{count(rows)} rows")] if rows else []
    return [Item("Cost", amount(price * hours), f"at {amount(price)} per device-hour"), *million]


def _energy(record: RunRecord, rows: int) -> list[Item]:
    found = record.energy
    if not found:  # of a record that is older than the reading
        return []
    if not found.get("joules"):
        return [Item("Energy", "not readable here", found.get("why", ""))]
    joules = sum(found["joules"].values())
    each = [f"{joules / rows:,.3g} J per row"] if rows else []
    said = [*each, f"{', '.join(found['joules'])} by {found['source']}", *([found["why"]] if "why" in found else [])]
    return [Item("Energy", f"{joules / 3.6e6:,.4g} kWh", "; ".join(said))]
