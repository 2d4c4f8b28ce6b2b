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
    """`cpus` and `gpus` are the share of one lane."""

    count: int
    kind: LaneKind
    cpus: int
    gpus: float
    reasons: tuple[str, ...]


def measure() -> Machine:
    """This machine, now."""
    gpus = tuple(torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())) if torch.cuda.is_available() else ()
    return Machine(_cores(), _available(), gpus)


def plan(machine: Machine, hardware: Hardware, engine: Engine) -> LanePlan:
    """Lanes for a run.

    Raises:
        PlanError: it cannot work here; the message shows the sum and the settings to change.
    """
    kind, why = _kind(machine, hardware)
    if engine.kind == "inline":
        cpus = machine.cores
        return LanePlan(
            1, kind, cpus, hardware.gpus_per_lane if kind == "gpu" else 0.0, (why, "engine=inline: one lane in this process")
        )
    gpus = hardware.gpus_per_lane if kind == "gpu" and hardware.device != "simulated" else 0.0
    fits = int(len(machine.gpus) / gpus) if gpus else max(1, machine.cores // hardware.cpus_per_lane)
    count = engine.lanes or fits
    _refuse(machine, hardware, engine, count, gpus)
    counted = "engine.lanes" if engine.lanes else f"one per {f'{gpus:g} GPU' if gpus else f'{hardware.cpus_per_lane} core(s)'}"
    return LanePlan(count, kind, hardware.cpus_per_lane, gpus, (why, f"{count} lane(s): {counted}"))


def _kind(machine: Machine, hardware: Hardware) -> tuple[LaneKind, str]:
    match hardware.device:
        case "cpu":
            return "cpu", "hardware.device=cpu"
        case "simulated":
            return "gpu", "hardware.device=simulated: a GPU that computes on the CPU"
        case "cuda" if not machine.gpus:
            raise PlanError("hardware.device=cuda, but this machine has no usable GPU. Use hardware=auto or hardware=cpu.")
        case "cuda":
            return "gpu", "hardware.device=cuda"
        case _ if machine.gpus:
            return "gpu", f"hardware.device=auto: found {len(machine.gpus)} GPU(s)"
        case _:
            return "cpu", "hardware.device=auto: no usable GPU found"


def _refuse(machine: Machine, hardware: Hardware, engine: Engine, count: int, gpus: float) -> None:
    if engine.address != "local":
        return  # a cluster's resources are Ray's to count; the start deadline owns that failure
    cores, memory = count * hardware.cpus_per_lane, count * hardware.memory_per_lane_gb
    if cores > machine.cores:
        raise PlanError(
            f"{count} lanes x {hardware.cpus_per_lane} cores = {cores} cores, this machine has {machine.cores}. "
            "Lower engine.lanes or hardware.cpus_per_lane."
        )
    if gpus and count * gpus > len(machine.gpus):
        raise PlanError(
            f"{count} lanes x {gpus:g} GPU = {count * gpus:g} GPUs, this machine has {len(machine.gpus)}. "
            "Lower engine.lanes or hardware.gpus_per_lane."
        )
    if memory * GB > machine.memory_bytes:
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
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
        return free if limit == "max" else min(free, int(limit) - used)
    except (OSError, ValueError):
        return free
