"""What the system tests run on, and how they look at what was published: data, bundles, jobs, fingerprints.

Everything is a function of its arguments, so that a driver in another process makes the same.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from scoring.ledger.chain import verify
from scoring.models.bundle import describe_inputs, write
from scoring.models.train import Recipe, Target, fit
from scoring.settings import Column, Job, build
from scoring.sinks.publish import Manifest, published
from scoring.sinks.reader import read_scores
from scoring.stores import LocalStore, open_store
from scoring.types import Receipt, RunRecord

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DATA = ROOT.parent / "shared/data"
POISON, EMPTY = 1234.0, 4321.0
RUN = "the-run"
AMOUNT = {"dtype": "float64", "min": -50.0, "max": 5000.0}
CITIES = np.array(["Bern", "Köln", "Łódź", "", "Oslo"], object)


class Quiet:
    """A watcher that keeps what it was told."""

    def __init__(self) -> None:
        self.receipts: list[Receipt] = []
        self.resumed: bool | None = None

    def begin(self, run_id: str, resumed: bool, lanes: int, store: object) -> None:
        self.resumed = resumed

    def planned(self, partition: str, slices: int, rows: int) -> None:
        pass

    def finished(self, receipt: Receipt) -> None:
        self.receipts.append(receipt)

    def end(self, record: RunRecord) -> None:
        pass


def rows(count: int, seed: int, first: int = 0) -> pa.Table:
    """Clean rows with nulls: id, amount, x0, x1, n, city."""
    rng = np.random.default_rng(seed)
    amount = rng.gamma(2.0, 40.0, count).round(2)
    x = rng.standard_normal((2, count)).astype(np.float32)
    return pa.table(
        {
            "id": pa.array(np.arange(first, first + count)),
            "amount": pa.array(amount, mask=rng.random(count) < 0.1),
            "x0": pa.array(x[0], mask=rng.random(count) < 0.2),
            "x1": pa.array(x[1]),
            "n": pa.array(rng.integers(0, 50, count).astype(np.int32)),
            "city": pa.array(CITIES[rng.integers(0, len(CITIES), count)], pa.string(), mask=rng.random(count) < 0.05),
        }
    )


def tabular(folder: Path, version: str = "1", seed: int = 0) -> Path:
    """A tabular bundle with two heads."""
    table = rows(1500, 99)
    x0 = np.nan_to_num(table["x0"].to_numpy())
    table = table.append_column("label", pa.array(x0 + table["x1"].to_numpy() > 0))
    table = table.append_column("spent", pa.array(100 * x0))
    fit(
        table,
        folder,
        numeric=["amount", "x0", "x1", "n"],
        categorical=["city"],
        targets={"score": Target("label"), "spent": Target("spent", "regression")},
        version=version,
        recipe=Recipe(epochs=1, batch_rows=256, seed=seed),
    )
    return folder


def module(folder: Path) -> Path:
    """A module bundle for `fussy:Fussy`."""
    from fussy import Fussy

    torch.manual_seed(5)
    net = Fussy(POISON, EMPTY).eval()
    inputs = {"x0": Column("float32"), "x1": Column("float32", nullable=False), "amount": Column("float64")}
    golden = rows(20, 7).select(list(inputs))
    x = torch.from_numpy(np.stack([golden[name].to_numpy().astype(np.float32) for name in inputs], 1))
    with torch.inference_mode():
        golden = golden.append_column("expected.score", pa.array(net(x)[:, 0].numpy()))
    manifest = {
        "family": "module",
        "name": "fussy",
        "version": "1",
        "inputs": describe_inputs(inputs),
        "tolerance": {"gpu": 1e-3, "cpu": 1e-5},
        "constructor": {"poison": POISON, "empty": EMPTY},
        "arguments": {"x": list(inputs)},
        "outputs": ["score"],
    }
    return write(folder, manifest, dict(net.state_dict()), golden)


def plain_days(folder: Path, days: int = 3, files: int = 2, groups: int = 8, group_rows: int = 60) -> Path:
    """Hive partitions of many tiny row groups, a few rows out of range in each file."""
    for day in range(days):
        for n in range(files):
            count = groups * group_rows
            at = (day * files + n) * count
            table = changed(rows(count, at + 1, at), "amount", {3: 9999.0, count - 2: -51.0})
            place = folder / f"day=2026-01-{day + 1:02d}" / f"f{n}.parquet"
            place.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, place, row_group_size=group_rows)
    return folder


def dirty_days(folder: Path) -> Path:
    """Four Hive partitions with every sort of dirt, among them files that only reading shows to be damaged."""
    plain_days(folder, days=4, files=2, groups=5, group_rows=130)
    first, second, third, fourth = sorted(folder.iterdir())
    table = changed(rows(400, 501, 90_000), "x0", {5: POISON, 6: EMPTY, 201: POISON, 399: EMPTY})
    pq.write_table(table, first / "c-poison.parquet", row_group_size=100)
    shutil.copy(first / "f0.parquet", first / "f0-again.parquet")
    text = changed(rows(300, 502, 91_000), "amount", {}).set_column(
        1, "amount", pa.array(["12.5", "N/A", None, " 7", "1e400", "-3"] * 50)
    )
    pq.write_table(text, second / "a-text.parquet", row_group_size=70)
    data = (second / "f1.parquet").read_bytes()
    (second / "f2-cut.parquet").write_bytes(data[: len(data) // 2])
    (second / "0-empty.parquet").write_bytes(b"")
    hurt(third / "f0.parquet", group=2)
    hurt(third / "f1.parquet", group=4)
    pq.write_table(rows(150, 503, 92_000).drop_columns(["x1"]), third / "a-no-x1.parquet", row_group_size=50)
    pq.write_table(rows(0, 504), third / "b-no-rows.parquet")
    pq.write_table(rows(120, 505, 93_000).drop_columns(["id"]), fourth / "a-no-id.parquet", row_group_size=50)
    (fourth / "x.parquet").write_bytes(b"PAR1 this is not what it says PAR1")
    empty = folder / "day=2026-01-05"
    empty.mkdir()
    pq.write_table(rows(0, 506), empty / "no-rows.parquet")
    return folder


def changed(table: pa.Table, column: str, values: dict[int, Any]) -> pa.Table:
    """The table with some values replaced."""
    place = table.schema.get_field_index(column)
    found = table[column].to_pylist()
    for row, value in values.items():
        found[row] = value
    return table.set_column(place, table.schema.field(column), pa.array(found, table.schema.field(column).type))


def hurt(path: Path, group: int) -> None:
    """Rewrite a file with page checksums and flip bits in the pages of one row group; its footer stays whole."""
    table = pq.read_table(path, partitioning=None)
    groups = pq.read_metadata(path).row_group(0).num_rows
    pq.write_table(table, path, row_group_size=groups, write_page_checksum=True, compression="none", use_dictionary=False)
    chunk = pq.read_metadata(path).row_group(group).column(3)
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 0x5A
    path.write_bytes(bytes(data))


def job(workspace: Path | str, source: Path | str, bundle: Path | str, **changes: Any) -> Job:
    """A job; changes are dotted names with "__" for ".": engine__kind="ray"."""
    return build(Job, plain_job(workspace, source, bundle, **changes))


def plain_job(workspace: Path | str, source: Path | str, bundle: Path | str, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "workspace": str(workspace),
        "run_id": RUN,
        "source": {"kind": "parquet", "path": str(source), "carry": ["id", "city"], "slice_rows": 1},
        "model": {"bundle": str(bundle)},
        "engine": {"kind": "inline", "retry": {"backoff_s": 0.05, "backoff_cap_s": 0.2, "attempts": 8, "budget_extra": 500}},
        "hardware": {"device": "cpu", "memory_per_lane_gb": 0.3},
        "contract": {"columns": {"amount": dict(AMOUNT)}, "limits": {"schema:missing": {"level": "warn"}}},
        "release": {"max_bad_share": None},
    }
    for name, value in changes.items():
        *above, last = name.split("__")
        at = made
        for key in above:
            at = at.setdefault(key, {})
        at[last] = value
    return made


def score_bytes(workspace: Path | str) -> bytes:
    """All published rows in published order, as Arrow IPC bytes: the schema, every bit of every value, nothing else.

    Columns are made anew first, for equal arrays may lie in memory in several ways.
    """
    found = read_scores(str(workspace)).collect().to_arrow()
    table = pa.table([pa.array(c.to_pylist(), c.type) for c in found.columns], names=found.column_names)
    out = pa.BufferOutputStream()
    with pa.ipc.new_file(out, table.schema) as file:
        file.write_table(table)
    return out.getvalue().to_pybytes()


def quarantine(workspace: Path | str) -> Counter[str]:
    """The multiset of quarantined rows; of files lost as a whole, the rows they stand for, added up by file and reason."""
    store = open_store(str(workspace))
    found: Counter[str] = Counter()
    for manifest in published(store):
        for file in manifest.quarantine:
            assert Path(store.open_path(file.path)).exists(), f"{file.path} is named in the manifest and not there"
            for row in pq.ParquetFile(store.open_path(file.path)).read().to_pylist():
                if row["_row"] is None:
                    found[json.dumps(["file", row["_source_file"], row["_stage"], row["_reasons"]])] += row["_rows"]
                    found[json.dumps(["lost", row["_source_file"]])] = 1
                else:
                    found[json.dumps(row, sort_keys=True, default=str)] += 1
    return found


def manifests(workspace: Path | str) -> dict[str, Manifest]:
    return {m.key: m for m in published(open_store(str(workspace)))}


def assert_sound(workspace: Path | str) -> None:
    """Conservation, chain, and the listing of the public folders agrees with the manifests."""
    store = open_store(str(workspace))
    assert isinstance(store, LocalStore)
    verdict = verify(store)
    assert verdict.broken is None
    for manifest in published(store):
        assert sum(f.rows for f in manifest.files) == manifest.counts["scored"]
        folder = store.path(f"scores/{manifest.key}")
        assert (folder / "_SUCCESS").exists()
        assert sorted(p.name for p in folder.glob("*.parquet")) == sorted(Path(f.path).name for f in manifest.files)
        for file in (*manifest.files, *manifest.quarantine):
            assert store.sha256(file.path) == file.sha256, file.path
            assert os.path.samefile(store.path(file.path), store.path(file.staged))
        rejects = [pq.read_table(store.open_path(f.path), partitioning=None) for f in manifest.quarantine]
        assert sum(sum(t["_rows"].to_pylist()) for t in rejects) == manifest.counts["quarantined"]


def fill(path: Path) -> None:
    """The disk, until it takes no more. Raises: OSError."""
    with open(path, "wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 4096)
