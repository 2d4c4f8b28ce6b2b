"""What needs no framework: the library itself on data in memory. Nothing is read or written while the clock runs.

library, library-1   LightGBM's and XGBoost's predict on a float32 matrix with two threads, or one; num_threads and nthread as
                     https://lightgbm.readthedocs.io/en/latest/Parameters.html and
                     https://xgboost.readthedocs.io/en/stable/prediction.html say (inplace_predict: no DMatrix is made)
encode               sentence_transformers.encode on a list of texts in one process with both cores, after
                     https://sbert.net/docs/sentence_transformer/usage/efficiency.html; its ONNX and OpenVINO are not measured
encode-bf16          the same with model_kwargs={"dtype": torch.bfloat16}
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from peers.forwards import Predictor, answer
from peers.hand import arrow
from peers.task import BF16, WORKERS, Marks, Task


def library(task: Task, threads: int = WORKERS) -> float:
    from peers.forwards import library as opened
    from peers.forwards import matrix

    table = _in_order(task)
    x, predict = matrix(table.drop(["id"]).columns), opened(task.kind, Path(task.model), threads)
    predict(x[:1000])
    Marks(task.marks).ready()
    found = predict(x)
    ended = time.time()
    return _kept(task, table, found.astype(np.float32), ended)


def library_1(task: Task) -> float:
    return library(task, 1)


def encode(task: Task) -> float:
    table, predictor = _in_order(task), Predictor(task, WORKERS)
    Marks(task.marks).ready()
    found = predictor([table["text"]])
    return _kept(task, table, found, time.time())


def encode_bf16(task: Task) -> float:
    return encode(replace(task, kind=BF16))


def _in_order(task: Task) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in task.files)


def _kept(task: Task, table: pa.Table, found: np.ndarray[Any, Any], ended: float) -> float:
    pq.write_table(pa.table({"id": table["id"], answer(task.family): arrow(found)}), Path(task.out) / "0.parquet")
    return ended
