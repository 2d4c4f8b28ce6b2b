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
_forced: list[int | None] = [None]


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
    if _forced[0] is not None:
        return configs[min(_forced[0], len(configs) - 1)]
    if device.type != "cuda":
        return configs[0]
    place = _tuned(torch.cuda.get_device_name(device)).get(kernel, {}).get(key, 0)
    return configs[place if 0 <= place < len(configs) else 0]


@contextmanager
def only(place: int) -> Iterator[None]:
    """Within this, every kernel takes its configuration of this number, or its last one."""
    before, _forced[0] = _forced[0], place
    try:
        yield
    finally:
        _forced[0] = before


def slug(device_name: str) -> str:
    """File name of a device: "NVIDIA H100 80GB HBM3" -> "nvidia-h100-80gb-hbm3"."""
    return "-".join(device_name.lower().split())


@cache
def _tuned(device_name: str) -> dict[str, dict[str, int]]:
    path = FOLDER / f"{slug(device_name)}.json"
    found: dict[str, dict[str, int]] = json.loads(path.read_text()) if path.is_file() else {}
    return found
