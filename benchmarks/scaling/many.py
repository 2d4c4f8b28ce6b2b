"""A dataset of very many row groups, and a model for it: ten columns, 100 row groups in each file, 100 partitions.

No two files have the same bytes, but all have the same size and shape, so that looking for copies costs what it can cost at most.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scoring.models.train import Recipe, Target, fit
from scoring.settings import Job, Model, Respond, Source
from scoring.settings.respond import Lineage

GROUPS, GROUP_ROWS, PARTITIONS = 100, 2, 100
NUMBERS = [f"x{n}" for n in range(8)]
_MARK = b"file-00000000"


def table(rows: int) -> pa.Table:
    rng = np.random.default_rng(0)
    columns = {"id": pa.array(np.arange(rows)), "kind": pa.array(rng.choice(list("abcd"), rows))}
    return pa.table(columns | {name: pa.array(rng.normal(size=rows).astype(np.float32)) for name in NUMBERS})


def write_data(folder: Path, slices: int) -> Path:
    """Files of 100 slices each below `folder`; made once."""
    files = slices // GROUPS
    target = folder / f"slices-{slices}"
    if target.is_dir():
        return target
    whole = target.with_suffix(".part")
    text = template(folder)
    for n in range(files):
        place = whole / f"date=2026-{n % PARTITIONS // 28 + 1:02d}-{n % PARTITIONS % 28 + 1:02d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"part-{n // PARTITIONS:05d}.parquet").write_bytes(text.replace(_MARK, b"file-%08d" % (n + 1)))
    whole.rename(target)
    return target


def template(folder: Path) -> bytes:
    """A file that says its number in its footer."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "template.parquet"
    with pq.ParquetWriter(path, table(1).schema) as writer:
        writer.add_key_value_metadata({"number": _MARK.decode()})
        writer.write_table(table(GROUPS * GROUP_ROWS), row_group_size=GROUP_ROWS)
    return path.read_bytes()


def write_model(folder: Path) -> Path:
    bundle = folder / "bundle"
    if not bundle.is_dir():
        train = table(2_000)
        train = train.append_column("label", pa.array(train["x0"].to_numpy() > 0))
        fit(train, bundle, numeric=NUMBERS, categorical=["kind"], targets={"score": Target("label")}, recipe=Recipe(epochs=1))
    return bundle


def job_of(data: Path, bundle: Path, workspace: Path) -> Job:
    """One slice for each row group; nobody is told."""
    source = Source("parquet", str(data), carry=("id",), slice_rows=GROUP_ROWS)
    respond = Respond(report=False, lineage=Lineage(enabled=False))
    return Job(str(workspace), source, Model(str(bundle)), respond=respond)
