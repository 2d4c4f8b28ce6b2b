"""Energy that this machine's processors and GPUs took while a run went on, by the counters of the hardware.

Packages and memory: RAPL, as Linux shows it under /sys/class/powercap (https://docs.kernel.org/power/powercap/powercap.html); the
counters wrap, so they are read in between. GPUs: NVML's counter of energy since the driver was loaded
(nvmlDeviceGetTotalEnergyConsumption, Volta and newer). Both count whoever else was at work there. The only file that knows NVML.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

POWERCAP = Path("/sys/class/powercap")
_EVERY_S = 20.0  # a package of 1 kW wraps its counter of 262 kJ after 260 s
_LAST_S = 1.0  # for the last reading; a driver that hangs is left behind


class Counted(Protocol):
    """A counter of energy: `name` of the device, `source` of the reading. `joules` since the last call, or since it was opened."""

    name: str
    source: str

    def joules(self) -> float: ...


class Rapl:
    """Raises: OSError or ValueError where a counter cannot be read."""

    source = "rapl"

    def __init__(self, zone: Path, name: str) -> None:
        self.name, self._file = name, zone / "energy_uj"
        self._range = int((zone / "max_energy_range_uj").read_text())
        self._last = int(self._file.read_text())

    def joules(self) -> float:
        before, self._last = self._last, int(self._file.read_text())
        grown = self._last - before
        return (grown if grown >= 0 else grown + self._range + 1) / 1e6  # it starts again from 0 after its range


class Nvml:
    """Raises: NVMLError."""

    source = "nvml"

    def __init__(self, library: Any, handle: Any, name: str) -> None:
        self.name, self._library, self._handle = name, library, handle
        self._last = library.nvmlDeviceGetTotalEnergyConsumption(handle)

    def joules(self) -> float:
        before, self._last = self._last, self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        return float(max(self._last - before, 0)) / 1e3  # mJ


@dataclass
class Opened:
    """Counters that can be read, and why others cannot."""

    counters: list[Counted]
    why: list[str]


def open_counters(root: Path = POWERCAP, gpus: bool = False) -> Opened:
    """`root` is a powercap tree. `gpus`: those that are visible to this process, too. Raises nothing."""
    opened = Opened([], [])
    zones = list(_zones(root))
    if not zones:
        opened.why.append(f"no RAPL counters in {root}")
    for zone, name in zones:
        _try(opened, name, partial(_rapl, zone, name))
    if gpus:
        _try(opened, "NVML", _nvml)
    return opened


class EnergyMeter:
    """Reads in a thread of its own from when it is made until `stop`; the end of its context only ends the reading."""

    def __init__(self, open_: Callable[[], Opened], every_s: float = _EVERY_S) -> None:
        self._open, self._every_s = open_, every_s
        self._joules: dict[str, float] = {}
        self._sources: set[str] = set()
        self._why: list[str] = []
        self._began, self._seconds = time.monotonic(), 0.0
        self._over, self._done = threading.Event(), threading.Event()
        threading.Thread(target=self._run, name="energy", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()

    def stop(self) -> dict[str, Any]:
        """For the record: `joules` by device, `seconds` they are of, `source`; and `why` where something could not be read."""
        self._over.set()
        if not self._done.wait(_LAST_S):
            self._why.append("the last reading did not come in time")
        found: dict[str, Any] = {}
        if self._joules:
            joules = {name: round(value, 3) for name, value in sorted(self._joules.items())}
            found = {"joules": joules, "seconds": round(self._seconds, 3), "source": ", ".join(sorted(self._sources))}
        return found | ({"why": "; ".join(self._why)} if self._why else {})

    def _run(self) -> None:
        opened = self._open()
        self._why += opened.why
        over = not opened.counters
        while not over:
            over = self._over.wait(self._every_s)
            for counter in list(opened.counters):
                self._read(counter, opened)
            self._seconds = time.monotonic() - self._began
        self._done.set()

    def _read(self, counter: Counted, opened: Opened) -> None:
        """A counter that cannot be read any more says too little: what it said is left out."""
        try:
            self._joules[counter.name] = self._joules.get(counter.name, 0.0) + counter.joules()
            self._sources.add(counter.source)
        except Exception as error:
            self._joules.pop(counter.name, None)
            opened.counters.remove(counter)
            self._why.append(f"{counter.name}: {_words(error)}")


def _zones(root: Path) -> Iterator[tuple[Path, str]]:
    """Packages, and memory that no package counts in. The zone psys is left out: it counts the packages again."""
    with suppress(OSError):
        for zone in sorted(root.glob("intel-rapl:*")):
            name = (zone / "name").read_text().strip()
            above = zone.name.split(":")[1]
            if name.startswith("package"):
                yield zone, name
            elif name == "dram":
                yield zone, f"dram-{above}"


def _rapl(zone: Path, name: str) -> list[Counted]:
    return [Rapl(zone, name)]


def _nvml() -> list[Counted]:
    import pynvml

    pynvml.nvmlInit()
    handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
    uuids = [str(pynvml.nvmlDeviceGetUUID(handle)) for handle in handles]
    return [Nvml(pynvml, handles[n], f"gpu-{n}") for n in chosen(os.environ.get("CUDA_VISIBLE_DEVICES"), uuids)]


def chosen(visible: str | None, uuids: list[str]) -> list[int]:
    """Places of the GPUs that CUDA_VISIBLE_DEVICES names: by place or by the start of an UUID; all where it is not set. CUDA stops
    at the first that does not exist, so do we.
    """
    if visible is None:
        return list(range(len(uuids)))
    found: list[int] = []
    for one in (part.strip() for part in visible.split(",")):
        places = [n for n, uuid in enumerate(uuids) if (one == str(n) or (one.startswith("GPU-") and uuid.startswith(one)))]
        if not places:
            break
        found.append(places[0])
    return list(dict.fromkeys(found))


def _try(opened: Opened, name: str, make: Callable[[], list[Counted]]) -> None:
    try:
        opened.counters += make()
    except Exception as error:
        opened.why.append(f"{name}: {_words(error)}")


def _words(error: Exception) -> str:
    if isinstance(error, ImportError):
        return "nvidia-ml-py is not installed"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({error.filename})" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}"
