"""Rows scored again and kept in memory: admitted, encoded and scored as a lane does it, and nothing is staged.

On a CPU a row's score does not depend on its neighbours (`models/blocks.py`), so that a stretch of rows gets the bits that its
slice got. On a GPU batches have other sizes than then, and the bundle's tolerance is what can be promised.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from scoring import columns, ops
from scoring.admit.privacy import Privacy
from scoring.admit.rules import Positions, compile_rules
from scoring.engine import recall
from scoring.engine.capacity import on_cuda
from scoring.engine.device import Device, open_device
from scoring.engine.faults import Faults
from scoring.engine.flow import Flow, Item
from scoring.engine.scorer import LaneError, Scorer
from scoring.engine.walk import Stretch
from scoring.errors import TemporaryError
from scoring.models import Model
from scoring.models.load import load_asked
from scoring.pool import LaneKind
from scoring.settings import Job
from scoring.stores import Store


@dataclass(frozen=True)
class Again:
    """`rows` int64 (scored,) are places in the stretch, ascending; `table` has the output columns, then the carried ones, of these
    rows. `reasons` says of each other row, by place, why it has no score: "stage:rule".
    """

    rows: Positions
    table: pa.Table
    reasons: dict[int, str]


class Rescorer:
    """One model on one device. Faults that the job would inject strike no replay."""

    def __init__(self, job: Job, store: Store, kind: LaneKind, cpus: int, people: frozenset[str]) -> None:
        """`cpus` are the cores of a lane, `people` pseudonyms of those who are not scored.

        Raises:
            ModelError: the bundle does not give its golden scores here. ConfigError: the contract or its key cannot work.
        """
        torch.set_num_threads(cpus)
        if job.engine.fallback.kernel == "reference":
            ops.only_reference("engine.fallback.kernel=reference")
        self.model: Model = load_asked(job.model, "cuda" if on_cuda(kind, job.hardware) else "cpu")
        if kind == "cpu" and self.model.reentrant:  # as a lane shares its cores among slices
            torch.set_num_threads(max(1, cpus // job.engine.in_flight))
        rules = compile_rules({**self.model.inputs, **job.contract.columns}, job.contract.coerce, job.contract.rules)
        nothing = Faults()
        self._device = open_device(self.model, job.hardware, nothing) if kind == "gpu" else Device(self.model, nothing)
        made_for = (self.model.digest, self._device.name, job.engine.batch, job.engine.window_rows, self.model.unit)
        scorer = Scorer(self._device, self._stand_in, recall.opened(store, *made_for), job.engine.fallback)
        self.flow = Flow(job, self.model, rules, Privacy(job.contract, job.source.carry, people), scorer, threading.Lock())

    @property
    def device(self) -> str:
        return self._device.name

    @property
    def outputs(self) -> list[str]:
        """Names of the columns that the model gives."""
        return columns.schema(self.model.outputs).names

    def again(self, stretch: Stretch, lacking: pa.Schema) -> Again:
        """`lacking` are columns to carry that the file does not have.

        Raises:
            Broken: the file lacks columns. TemporaryError: the device cannot.
        """
        window = stretch.window
        admitted = self.flow.admit(stretch.fragment, window)
        encoded = self._device.upload(self.flow.model.encode(admitted.good))
        try:
            item = Item(stretch.fragment, window, admitted, encoded, self.flow.score(encoded))
        except LaneError as error:
            raise TemporaryError(f"{self.device} cannot score the sample: {error.message}") from None
        answered = self.flow.answered(item, lacking)
        kept = np.arange(window.batch.num_rows, dtype=np.int64) if answered.kept is None else answered.kept
        reasons = {row: f"admit:{why[0]}" for row, why in zip(admitted.bad.tolist(), admitted.reasons, strict=True)}
        failed = answered.failed.tolist()
        reasons |= {int(kept[n]): f"score:{item.scored.failed[n].split(':')[0]}" for n in failed}
        own = columns.arrays(self.model.outputs, answered.outputs)
        carried = answered.carried
        table = pa.table([*own, *carried.columns], names=[*self.outputs, *carried.schema.names])
        return Again(np.delete(kept, answered.failed), table, reasons)

    def _stand_in(self) -> Device:
        job = self.flow.job
        model = self.model if self.model.device.type == "cpu" else load_asked(job.model)
        return Device(model, Faults())
