"""The honest limit of the spine benchmark: Parquet in, scores out, by loops written for this one model. No framework.

Nothing here checks, quarantines, resumes or publishes. Variants:
    careful    Polars read in a thread, one C-ordered matrix, fused embedding gather, blocks that stay in cache, writer thread
    folded     the same with first-layer tables computed ahead, straight from Arrow buffers (what the tabular family does at load)
    plain      pyarrow, one thread, whole batches: what most people write first
Each also runs as two processes on half of the files each (--processes 2), which is how two cores are used best.

    python benchmarks/spine_hand.py --rows 4000000 --variant folded --processes 2
    python benchmarks/spine_hand.py --rows 1000000 --split          where the time goes, in core-seconds per million rows

The last line is one JSON object. Rows per second count from the first file to the last score written, start-up apart.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import queue
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file
from spine_data import CATEGORIES, NUMBERS, WORDS, layout, repeated, write_data, write_model

BLOCK = 2_048
WINDOW = 65_536
COLUMNS = ["id", *NUMBERS, *CATEGORIES]


class Weights:
    """The benchmark's model, as bare tensors."""

    def __init__(self, bundle: Path) -> None:
        w = load_file(bundle / "weights.safetensors")
        self.w = [w[f"top.{n}.weight"].t().contiguous() for n in (0, 2, 4)]
        self.b = [w[f"top.{n}.bias"] for n in (0, 2, 4)]
        tables = [w[f"embeddings.{k}.weight"] for k in range(len(CATEGORIES))]
        self.embedding = torch.cat(tables)
        self.mean = np.array([n.mean for n in layout().numeric], np.float32)
        self.fill = self.mean  # the imputed value, centred, is 0
        self.inverse = torch.tensor([1 / n.scale for n in layout().numeric])
        first = self.w[0]
        self.numbers = (first[:16] * self.inverse[:, None]).contiguous()
        self.folded = torch.cat([t @ first[16 + 8 * k : 24 + 8 * k] + (self.b[0] if k == 0 else 0) for k, t in enumerate(tables)])
        self.starts = torch.arange(len(CATEGORIES), dtype=torch.int32) * (WORDS + 1) + 1
        self.bags = torch.arange(BLOCK + 1, dtype=torch.int32) * len(CATEGORIES)

    def top(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = torch.addmm(self.b[1], hidden.relu_(), self.w[1]).relu_()
        return torch.addmm(self.b[2], hidden, self.w[2]).sigmoid_()


def careful(weights: Weights, frame: pl.DataFrame | pa.RecordBatch) -> np.ndarray[Any, Any]:
    """One C-ordered matrix (rows, 48) per block, embeddings gathered for all four columns at once."""
    frame = frame if isinstance(frame, pl.DataFrame) else pl.DataFrame(pa.Table.from_batches([frame]))
    filled = frame.select(*(pl.col(n).fill_null(m) for n, m in zip(NUMBERS, weights.mean.tolist(), strict=True)))
    numbers = torch.from_numpy(filled.to_numpy(order="c"))
    ids = torch.from_numpy(frame.select(CATEGORIES).to_numpy(order="c").astype(np.int32)) + weights.starts
    out, matrix = torch.empty(frame.height, 1), torch.empty(BLOCK, 48)
    mean = torch.from_numpy(weights.mean)
    for start in range(0, frame.height, BLOCK):
        block = numbers[start : start + BLOCK]
        x = matrix[: len(block)]
        torch.sub(block, mean, out=x[:, :16]).mul_(weights.inverse)
        x[:, 16:] = F.embedding(ids[start : start + BLOCK], weights.embedding).view(-1, 32)
        out[start : start + BLOCK] = weights.top(torch.addmm(weights.b[0], x, weights.w[0]))
    return out.numpy()[:, 0]


def folded(weights: Weights, batch: pl.DataFrame | pa.RecordBatch) -> np.ndarray[Any, Any]:
    numbers, ids = encode(weights, batch)
    return forward(weights, numbers, ids)


def encode(weights: Weights, batch: pl.DataFrame | pa.RecordBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns as they lie: (16, rows) and (4, rows)."""
    numbers = np.empty((len(NUMBERS), len(batch)), np.float32)
    ids = np.empty((len(CATEGORIES), len(batch)), np.int32)
    for out, name, mean in zip(numbers, NUMBERS, weights.mean, strict=True):
        values, gone = view(batch, name)
        np.subtract(values, mean, out=out)
        if gone is not None:
            out[np.flatnonzero(gone)] = 0
    for out, name in zip(ids, CATEGORIES, strict=True):
        np.copyto(out, view(batch, name)[0], casting="unsafe")
    return torch.from_numpy(numbers), torch.from_numpy(ids)


def view(batch: pl.DataFrame | pa.RecordBatch, name: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    column = batch[name] if isinstance(batch, pa.RecordBatch) else batch[name].to_arrow()
    validity, data = column.buffers()
    dtype = np.dtype(column.type.to_pandas_dtype())
    values = np.frombuffer(data, dtype, len(column), column.offset * dtype.itemsize)
    if not column.null_count:
        return values, None
    bits = np.frombuffer(validity, np.uint8, (column.offset % 8 + len(column) + 7) // 8, column.offset // 8)
    valid = np.unpackbits(bits, bitorder="little")[column.offset % 8 : column.offset % 8 + len(column)]
    return values, valid == 0


def forward(weights: Weights, numbers: torch.Tensor, ids: torch.Tensor) -> np.ndarray[Any, Any]:
    rows = numbers.shape[1]
    out, places = torch.empty(rows, 1), torch.empty(BLOCK, len(CATEGORIES), dtype=torch.int32)
    for start in range(0, rows, BLOCK):
        x = numbers[:, start : start + BLOCK].t()
        p = torch.add(ids[:, start : start + BLOCK].t(), weights.starts, out=places[: len(x)])
        hidden = F.embedding_bag(p.view(-1), weights.folded, weights.bags[: len(x)], mode="sum")
        out[start : start + BLOCK] = weights.top(hidden.addmm_(x, weights.numbers))
    return out.numpy()[:, 0]


def plain(weights: Weights, batch: pa.RecordBatch) -> np.ndarray[Any, Any]:
    numbers = np.stack([batch[n].fill_null(float(m)).to_numpy() for n, m in zip(NUMBERS, weights.mean, strict=True)], 1)
    ids = np.stack([batch[c].to_numpy() for c in CATEGORIES], 1).astype(np.int32)
    dense = (torch.from_numpy(numbers) - torch.from_numpy(weights.mean)) * weights.inverse
    vectors = F.embedding(torch.from_numpy(ids) + weights.starts, weights.embedding).view(-1, 32)
    return weights.top(torch.addmm(weights.b[0], torch.cat([dense, vectors], 1), weights.w[0])).numpy()[:, 0]


def by_arrow(files: list[Path]) -> Iterator[pa.RecordBatch]:
    for path in files:
        yield from pq.ParquetFile(path).iter_batches(WINDOW, columns=COLUMNS, use_threads=False)


def by_polars(files: list[Path]) -> Iterator[pl.DataFrame]:
    for path in files:
        frame = pl.read_parquet(path, columns=COLUMNS, parallel="none" if pl.thread_pool_size() == 1 else "auto")
        yield from frame.iter_slices(WINDOW)


VARIANTS: dict[str, tuple[Callable[..., Iterator[Any]], Callable[..., np.ndarray[Any, Any]]]] = {
    "careful": (by_polars, careful),
    "folded": (by_polars, folded),
    "folded-arrow": (by_arrow, folded),
    "plain": (by_arrow, plain),
}


def ahead(items: Iterator[Any], depth: int = 2) -> Iterator[Any]:
    """Run an iterator in a thread of its own."""
    waiting: queue.Queue[Any] = queue.Queue(depth)
    end = object()

    def pump() -> None:
        for item in items:
            waiting.put(item)
        waiting.put(end)

    threading.Thread(target=pump, daemon=True).start()
    while (item := waiting.get()) is not end:
        yield item


def scored(score: Callable[..., Any], weights: Weights, batches: Iterator[Any]) -> Iterator[pa.RecordBatch]:
    schema = pa.schema([("id", pa.int64()), ("score", pa.float32())])
    with torch.inference_mode():
        for batch in batches:
            ids = batch["id"] if isinstance(batch, pa.RecordBatch) else batch["id"].to_arrow()
            yield pa.record_batch([ids, pa.array(score(weights, batch))], schema=schema)


def work(variant: str, files: list[Path], bundle: Path, out: Path, threads: int, gate: Any = None) -> tuple[float, float, float]:
    """Score `files` to one Parquet file per input file's worth; return start, end (seconds since boot) and CPU seconds."""
    torch.set_num_threads(threads)
    read, score = VARIANTS[variant]
    weights = Weights(bundle)
    for batch in read(files[:1]):  # warm up
        list(scored(score, weights, iter([batch])))
        break
    if gate is not None:
        gate.wait()
    began, cpu = time.monotonic(), _cpu()
    batches = ahead(read(files)) if variant != "plain" else read(files)
    results = scored(score, weights, batches)
    with pq.ParquetWriter(
        out, pa.schema([("id", pa.int64()), ("score", pa.float32())]), compression="snappy", use_dictionary=False
    ) as writer:
        for batch in ahead(results) if variant != "plain" else results:
            writer.write_batch(batch)
    return began, time.monotonic(), _cpu() - cpu


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _child(place: int, done: Any, *rest: Any) -> None:
    done.put((place, work(*rest)))


def run(variant: str, data: Path, bundle: Path, processes: int, threads: int) -> tuple[float, float]:
    """(wall, CPU) seconds for all files; processes are started and warmed up before the clock."""
    out = data.parent / "hand"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    files = sorted(data.glob("*.parquet"))
    if processes == 1:
        began, ended, cpu = work(variant, files, bundle, out / "0.parquet", threads)
        return ended - began, cpu
    os.environ["POLARS_MAX_THREADS"] = "1"  # of each child: the two processes fill the cores
    start = multiprocessing.get_context("spawn")
    gate, done = start.Barrier(processes), start.Queue()
    children = []
    for n in range(processes):
        rest = (variant, files[n::processes], bundle, out / f"{n}.parquet", threads, gate)
        children.append(start.Process(target=_child, args=(n, done, *rest)))
        children[-1].start()
    times = [done.get()[1] for _ in children]
    for child in children:
        child.join()
    return max(t[1] for t in times) - min(t[0] for t in times), sum(t[2] for t in times)


def split(data: Path, bundle: Path) -> dict[str, float]:
    """Core-seconds per million rows, one thread, by stage (best of five)."""
    torch.set_num_threads(1)
    files, weights = sorted(data.glob("*.parquet")), Weights(bundle)
    rows = sum(pq.read_metadata(f).num_rows for f in files)
    batches = list(by_arrow(files))
    frames = list(by_polars(files))
    encoded = [encode(weights, b) for b in batches]
    with torch.inference_mode():
        results = list(scored(folded, weights, iter(batches)))
        stages: dict[str, Callable[[], object]] = {
            "read pyarrow": lambda: [None for _ in by_arrow(files)],
            "read polars": lambda: [None for _ in by_polars(files)],
            "encode": lambda: [encode(weights, b) for b in batches] and None,
            "forward folded": lambda: [forward(weights, *e) for e in encoded],
            "encode+forward careful": lambda: [careful(weights, f) for f in frames],
            "encode+forward plain": lambda: [plain(weights, b) for b in batches],
            "write": lambda: pq.write_table(pa.Table.from_batches(results), data.parent / "split.parquet", compression="snappy"),
        }
        return {name: round(min(_used(stage) for _ in range(5)) / rows * 1e6, 3) for name, stage in stages.items()}


def _used(stage: Callable[[], object]) -> float:
    began = _cpu()
    stage()
    return _cpu() - began


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--folder", type=Path, default=Path(".bench/spine"))
    ask.add_argument("--rows", type=int, default=4_000_000)
    ask.add_argument("--copies", type=int, default=1, help="score the files so many times")
    ask.add_argument("--variant", choices=VARIANTS, default="folded")
    ask.add_argument("--processes", type=int, default=2)
    ask.add_argument("--threads", type=int, default=1, help="torch threads of each process")
    ask.add_argument("--repeat", type=int, default=3)
    ask.add_argument("--split", action="store_true")
    given = ask.parse_args()
    data, bundle = repeated(write_data(given.folder, given.rows), given.copies), write_model(given.folder)
    rows = given.rows * given.copies
    if given.split:
        print(json.dumps({"core_seconds_per_million_rows": split(data, bundle)}))
        return
    times = sorted(run(given.variant, data, bundle, given.processes, given.threads) for _ in range(given.repeat))
    wall, cpu = times[len(times) // 2]
    answer = {
        "variant": given.variant,
        "processes": given.processes,
        "rows": rows,
        "rows_per_second": round(rows / wall),
    }
    print(json.dumps(answer | {"cpu_seconds_per_million_rows": round(cpu / rows * 1e6, 3)}))


if __name__ == "__main__":
    main()
