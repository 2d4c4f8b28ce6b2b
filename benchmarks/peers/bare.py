"""The bare limit of our own models: nothing is read or written while the clock runs.

forest   our encoding and our trees on Arrow batches in memory, with two threads
text     our packed forward on tokens that were made before, in two processes of one core; and, at the same time on the same cores,
         the rate of the encoder's largest matrix product, which bounds it
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from peers.hand import arrow
from peers.task import WORKERS, Marks, Task

from scoring.models.load import load

WINDOW_ROWS = 65_536  # of ours; the default of batching


def run(task: Task) -> dict[str, float]:
    return {"text": text, "forest": forest}[task.family](task)


def forest(task: Task) -> dict[str, float]:
    torch.set_num_threads(WORKERS)
    table = pa.concat_tables(pq.read_table(path) for path in task.files).combine_chunks()
    model = load(task.bundle)
    batches = table.select(list(model.inputs)).to_batches(WINDOW_ROWS)
    model.forward(model.encode(batches[0].slice(0, 1000)))
    Marks(task.marks).ready()
    found = [model.forward(model.encode(batch)) for batch in batches]
    ended = time.time()
    names = [output.name for output in model.outputs]
    place = names.index("probability_1") if "probability_1" in names else 0
    scores = torch.cat(found)[:, place].numpy()
    pq.write_table(pa.table({"id": table["id"], "score": arrow(scores)}), Path(task.out) / "0.parquet")
    return {"ended": ended}


def text(task: Task) -> dict[str, float]:
    """The slower of the two processes counts."""
    context = multiprocessing.get_context("spawn")
    barrier, found = context.Barrier(WORKERS), context.Queue()
    workers = [context.Process(target=_half, args=(task, part, barrier, found)) for part in range(WORKERS)]
    for worker in workers:
        worker.start()
    answers = [found.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join()
    seconds, flops, product = (sum(a[k] for a in answers) for k in range(3))
    slowest = max(a[0] for a in answers)
    share = flops / seconds / (product / WORKERS)
    return {"ended": time.time(), "rate": task.rows / slowest, "gemm_gflops": product / 1e9, "of_gemm_rate": share}


def _half(task: Task, part: int, barrier: Any, found: Any) -> None:
    torch.set_num_threads(1)
    model = load(task.bundle)
    table = pa.concat_tables(pq.read_table(path) for path in task.files[part::WORKERS]).combine_chunks()
    batches = table.select(["text"]).to_batches(max(1, table.num_rows // 8))
    windows = [model.encode(batch) for batch in batches]
    model.forward(windows[0])
    lengths = np.concatenate([np.diff(window.offsets.numpy()) for window in windows]).astype(np.int64)
    flops = float(6 * (2 * lengths.sum() * (4 * 384 * 384 + 2 * 384 * 1536) + 4 * (lengths**2).sum() * 384))
    barrier.wait()
    rates = [_product_rate()]
    barrier.wait()
    Marks(task.marks).ready()
    began = time.perf_counter()
    vectors = [model.forward(window) for window in windows]
    seconds = time.perf_counter() - began
    rates.append(_product_rate())
    of_rows = [found if window.order is None else found[window.order] for found, window in zip(vectors, windows, strict=True)]
    both = pa.table({"id": table["id"], "embedding": arrow(torch.cat(of_rows).numpy())})
    pq.write_table(both, Path(task.out) / f"{part}.parquet")
    found.put((seconds, flops, statistics.mean(rates)))


def _product_rate() -> float:
    """FLOP/s of (1024, 384) x (384, 1536) on this core."""
    x, weight, bias = torch.randn(1024, 384), torch.randn(1536, 384), torch.randn(1536)
    seconds = []
    for _ in range(40):
        began = time.perf_counter()
        torch.nn.functional.linear(x, weight, bias)
        seconds.append(time.perf_counter() - began)
    return 2 * 1024 * 384 * 1536 / statistics.median(seconds)
