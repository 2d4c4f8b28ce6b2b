"""How a kernel is launched: a few configurations, all compiled and looked at ahead, one chosen for each device.

Nothing is timed while a job runs: two lanes that time for themselves may choose differently, and then a retry would not give the
same bits. `make gpu-check` times the configurations and writes the best into `kernels/tuned/<device>.json`; without such a file
the first one is taken.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

FOLDER = Path(__file__).parents[1] / "tuned"
Places = dict[str, dict[str, int]]  # kernel -> key -> place in its CONFIGS
_forced: list[int | None] = [None]
_told: list[Places | None] = [None]
picked: set[tuple[str, str]] = set()  # kernel and key of every launch of this process: what a case is tuned by


@dataclass(frozen=True)
class Config:
    """Block sizes by the names that the kernel gives them, warps of a program, and stages of its loops."""

    blocks: tuple[tuple[str, int], ...]
    warps: int = 4
    stages: int = 2

    def options(self) -> dict[str, int]:
        """Keyword arguments of a launch."""
        return {**dict(self.blocks), "num_warps": self.warps, "num_stages": self.stages}


def pick(kernel: str, key: str, configs: Sequence[Config], device: torch.device) -> Config:
    """`key` names the class of shapes ("d64") that `configs` are for."""
    picked.add((kernel, key))
    if _forced[0] is not None:
        return configs[min(_forced[0], len(configs) - 1)]
    if _told[0] is None and device.type != "cuda":
        return configs[0]
    places = _tuned(torch.cuda.get_device_name(device)) if _told[0] is None else _told[0]
    place = places.get(kernel, {}).get(key, 0)
    return configs[place if 0 <= place < len(configs) else 0]


@contextmanager
def only(place: int) -> Iterator[None]:
    """Within this, every kernel takes its configuration of this number, or its last one."""
    before, _forced[0] = _forced[0], place
    try:
        yield
    finally:
        _forced[0] = before


@contextmanager
def chosen(places: Places) -> Iterator[None]:
    """Within this, kernels are launched as `places` says instead of the device's file, and with their first one elsewhere."""
    before, _told[0] = _told[0], places
    try:
        yield
    finally:
        _told[0] = before


def slug(device_name: str) -> str:
    """File name of a device: "NVIDIA H100 80GB HBM3" -> "nvidia-h100-80gb-hbm3"."""
    return "-".join(device_name.lower().split())


@cache
def _tuned(device_name: str) -> Places:
    path = FOLDER / f"{slug(device_name)}.json"
    found: Places = json.loads(path.read_text()) if path.is_file() else {}
    return found
