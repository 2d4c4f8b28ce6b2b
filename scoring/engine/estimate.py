"""How fast a job should be, by what `scoring bench` saved with its hardware profile. Says why where it cannot know."""

from __future__ import annotations

from dataclasses import dataclass

from scoring.engine.capacity import LanePlan
from scoring.settings import Engine, Hardware


@dataclass(frozen=True)
class Rate:
    """Rows per second of all lanes, and its quartiles; `start_seconds` pass before the first. `notes` say what was assumed."""

    median: float
    low: float
    high: float
    start_seconds: float
    notes: tuple[str, ...] = ()


def expected(hardware: Hardware, engine: Engine, lanes: LanePlan, model: str) -> Rate | str | None:
    """The rate to expect of the bundle of digest `model`; a text that says why there is none; None where nothing was measured.

    Lanes do not share anything that a bench would not have seen: their rates are added up.
    """
    found = hardware.measured
    if found is None:
        return None
    if found.model != model:
        return f"the profile was measured with another model ({found.model[:12]}, this is {model[:12]}): run scoring bench again"
    notes = [f"measured on {found.device}, {found.date}"]
    scale = lanes.count / found.lanes
    if lanes.count != found.lanes:
        notes.append(f"with {found.lanes} lane(s), taken times {scale:g}")
    if engine.kind != found.engine:
        notes.append(f"with engine={found.engine}")
    return Rate(found.rows_per_second * scale, found.low * scale, found.high * scale, found.start_seconds, tuple(notes))


def devices(lanes: LanePlan) -> float:
    """What all lanes hold together: GPUs, or cores where they have none."""
    return lanes.count * (lanes.gpus or lanes.cpus)


def price_per_hour(hardware: Hardware, lanes: LanePlan) -> float | None:
    """Of all lanes together; None where hardware.price_per_hour is not said."""
    return None if hardware.price_per_hour is None else hardware.price_per_hour * devices(lanes)
