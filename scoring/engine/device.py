"""One device under one interface: move tensors there, run the model, bring float32 back; and what its errors mean.

Knows torch; does not know rows, slices or policy. On CUDA, uploads run on a stream of their own from pinned memory, so that the
next window travels while this one computes. `simulated` computes on the CPU but behaves like a GPU with a memory limit.
"""

from __future__ import annotations

import errno
from typing import Literal

import numpy as np
import torch

from scoring import ops
from scoring.engine.faults import DeviceLostError, Faults, StickyDeviceError
from scoring.errors import told, unseen
from scoring.models import Encoded, Model
from scoring.settings import Hardware
from scoring.types import Route

Fate = Literal["memory", "sticky", "lost", "disk", "kernel", "row"]
_LOST = (
    "no CUDA-capable device",
    "device(s) is/are busy or unavailable",
    "GPU is lost",
    "fallen off the bus",
    "device unavailable",
)


def fate(error: BaseException) -> Fate:
    """What an error from the device means: too big, process unusable, device gone, disk full, or the rows' own fault.

    CUDA errors other than out-of-memory are sticky: the context is corrupt and the process must go (CUDA runtime API, error codes).
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error):
        return "memory"
    if ops.kernel_failed(error):
        return "kernel"
    if isinstance(error, DeviceLostError) or any(text in str(error) for text in _LOST):
        return "lost"
    if isinstance(error, (StickyDeviceError, torch.AcceleratorError)) or "CUDA error" in str(error):
        return "sticky"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk"
    return "row"


def told_of(error: BaseException) -> str:
    """What may be told of an error of the device. A model may put a row into its own: of those, type and place alone."""
    ours = isinstance(error, (torch.OutOfMemoryError, torch.AcceleratorError, StickyDeviceError, DeviceLostError))
    return f"{type(error).__name__}: {told(error)}" if ours or ops.kernel_failed(error) else unseen(error)


class Device:
    """Where a model runs. `route` is what rows scored here are reported as."""

    route: Route = "cpu"

    def __init__(self, model: Model, faults: Faults) -> None:
        self.model = model
        self._faults = faults

    @property
    def name(self) -> str:
        return "cpu"

    def upload(self, rows: Encoded) -> Encoded:
        return rows

    def forward(self, rows: Encoded) -> np.ndarray:
        """Scores, float32 (items, sum of widths), in host memory.

        Raises: whatever the model or the device raises; ask `fate` what it means.
        """
        self._faults.hit("device", rows.rows)
        with torch.inference_mode():
            return self.model.forward(rows.to(self.model.device)).cpu().numpy()


class SimulatedDevice(Device):
    """`limit`: a batch that costs more, in the model's units, does not fit; 0: any fits."""

    route: Route = "gpu"

    def __init__(self, model: Model, faults: Faults, limit: int) -> None:
        super().__init__(model, faults)
        self._limit = limit

    @property
    def name(self) -> str:
        return "simulated"

    def forward(self, rows: Encoded) -> np.ndarray:
        if self._limit and (cost := rows.cost(0, rows.rows)) > self._limit:
            raise torch.OutOfMemoryError(f"{cost} {self.model.unit} on a simulated device that holds {self._limit}")
        self._faults.hit("gpu", rows.rows)
        return super().forward(rows)


class CudaDevice(Device):
    route: Route = "gpu"

    def __init__(self, model: Model, faults: Faults) -> None:
        super().__init__(model, faults)
        self._copies = torch.cuda.Stream(model.device)  # type: ignore[no-untyped-call]

    @property
    def name(self) -> str:
        return torch.cuda.get_device_name(self.model.device)

    def upload(self, rows: Encoded) -> Encoded:
        """Start the copy and wait for it on this thread only: the computing thread goes on with the window before."""
        try:
            with torch.cuda.stream(self._copies):
                there = rows.to(self.model.device)
            self._copies.synchronize()
        except torch.OutOfMemoryError:
            return rows.to(torch.device("cpu"))  # batches of it go over one by one, in sizes that fit
        except Exception as error:
            if not ops.kernels_given_up(error):
                raise
            return self.upload(rows)
        return there


def open_device(model: Model, hardware: Hardware, faults: Faults) -> Device:
    if model.device.type == "cuda":
        return CudaDevice(model, faults)
    if hardware.device == "simulated":
        return SimulatedDevice(model, faults, hardware.simulated_rows)
    return Device(model, faults)
