"""The job as a careful user of Ray Data writes it: read_parquet, map_batches over a pool of actors, write_parquet.

After https://docs.ray.io/en/latest/data/performance-tips.html (columns are pruned at the read, blocks are large, reads of one file
are split where there are fewer files than workers), https://docs.ray.io/en/latest/data/api/doc/ray.data.Dataset.map_batches.html
(a class is loaded once in each actor of an ActorPoolStrategy; batch_format="pyarrow" is handed over without a copy). Two actors of
half a CPU leave one of two cores for reading and writing tasks: with one CPU each nothing is left to read with.

A dataset below 128 MiB is one block, for one actor, and the reader that is Ray 2.60's default passes over override_num_blocks:
such datasets are read by the one before, in four blocks, each of which is a batch. One run of each: 50,000 rows by LightGBM 36,700
rows/s in two blocks, 39,400 in four, 10,600 in 16; 600 mixed texts 69, 110 and 31 (few texts at a time are padded to the longest).
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pyarrow as pa
from peers.forwards import Predictor, answer, inputs
from peers.hand import arrow
from peers.task import BATCH, MODULE, WORKERS, Task

BLOCKS = 4
MANY_ROWS = 2_000_000  # of tables: more than 128 MiB


class Scorer:
    """An actor."""

    def __init__(self, task: str) -> None:
        self._task = Task.read(task)
        self._predictor = Predictor(self._task, 1)

    def __call__(self, batch: Any) -> Any:
        family = self._task.family
        found = self._predictor([batch[name] for name in self._predictor.inputs])
        values = arrow(found) if isinstance(batch, pa.Table) else found
        both = {"id": batch["id"], answer(family): values}
        return pa.table(both) if isinstance(batch, pa.Table) else both


def run(task: Task, batch_format: str = "pyarrow") -> float:
    import ray
    import ray.data

    ray.init(address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    settings = ray.data.DataContext.get_current()
    settings.enable_progress_bars = False
    settings.use_datasource_v2 = many = task.family == "tabular" and task.rows >= MANY_ROWS
    columns, blocks = ["id", *inputs(task.family)], None if many else BLOCKS
    given: Any = ray.data.read_parquet(task.data, columns=columns, override_num_blocks=blocks)
    scores = given.map_batches(
        Scorer,
        fn_constructor_args=(task.written(),),
        compute=ray.data.ActorPoolStrategy(size=WORKERS),
        num_cpus=0.5,
        batch_size=BATCH[task.family] if many else None,
        batch_format=batch_format,
    )
    scores.write_parquet(task.out)
    return time.time()


def module(task: Task) -> float:
    """As the examples of its documentation have it: the default format of batches, and the model as it was trained."""
    return run(replace(task, kind=MODULE), "numpy")
