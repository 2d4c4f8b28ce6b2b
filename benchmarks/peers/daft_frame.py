"""The job as a careful user of Daft writes it: read_parquet, a class with a batch method, write_parquet; the native runner.

After https://docs.daft.ai/en/stable/custom-code/cls/ : a class that is loaded once per worker, max_concurrency for the number of
workers, use_process so that workers do not share one interpreter, a batch method over Series with a batch_size.
"""

from __future__ import annotations

import time
from dataclasses import replace

import daft
from peers.forwards import Predictor, answer, inputs
from peers.hand import arrow
from peers.task import BATCH, MODULE, WORKERS, Task


def scorer(family: str, rows: int) -> type:
    """A class for one dataset: batch size and type of the answer belong to its method. Few rows are batches for both workers."""
    one = daft.DataType.float32()
    values = daft.DataType.fixed_size_list(one, 384) if family == "text" else one

    @daft.cls(max_concurrency=WORKERS, use_process=True)
    class Scorer:
        def __init__(self, task: str) -> None:
            self._predictor = Predictor(Task.read(task), 1)

        @daft.method.batch(return_dtype=values, batch_size=min(BATCH[family], max(1, rows // 16)))
        def score(self, *columns: daft.Series) -> object:
            return arrow(self._predictor([column.to_arrow() for column in columns]))

    return Scorer


def run(task: Task) -> float:
    frame = daft.read_parquet(f"{task.data}/*.parquet")
    model = scorer(task.family, task.rows)(task.written())
    scored = model.score(*(frame[name] for name in inputs(task.family))).alias(answer(task.family))
    frame.select(frame["id"], scored).write_parquet(task.out)
    return time.time()


def module(task: Task) -> float:
    """The same, and the model is computed as it was trained."""
    return run(replace(task, kind=MODULE))
