"""What the machine is and what it reaches: the ceilings that kernels are held against, measured by plain copies and products."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from gpu import clock
from gpu.place import Place
from gpu.record import Event, Recorder

SECONDS = 40
LIBRARIES = ("torch", "triton", "numpy", "pyarrow")
ASKED = "driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.draw,temperature.gpu,utilization.gpu"


def run(recorder: Recorder, kernels: list[str], place: Place) -> None:
    del kernels
    recorder.attempt(lambda: _machine(place), SECONDS, check="machine")
    size = 1 << (20 if place.rehearsal else 30)
    recorder.attempt(lambda: _copy(place, size), SECONDS, check="copy")
    recorder.attempt(lambda: _across(place, size // 4), SECONDS, check="pcie")
    for dtype in (torch.bfloat16, torch.float32):
        recorder.attempt(
            lambda dtype=dtype: _product(place, dtype, 128 if place.rehearsal else 8192), SECONDS, check=f"matmul {str(dtype)[6:]}"
        )


def _machine(place: Place) -> Event:
    found: dict[str, Any] = {name: _version(name) for name in LIBRARIES}
    found |= {"python": platform.python_version(), "cores": len(os.sched_getaffinity(0)), "linux": platform.release()}
    if place.rehearsal:
        return found | {"device": "rehearsal-cpu"}
    of = torch.cuda.get_device_properties(0)
    found |= {"device": of.name, "multiprocessors": of.multi_processor_count, "memory_bytes": of.total_memory}
    return found | {"l2_bytes": of.L2_cache_size, "capability": f"{of.major}.{of.minor}", "cuda": torch.version.cuda} | _driver()


def _driver() -> dict[str, str]:
    """What nvidia-smi says just now; clocks of an idle GPU are low."""
    command = ["nvidia-smi", f"--query-gpu={ASKED}", "--format=csv,noheader", "--id=0"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
        return dict(zip(ASKED.split(","), (word.strip() for word in done.strip().split(",")), strict=True))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return {"nvidia-smi": str(error)[:200]}


def _copy(place: Place, size: int) -> Event:
    """Bytes read and written."""
    source, target = torch.randint(256, (size,), dtype=torch.uint8, device=place.device), None
    target = torch.empty_like(source)
    return _rate(lambda: target.copy_(source), place, 2 * size)


def _across(place: Place, size: int) -> Event:
    """Between pinned host memory and the device, each way alone."""
    host = torch.randint(256, (size,), dtype=torch.uint8)
    host = host.pin_memory() if place.cuda else host
    there = torch.empty(size, dtype=torch.uint8, device=place.device)
    into = _rate(lambda: there.copy_(host, non_blocking=True), place, size)
    back = _rate(lambda: host.copy_(there, non_blocking=True), place, size)
    return {"to_device": into["per_second"], "to_host": back["per_second"], "n": into["n"]}


def _product(place: Place, dtype: torch.dtype, size: int) -> Event:
    """Random values: zeros would need less power and run faster. float32 as torch does it by default, without TF32."""
    left, right = (torch.randn(size, size, device=place.device).to(dtype) for _ in range(2))
    return _rate(lambda: left @ right, place, 2 * size**3)


def _rate(work: Any, place: Place, amount: float) -> Event:
    took = clock.one(work, place.cuda, clock.ROUNDS)
    return {"per_second": amount / took["seconds"], "n": took["n"]}


def _version(name: str) -> str:
    if (module := sys.modules.get(name)) is not None and hasattr(module, "__version__"):
        return str(module.__version__)
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
