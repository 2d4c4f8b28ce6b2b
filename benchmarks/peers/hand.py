"""The bare hand-written loop: Parquet in, scores out, two processes of one thread on half of the files each. No framework.

Nothing here checks, quarantines, resumes or publishes: the honest limit of what a framework can reach. Reading and writing have a
thread of their own each. Processes are started and hold the model before the clock. Texts of a process are embedded in one call,
because sentence-transformers sorts by length what it gets in one.
"""

from __future__ import annotations

import multiprocessing
import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from peers.forwards import Predictor, answer, inputs
from peers.task import MODULE, WORKERS, Task

WINDOW = 65_536
LATE_S = 120.0  # for a process to hold the model: one that failed is not waited for


def run(task: Task) -> float:
    """When the last row was written, seconds since the epoch."""
    start = multiprocessing.get_context("spawn")
    gate, done = start.Barrier(WORKERS, timeout=LATE_S), start.Queue()
    children = [start.Process(target=_child, args=(n, task, gate, done)) for n in range(WORKERS)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        if child.exitcode:
            raise RuntimeError(f"a process of the hand loop ended with {child.exitcode}")
    return max(done.get() for _ in children)


def module(task: Task) -> float:
    """The same, and the model is computed as it was trained."""
    return run(replace(task, kind=MODULE))


def _child(place: int, task: Task, gate: Any, done: Any) -> None:
    predictor = Predictor(task, 1)
    gate.wait()
    out = Path(task.out) / f"{place}.parquet"
    values: pa.DataType = pa.list_(pa.float32(), 384) if task.family == "text" else pa.float32()
    schema = pa.schema([("id", pa.int64()), (answer(task.family), values)])
    rows = ahead(_scored(predictor, ahead(_read(task, task.files[place::WORKERS])), schema))
    with pq.ParquetWriter(out, schema, compression="snappy", use_dictionary=False) as writer:
        for batch in rows:
            writer.write_batch(batch)
    done.put(time.time())


def _read(task: Task, files: list[Path]) -> Iterator[pa.RecordBatch]:
    wanted = ["id", *inputs(task.family)]
    if task.family == "text":
        yield pa.concat_tables(pq.read_table(path, columns=wanted) for path in files).combine_chunks().to_batches()[0]
        return
    for path in files:
        yield from pq.ParquetFile(path).iter_batches(WINDOW, columns=wanted, use_threads=False)


def _scored(predictor: Predictor, batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        found = predictor([batch[name] for name in predictor.inputs])
        yield pa.record_batch([batch["id"], arrow(found)], schema=schema)


def arrow(found: np.ndarray[Any, Any]) -> pa.Array:
    """Scores as an Arrow array, vectors as a list of fixed size."""
    flat = pa.array(np.ascontiguousarray(found).reshape(-1))
    return flat if found.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, found.shape[1])


def ahead(items: Iterator[Any], depth: int = 2) -> Iterator[Any]:
    """Run an iterator in a thread of its own; what it raises is raised here."""
    waiting: queue.Queue[Any] = queue.Queue(depth)
    end = object()

    def pump() -> None:
        try:
            for item in items:
                waiting.put(item)
            waiting.put(end)
        except BaseException as error:
            waiting.put(error)

    threading.Thread(target=pump, daemon=True).start()
    while (item := waiting.get()) is not end:
        if isinstance(item, BaseException):
            raise item
        yield item
