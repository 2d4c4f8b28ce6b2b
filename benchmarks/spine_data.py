"""The dataset and the model of the spine benchmark, the same on every machine.

4 M rows: 16 float32 columns, every second one with 10 % nulls, 4 integer categories of 1,000 values drawn Zipf-like, and an int64
id. Eight snappy Parquet files of two row groups each. The model: embeddings of 8 and an MLP 48-128-64-1 with random weights.

    python benchmarks/spine_data.py --folder .bench/spine --rows 4000000
"""

from __future__ import annotations

import argparse
import itertools
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from peers.shape import CATEGORIES, DIM, MEANS, NUMBERS, SCALES, WORDS

from scoring.models.encode import Numeric
from scoring.models.heads import Head
from scoring.models.net import Architecture
from scoring.models.tabular import Categorical, Layout
from scoring.models.write_tabular import write_tabular
from scoring.settings import Column

GROUP_ROWS = 250_000
PEOPLE = 50_000


def table(rows: int, first_id: int, seed: int, people: bool = False) -> pa.Table:
    """`people` adds two personal columns: one of 50,000 customers, Zipf-like, and when they were born."""
    rng = np.random.default_rng(seed)
    columns: dict[str, pa.Array[Any]] = {"id": pa.array(np.arange(first_id, first_id + rows))}
    for place, name in enumerate(NUMBERS):
        values = rng.normal(loc=place, scale=1 + place / 4, size=rows).astype(np.float32)
        columns[name] = pa.array(values, mask=rng.random(rows) < 0.1 if place % 2 else None)
    share = 1 / np.arange(1, WORDS + 1) ** 0.8
    for name in CATEGORIES:
        columns[name] = pa.array(rng.choice(WORDS, size=rows, p=share / share.sum()))
    if people:
        share = 1 / np.arange(1, PEOPLE + 1) ** 0.6
        who = rng.choice(PEOPLE, size=rows, p=share / share.sum())
        columns["customer"] = pa.array([f"c{n:08d}@example.org" for n in range(PEOPLE)]).take(pa.array(who))
        columns["born"] = pa.array((who * 7_919 % 25_000).astype(np.int32), pa.int32()).cast(pa.date32())
    return pa.table(columns)


def write_data(folder: Path, rows: int, files: int = 8, people: bool = False) -> Path:
    """Parquet files below `folder`/<rows>; made once."""
    target = folder / f"rows-{rows}{'-people' if people else ''}"
    target.mkdir(parents=True, exist_ok=True)
    ends = np.linspace(0, rows, files + 1).astype(int)
    for place, (start, stop) in enumerate(itertools.pairwise(ends)):
        path = target / f"part-{place:03d}.parquet"
        if not path.exists():
            part = path.with_suffix(".part")
            pq.write_table(
                table(int(stop - start), int(start), place, people), part, compression="snappy", row_group_size=GROUP_ROWS
            )
            part.rename(path)
    return target


def repeated(data: Path, copies: int) -> Path:
    """The files of `data` under several names, as links: more rows to score, none to make."""
    folder = data.with_name(f"{data.name}-x{copies}")
    folder.mkdir(exist_ok=True)
    for copy in range(copies):
        for file in data.glob("*.parquet"):
            link = folder / f"{copy}-{file.name}"
            if not link.exists():
                os.link(file, link)
    return folder


def layout() -> Layout:
    return Layout(
        numeric=tuple(Numeric(n, fill=m, mean=m, scale=s) for n, m, s in zip(NUMBERS, MEANS, SCALES, strict=True)),
        categorical=tuple(Categorical(c, WORDS, DIM) for c in CATEGORIES),
        architecture=Architecture("mlp", (128, 64)),
        heads=(Head("score", "binary"),),
    )


def write_model(folder: Path) -> Path:
    """The bundle, at `folder`/bundle."""
    torch.manual_seed(0)
    inputs = {n: Column("float32", nullable=bool(k % 2)) for k, n in enumerate(NUMBERS)}
    inputs |= {c: Column("int64", nullable=False, min=0, max=WORDS - 1) for c in CATEGORIES}
    return write_tabular(
        folder / "bundle",
        name="spine",
        version="1",
        inputs=inputs,
        layout=layout(),
        vocabularies=[pa.array(range(WORDS))] * len(CATEGORIES),
        net=layout().net(),
        golden=table(64, 0, 99),
    )


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--folder", type=Path, default=Path(".bench/spine"))
    ask.add_argument("--rows", type=int, default=4_000_000)
    given = ask.parse_args()
    print(write_data(given.folder, given.rows), write_model(given.folder))


if __name__ == "__main__":
    main()
