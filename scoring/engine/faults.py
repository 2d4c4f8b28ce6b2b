"""Faults on demand, by configuration, so that every rung of the ladder runs on a machine without a GPU.

A site is a name in the code ("read", "device", "stage.before_link", …). Costs one dict look-up per site when nothing is configured.
"""

import errno
import os
import signal
import threading
from collections.abc import Iterable
from pathlib import Path

import torch

from scoring import ops
from scoring.settings import Fault


class StickyDeviceError(RuntimeError):
    """Injected stand-in for a CUDA error after which every call of the process fails."""


class DeviceLostError(RuntimeError):
    """The device is gone: fallen off the bus, or taken away."""


class Faults:
    """The faults of one lane. Thread-safe; slices are counted from 0 in the order in which the lane begins them."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._by_site: dict[str, list[Fault]] = {}
        for fault in faults:
            self._by_site.setdefault(fault.site, []).append(fault)
        self._slices = -1

    def next_slice(self) -> None:
        self._slices += 1

    def hit(self, site: str, rows: int = 0) -> None:
        """Strike if a fault is configured here. `rows` counts the items of the batch at hand."""
        for fault in self._by_site.get(site, ()):
            if fault.slice_nth not in (None, self._slices) or rows < fault.rows_over:
                continue
            if fault.once is None or _first(fault.once):
                _strike(fault)


def _first(marker: str) -> bool:
    """Whether this call created the marker file: survives the death of the process that struck."""
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _strike(fault: Fault) -> None:
    match fault.kind:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "oom":
            raise torch.OutOfMemoryError(f"injected at {fault.site}")
        case "sticky":
            raise StickyDeviceError(f"CUDA error: injected at {fault.site}")
        case "kernel":
            raise ops.kernel_error(f"injected at {fault.site}")
        case "lost":
            raise DeviceLostError(f"injected at {fault.site}")
        case "raise":
            raise ValueError(f"injected at {fault.site}")
        case "disk-full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), fault.site)
        case "hang":
            threading.Event().wait()
