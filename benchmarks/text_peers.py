"""Contenders of the text benchmark: what users have without us, and the bare limit of our own encoder.

    python benchmarks/text_peers.py encode|bare|ray-data --folder .bench/text --kind mixed --rows 1600

encode     sentence_transformers.encode in one process with all cores, as its documentation says
ray-data   the same under Ray Data: read_parquet, map_batches over two actors of one core, write_parquet
bare       our packed forward on tokens that were made before, two processes of one core; nothing is read or written

Prints one JSON object: rows per second from the moment that every worker holds the model to the last vector, tokens per second,
and the rate of plain matrix products on the same cores at the same time.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from text_data import model_folder, write_model

BATCH = 32  # the default of sentence-transformers; 64 and 128 are no faster on a CPU


def encode(path: Path) -> dict[str, float]:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(model_folder()), device="cpu")
    texts = pq.read_table(path, columns=["text"]).column("text").to_pylist()
    model.encode(texts[:64], batch_size=BATCH)
    began = time.perf_counter()
    model.encode(texts, batch_size=BATCH, show_progress_bar=False)
    return {"rows_per_second": len(texts) / (time.perf_counter() - began)}


class Embedder:
    """An actor of Ray Data."""

    def __init__(self, ready: str) -> None:
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(1)
        self._model = SentenceTransformer(str(model_folder()), device="cpu")
        tempfile.NamedTemporaryFile(dir=ready, delete=False).close()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"id": batch["id"], "embedding": self._model.encode(batch["text"].tolist(), batch_size=BATCH)}


def ray_data(path: Path) -> dict[str, float]:
    import ray
    import ray.data

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows, out = pq.read_metadata(path).num_rows, path.parent / "ray-data"
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as ready:
        given: Any = ray.data.read_parquet(str(path), override_num_blocks=16)
        pool = ray.data.ActorPoolStrategy(size=2)
        done = given.map_batches(Embedder, fn_constructor_args=(ready,), compute=pool, num_cpus=0.5, batch_size=256)
        done.write_parquet(str(out))
        ended = time.time()
        began = max(path.stat().st_mtime for path in Path(ready).iterdir())
    return {"rows_per_second": rows / (ended - began)}


def bare(path: Path, bundle: Path) -> dict[str, float]:
    """Both processes hold half of the row groups, tokenised; the slower one counts."""
    context = multiprocessing.get_context("spawn")
    barrier, found = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_forward, args=(path, bundle, part, barrier, found)) for part in range(2)]
    for worker in workers:
        worker.start()
    answers = [found.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join()
    rows, tokens, seconds, flops, rate = (sum(a[k] for a in answers) for k in range(5))
    slowest = max(a[2] for a in answers)
    facts = {"rows_per_second": rows / slowest, "tokens_per_second": tokens / slowest}
    return facts | {"gemm_gflops": rate / 1e9, "of_gemm_rate": flops / seconds / (rate / 2)}


def _forward(path: Path, bundle: Path, part: int, barrier: Any, found: Any) -> None:
    from scoring.models.load import load

    torch.set_num_threads(1)
    model, file = load(bundle), pq.ParquetFile(path)
    groups = list(range(file.num_row_groups))[part::2]
    batches = [file.read_row_group(g, columns=["text"]).combine_chunks().to_batches()[0] for g in groups]
    windows = [model.encode(batch) for batch in batches]
    model.forward(windows[0])
    lengths = np.concatenate([np.diff(w.offsets.numpy()) for w in windows]).astype(np.int64)
    flops = float(6 * (2 * lengths.sum() * (4 * 384 * 384 + 2 * 384 * 1536) + 4 * (lengths**2).sum() * 384))
    barrier.wait()
    rates = [_gemm_rate()]
    barrier.wait()
    began = time.perf_counter()
    for window in windows:
        model.forward(window)
    seconds = time.perf_counter() - began
    rates.append(_gemm_rate())
    rows = sum(len(batch) for batch in batches)
    found.put((rows, int(lengths.sum()), seconds, flops, statistics.mean(rates)))


def _gemm_rate() -> float:
    """FLOP/s of the largest product of the encoder, (1024, 384) x (384, 1536), on this core."""
    x, weight, bias = torch.randn(1024, 384), torch.randn(1536, 384), torch.randn(1536)
    seconds = []
    for _ in range(40):
        began = time.perf_counter()
        torch.nn.functional.linear(x, weight, bias)
        seconds.append(time.perf_counter() - began)
    return 2 * 1024 * 384 * 1536 / statistics.median(seconds)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("contender", choices=("encode", "ray-data", "bare"))
    ask.add_argument("--folder", type=Path, default=Path(".bench/text"))
    ask.add_argument("--file", type=Path, required=True)
    given = ask.parse_args()
    torch.manual_seed(0)
    if given.contender == "bare":
        facts = bare(given.file, write_model(given.folder).absolute())
    else:
        facts = {"encode": encode, "ray-data": ray_data}[given.contender](given.file.absolute())
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
