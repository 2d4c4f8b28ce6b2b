"""Rows a second of a tabular bundle: through the engine's lane, from Parquet to staged Parquet, and in a bare loop over batches.

60 float32 columns, every second one with 10 % nulls, 4 integer categories, an MLP 512-256-1 with random weights. Runs with torch,
numpy and pyarrow alone: that no other library was imported is one of the checks.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from gpu import forest_lane
from gpu.place import Place
from gpu.record import Event, Recorder

from scoring.engine.lane import LaneSpec, build
from scoring.kernels.frame import operator
from scoring.models.encode import Numeric
from scoring.models.heads import Head
from scoring.models.load import load
from scoring.models.net import Architecture
from scoring.models.tabular import Categorical, Layout
from scoring.models.write_tabular import write_tabular
from scoring.settings import Column, Hardware, Job, Source
from scoring.settings import Model as ModelSettings
from scoring.sources import discover, parquet, slices
from scoring.types import Receipt

NUMBERS = tuple(f"x{n:02d}" for n in range(60))
CATEGORIES = tuple(f"c{n}" for n in range(4))
WORDS, DIM = 1_000, 16
FILES, WINDOW = 8, 65_536
ABSENT = ("ray", "polars", "hydra", "omegaconf", "pydantic", "obstore", "dataframely", "rfc8785", "scipy", "rich", "hypothesis")
ROUNDS = 3


def run(recorder: Recorder, kernels: list[str], place: Place) -> None:
    del kernels
    operator.force(None)  # a lane chooses by its device, in a rehearsal too
    rows = 8_000 if place.rehearsal else 4_000_000
    devices = ("cpu", "simulated") if place.rehearsal else ("cuda", "cpu")
    folder = Path(tempfile.mkdtemp(prefix="gpu-check-"))
    try:
        made = recorder.attempt(lambda: _data(folder, rows), 60, check="data")
        if made is None or recorder.attempt(lambda: _bundle(folder), 30, check="bundle") is None:
            return
        _turn(recorder, folder, devices, 0, rows)
        for device in ("cpu",) if place.rehearsal else ("cuda", "cpu"):
            recorder.attempt(partial(_bare, folder, device, place), 40, check=f"bare {device}")
        recorder.attempt(_imports, 5, check="imports")
        for turn in range(1, 1 if place.rehearsal else ROUNDS):
            _turn(recorder, folder, devices, turn, rows)
        _forest(recorder, folder, devices, place, rows)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _forest(recorder: Recorder, folder: Path, devices: tuple[str, ...], place: Place, rows: int) -> None:
    """Of the same rows; numba need not be there, and compiles in the first turn."""
    shutil.rmtree(folder / "bundle")
    written = partial(forest_lane.write, folder / "bundle", NUMBERS, table(forest_lane.GOLDEN, 99))
    if recorder.attempt(written, 30, must=False, check="forest bundle") is None:
        return
    for device in ("cpu",) if place.rehearsal else devices:
        recorder.attempt(partial(_bare, folder, device, place), 40, must=False, check=f"forest bare {device}")
    for turn in range(1 if place.rehearsal else ROUNDS):
        _turn(recorder, folder, devices, turn, rows, "forest lane")


def _turn(recorder: Recorder, folder: Path, devices: tuple[str, ...], turn: int, rows: int, name: str = "lane") -> None:
    for device in devices:
        recorder.attempt(partial(_lane, folder, device, turn, rows), 60, check=f"{name} {device}", turn=turn)


def table(rows: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    columns: dict[str, pa.Array[Any]] = {}
    for at, name in enumerate(NUMBERS):
        values = rng.standard_normal(rows, np.float32) * (1 + at / 8) + at
        columns[name] = pa.array(values, mask=rng.random(rows, np.float32) < 0.1 if at % 2 else None)
    for name in CATEGORIES:
        columns[name] = pa.array((rng.random(rows) ** 3 * WORDS).astype(np.int64))  # a few values are frequent
    return pa.table(columns)


def _data(folder: Path, rows: int) -> Event:
    (folder / "data").mkdir()
    ends = np.linspace(0, rows, FILES + 1).astype(int)

    def write(part: tuple[int, tuple[int, int]]) -> None:
        number, (start, stop) = part
        path = folder / "data" / f"part-{number}.parquet"
        pq.write_table(table(stop - start, number), path, compression="snappy", row_group_size=250_000)

    with ThreadPoolExecutor(FILES) as pool:
        list(pool.map(write, enumerate(pairwise(ends.tolist()))))
    return {"rows": rows, "bytes": sum(path.stat().st_size for path in (folder / "data").iterdir())}


def _bundle(folder: Path) -> Event:
    torch.manual_seed(0)
    inputs = {n: Column("float32", nullable=bool(k % 2)) for k, n in enumerate(NUMBERS)}
    inputs |= {c: Column("int64", nullable=False, min=0, max=WORDS - 1) for c in CATEGORIES}
    layout = Layout(
        numeric=tuple(Numeric(n, fill=float(k), mean=float(k), scale=1 + k / 8) for k, n in enumerate(NUMBERS)),
        categorical=tuple(Categorical(c, WORDS, DIM) for c in CATEGORIES),
        architecture=Architecture("mlp", (512, 256)),
        heads=(Head("score", "binary"),),
    )
    write_tabular(
        folder / "bundle", name="gpu-check", version="1", inputs=inputs, layout=layout,
        vocabularies=[pa.array(range(WORDS))] * len(CATEGORIES), net=layout.net(), golden=table(64, 99),
    )  # fmt: skip
    return {"weights": sum(p.numel() for p in layout.net().parameters())}


def _lane(folder: Path, device: str, turn: int, rows: int) -> Event:
    """One lane with the defaults of engine=inline. From the first slice handed out to the last receipt; start-up is apart."""
    began = time.perf_counter()
    workspace = folder / f"workspace-{device}-{turn}"
    source = Source("parquet", str(folder / "data"), carry=("c0",), duplicates="keep")
    job = Job(str(workspace), source, ModelSettings(str(folder / "bundle")), hardware=Hardware(device))  # type: ignore[arg-type]
    lane = build(LaneSpec(job, "gpu-check", cores()), "cpu" if device == "cpu" else "gpu")
    work = [one for part in discover.partitions(source, parquet.SUFFIXES) for one in slices.plan(part, source)]
    start = time.perf_counter()
    with ThreadPoolExecutor(job.engine.in_flight) as pool:
        receipts = list(pool.map(lane.process, work, map(str, range(len(work)))))
    wall = time.perf_counter() - start
    stages, routes = Counter[str](), Counter[str]()
    for receipt in receipts:
        if not isinstance(receipt, Receipt):
            raise RuntimeError(receipt.message)
        stages.update(receipt.seconds)
        routes.update(receipt.routes)
    assert routes == {"cpu" if device == "cpu" else "gpu": rows}, f"routes are {dict(routes)} of {rows} rows"
    shutil.rmtree(workspace, ignore_errors=True)
    took = {"per_second": rows / wall, "wall": wall, "start_up": start - began, "stages": dict(stages)}
    return took | {"routes": dict(routes), "slices": len(work), "device": receipts[0].device, "cores": cores()}


def cores() -> int:
    """Those of the process. Each lane that is built leaves torch fewer threads: asked in turn, it would tell fewer each time."""
    return len(os.sched_getaffinity(0))


def _bare(folder: Path, device: str, place: Place) -> Event:
    """encode, the way to the device, forward with the way back, each by itself and one after the other; one thread of ours."""
    model = load(folder / "bundle", device)
    several = 2 if place.rehearsal else 8
    batch_rows = 4_096 if place.rehearsal else 4 * WINDOW
    batches = [table(batch_rows, 200 + n).to_batches()[0] for n in range(several)]
    encoded = [model.encode(batch) for batch in batches]
    there = [rows.to(model.device) for rows in encoded]

    def rate(work: Callable[[Any], Any], given: list[Any]) -> float:
        work(given[0])
        place.wait()
        times = []
        for one in given:
            began = time.perf_counter()
            work(one)
            place.wait()
            times.append(time.perf_counter() - began)
        return batch_rows / statistics.median(times)

    sent: Callable[[Any], Any] = lambda rows: rows.to(model.device)  # noqa: E731
    with torch.inference_mode():
        found = {
            "encode": rate(model.encode, batches), "send": rate(sent, encoded), "forward": rate(model.forward, there),
            "all": rate(lambda batch: model.forward(sent(model.encode(batch))).cpu().numpy(), batches),
        }  # fmt: skip
    return {"per_second": found, "batch_rows": batch_rows, "n": several}


def _imports() -> Event:
    found = sorted(name for name in ABSENT if name in sys.modules)
    assert not found, f"a bare GPU machine has no {', '.join(found)}, and scoring a table imported it"
    return {"absent": list(ABSENT)}
