"""How many lanes, of which kind, with which share, on this machine; every choice with its reason, refusals with the arithmetic."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from scoring.errors import PlanError
from scoring.pool import LaneKind
from scoring.settings import Engine, Hardware

GB = 1e9


@dataclass(frozen=True)
class Machine:
    """What there is. `cores` are those this process may use (affinity and cgroup), `memory_bytes` what is available now."""

    cores: int
    memory_bytes: int
    gpus: tuple[str, ...]


@dataclass(frozen=True)
class LanePlan:
    """`cpus`, `gpus` and `memory_gb` (host memory, estimated) are the share of one lane."""

    count: int
    kind: LaneKind
    cpus: int
    gpus: float
    memory_gb: float
    reasons: tuple[str, ...]


def on_cuda(kind: LaneKind, hardware: Hardware) -> bool:
    """Whether lanes of this kind compute on a GPU: a simulated one computes on the CPU."""
    return kind == "gpu" and hardware.device != "simulated"


def measure() -> Machine:
    """This machine, now."""
    gpus = tuple(torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())) if torch.cuda.is_available() else ()
    return Machine(_cores(), _available(), gpus)


def plan(machine: Machine, hardware: Hardware, engine: Engine) -> LanePlan:
    """Lanes for a run: as many as asked for, or else as many as fit.

    Raises:
        PlanError: it cannot work here; the message shows the sum and the settings to change.
    """
    kind, why = _kind(machine, hardware, engine)
    gpus = hardware.gpus_per_lane if on_cuda(kind, hardware) else 0.0
    if engine.kind == "inline":
        reasons = (why, "engine=inline: one lane in this process, with all cores")
        return LanePlan(1, kind, machine.cores, gpus, hardware.memory_per_lane_gb, reasons)
    if gpus > 1 and gpus != int(gpus):
        raise PlanError(f"hardware.gpus_per_lane is {gpus:g}. A lane has whole GPUs or a part of one: say 1, 2, … or less than 1.")
    fits = _fits(machine, hardware, gpus)
    count, counted = (engine.lanes, "engine.lanes") if engine.lanes else _all_that_fit(machine, hardware, fits)
    if engine.address == "local":
        _refuse(machine, hardware, count, gpus, fits)
    elif not engine.lanes:  # a cluster's resources are Ray's to count; the start deadline owns that failure
        counted += "; that is this machine, not the cluster: say engine.lanes=… for more"
    return LanePlan(count, kind, hardware.cpus_per_lane, gpus, hardware.memory_per_lane_gb, (why, f"{count} lane(s): {counted}"))


def _fits(machine: Machine, hardware: Hardware, gpus: float) -> dict[str, int]:
    """How many lanes each resource has room for. A part of a GPU lies on one GPU: two GPUs hold two lanes of 0.6, not three."""
    rooms = {
        "cores": machine.cores // hardware.cpus_per_lane,
        "memory": int(machine.memory_bytes / GB / hardware.memory_per_lane_gb),
    }
    if gpus:
        rooms["GPUs"] = len(machine.gpus) // int(gpus) if gpus >= 1 else len(machine.gpus) * int(1 / gpus + 1e-9)
    return rooms


def _all_that_fit(machine: Machine, hardware: Hardware, fits: dict[str, int]) -> tuple[int, str]:
    """At least one, which may still be refused; and which resource says so."""
    scarce = min(fits, key=lambda name: (fits[name], name != "GPUs", name != "cores"))
    shares = {
        "GPUs": f"{hardware.gpus_per_lane:g} GPU(s) each, there are {len(machine.gpus)}",
        "cores": f"{hardware.cpus_per_lane} core(s) each, there are {machine.cores}",
        "memory": f"{hardware.memory_per_lane_gb:g} GB of memory each, {machine.memory_bytes / GB:.1f} GB are free",
    }
    return max(1, fits[scarce]), shares[scarce]


def _kind(machine: Machine, hardware: Hardware, engine: Engine) -> tuple[LaneKind, str]:
    elsewhere = engine.kind == "ray" and engine.address != "local" and engine.lanes is not None
    match hardware.device:
        case "cpu":
            return "cpu", "hardware.device=cpu"
        case "simulated":
            return "gpu", "hardware.device=simulated: a GPU that computes on the CPU"
        case "cuda" if not machine.gpus and not elsewhere:
            raise PlanError("hardware.device=cuda, but this machine has no usable GPU. Use hardware=auto or hardware=cpu.")
        case "cuda":
            return "gpu", "hardware.device=cuda"
        case _ if machine.gpus:
            return "gpu", f"hardware.device=auto: found {len(machine.gpus)} GPU(s)"
        case _:
            return "cpu", "hardware.device=auto: no usable GPU found"


def _refuse(machine: Machine, hardware: Hardware, count: int, gpus: float, fits: dict[str, int]) -> None:
    cores, memory = count * hardware.cpus_per_lane, count * hardware.memory_per_lane_gb
    if count > fits["cores"]:
        raise PlanError(
            f"{count} lanes x {hardware.cpus_per_lane} cores = {cores} cores, this machine has {machine.cores}. "
            "Lower engine.lanes or hardware.cpus_per_lane."
        )
    if gpus and count > fits["GPUs"]:
        raise PlanError(
            f"{count} lanes x {gpus:g} GPU = {count * gpus:g} GPUs, "
            f"this machine has {len(machine.gpus)} with room for {fits['GPUs']} lanes. "
            "Lower engine.lanes or hardware.gpus_per_lane."
        )
    if count > fits["memory"]:
        raise PlanError(
            f"{count} lanes x {hardware.memory_per_lane_gb:g} GB = {memory:g} GB of memory, "
            f"{machine.memory_bytes / GB:.1f} GB are free. "
            "Lower engine.lanes or hardware.memory_per_lane_gb."
        )


def _cores() -> int:
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return allowed if quota == "max" else max(1, min(allowed, int(quota) // int(period)))
    except (OSError, ValueError):
        return allowed


def _available() -> int:
    facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line)
    free = int(facts["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        cache = int(stat["active_file"]) + int(stat["inactive_file"])  # counted as used, and given back when needed
        used = int((group / "memory.current").read_text()) - cache
        return free if limit == "max" else min(free, int(limit) - used)
    except (OSError, ValueError, KeyError):
        return free
