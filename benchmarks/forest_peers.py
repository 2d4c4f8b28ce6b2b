"""Contenders of the forest benchmark: what users have without us, and the bare limit of our own trees.

    python benchmarks/forest_peers.py ray-data|library|library-1|bare --folder .bench/forest --kind lightgbm --rows 1000000

ray-data   read_parquet, map_batches over two actors, each with the library's predict on one thread, write_parquet
library    the library's predict on a float32 matrix in memory, with two threads; nothing is read or written
library-1  the same with one thread
bare       our encoding and our trees on Arrow batches in memory, with two threads; nothing is read or written

Prints one JSON object: rows per second, from the moment that every worker holds the model to the last score. --out keeps the scores
of all rows as a NumPy file, in the order of ids. For Ray Data, --batch-format and --batch-rows say what its actors get.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from forest_data import KINDS, NAMES, THREADS, write_data, write_model

Predict = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]
WINDOW_ROWS = 65_536  # of ours; the default of batching
BLOCKS = 16  # what two actors share out between them; left to itself, all of a small dataset is one block, for one actor


def predictor(kind: str, file: Path, threads: int) -> Predict:
    """The library's own way to probabilities of class 1, the fastest one that it has for a float32 matrix."""
    if kind == "lightgbm":
        import lightgbm

        opened = lightgbm.Booster(model_file=file)
        return lambda x: opened.predict(x, num_threads=threads)
    if kind == "xgboost":
        import xgboost

        booster = xgboost.Booster({"nthread": threads}, model_file=file)
        return lambda x: booster.inplace_predict(x, validate_features=False)
    import skops.io

    forest = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))  # our own file
    del forest.feature_names_in_
    forest.n_jobs = threads
    return lambda x: forest.predict_proba(x)[:, 1]


def matrix(table: pa.Table) -> np.ndarray[Any, Any]:
    """float32 (rows, features), NaN where null."""
    found = np.empty((table.num_rows, len(NAMES)), np.float32)
    for place, name in enumerate(NAMES):
        found[:, place] = table.column(name).to_numpy()
    return found


class Scorer:
    """An actor of Ray Data."""

    def __init__(self, kind: str, file: str, ready: str) -> None:
        self._predict = predictor(kind, Path(file), 1)
        self._predict(np.zeros((2, len(NAMES)), np.float32))
        tempfile.NamedTemporaryFile(dir=ready, delete=False).close()

    def __call__(self, batch: Any) -> Any:
        if isinstance(batch, pa.Table):
            return pa.table({"id": batch.column("id"), "score": self._predict(matrix(batch)).astype(np.float32)})
        x = np.stack([batch[name] for name in NAMES], 1)
        return {"id": batch["id"], "score": self._predict(x).astype(np.float32)}


def ray_data(kind: str, files: list[Path], file: Path, batch_format: str, batch_rows: int) -> tuple[float, Callable[[], Any]]:
    import ray
    import ray.data

    ray.init(address="local", num_cpus=THREADS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    out = files[0].parent.parent / f"ray-data-{kind}"
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as ready, tempfile.TemporaryDirectory(dir=out.parent) as data:
        for path in files:  # a folder: given a list, threads that look at its files trip over an import
            os.link(path, Path(data) / path.name)
        given: Any = ray.data.read_parquet(data, columns=["id", *NAMES], override_num_blocks=BLOCKS)
        scores = given.map_batches(
            Scorer,
            fn_constructor_args=(kind, str(file), ready),
            compute=ray.data.ActorPoolStrategy(size=2),
            num_cpus=0.5,
            batch_size=batch_rows,
            batch_format=batch_format,
        )
        scores.write_parquet(str(out))
        seconds = time.time() - max(path.stat().st_mtime for path in Path(ready).iterdir())
    return seconds, lambda: pq.read_table(out).sort_by("id").column("score").to_numpy()


def library(kind: str, files: list[Path], file: Path, threads: int) -> tuple[float, Callable[[], Any]]:
    x, predict = matrix(_in_order(files)), predictor(kind, file, threads)
    predict(x[:1000])
    began = time.perf_counter()
    found = predict(x)
    return time.perf_counter() - began, lambda: found


def bare(kind: str, files: list[Path], bundle: Path) -> tuple[float, Callable[[], Any]]:
    import torch

    from scoring.models.load import load

    torch.set_num_threads(THREADS)
    model, table = load(bundle), _in_order(files).combine_chunks()
    batches = table.select(NAMES).to_batches(WINDOW_ROWS)
    place = [output.name for output in model.outputs].index(KINDS[kind].score)
    model.forward(model.encode(batches[0].slice(0, 1000)))
    began = time.perf_counter()
    found = [model.forward(model.encode(batch)) for batch in batches]
    return time.perf_counter() - began, lambda: torch.cat(found)[:, place].numpy()


def _in_order(files: list[Path]) -> pa.Table:
    return pa.concat_tables(pq.read_table(file) for file in files)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("contender", choices=("ray-data", "library", "library-1", "bare"))
    ask.add_argument("--folder", type=Path, default=Path(".bench/forest"))
    ask.add_argument("--kind", choices=KINDS, default="lightgbm")
    ask.add_argument("--rows", type=int)
    ask.add_argument("--batch-format", default="pyarrow")
    ask.add_argument("--batch-rows", type=int, default=32_768)
    ask.add_argument("--out", type=Path)
    given = ask.parse_args()
    warnings.simplefilter("ignore")
    folder, kind = given.folder.absolute(), KINDS[given.kind]
    data, (file, bundle) = write_data(folder, given.rows or kind.rows), write_model(folder, given.kind)
    files = sorted(data.glob("*.parquet"))[: None if given.contender == "bare" else kind.files]
    rows = sum(pq.read_metadata(path).num_rows for path in files)
    if given.contender == "ray-data":
        seconds, scores = ray_data(given.kind, files, file, given.batch_format, given.batch_rows)
    elif given.contender == "bare":
        seconds, scores = bare(given.kind, files, bundle)
    else:
        seconds, scores = library(given.kind, files, file, 1 if given.contender == "library-1" else THREADS)
    if given.out:
        np.save(given.out, scores())
    print(json.dumps({"rows_per_second": rows / seconds, "seconds": seconds}))


if __name__ == "__main__":
    main()
