"""A tiny workspace about people: daily files with ids, names and dirt, a model of a second's training, jobs that score them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scoring.jobs.run import run
from scoring.models.train import Recipe, Target, fit
from scoring.settings import Job, build
from scoring.sinks.publish import published
from scoring.sinks.reader import read_scores
from scoring.stores import open_store
from scoring.types import RunRecord

KEY = "5e" * 32
PEOPLE, DAYS, ROWS = 20, 2, 60


def mail(person: int) -> str:
    return f"p{person:02d}@canary.example"


class Quiet:
    def begin(self, run_id: str, resumed: bool, lanes: int, store: object) -> None:
        pass

    def planned(self, partition: str, slices: int, rows: int) -> None:
        pass

    def finished(self, receipt: object) -> None:
        pass

    def end(self, record: RunRecord) -> None:
        pass


def rows(day: int, seed: int = 0) -> pa.Table:
    """Every person in some rows; a tenth of the amounts out of range, so that everybody may land in the quarantine too."""
    rng = np.random.default_rng(100 * day + seed)
    who = rng.integers(0, PEOPLE, ROWS)
    amount = rng.gamma(2.0, 40.0, ROWS).round(2)
    amount[rng.random(ROWS) < 0.1] = -7.0
    return pa.table(
        {
            "row": pa.array(np.arange(ROWS) + day * ROWS),
            "email": pa.array([mail(w) for w in who]),
            "name": pa.array([f"Canary-{w:02d} O'Bird" for w in who]),
            "age": pa.array(20 + who),
            "amount": pa.array(amount),
            "x": pa.array(rng.standard_normal(ROWS).astype(np.float32)),
        }
    )


def make(folder: Path) -> Path:
    """`data/date=…/part.parquet` with row groups of 20, and `bundle`."""
    table = pa.concat_tables([rows(day, 7) for day in range(4)])
    table = table.append_column("label", pa.array(table["x"].to_numpy() > 0))
    fit(
        table,
        folder / "bundle",
        numeric=["amount", "x", "age"],
        categorical=[],
        targets={"score": Target("label")},
        recipe=Recipe(epochs=1),
    )
    for day in range(DAYS):
        place = folder / "data" / f"date=2026-01-{day + 1:02d}"
        place.mkdir(parents=True)
        pq.write_table(rows(day), place / "part.parquet", row_group_size=20)
    return folder


COLUMNS: dict[str, Any] = {
    "email": {"dtype": "string", "pii": "direct", "treatment": "pseudonymise", "purpose": "test"},
    "name": {"dtype": "string", "pii": "direct", "treatment": "mask"},
    "age": {"dtype": "int64", "pii": "quasi", "treatment": "generalise", "width": 10},
    "amount": {"dtype": "float64", "min": 0},
}


def plain(folder: Path, workspace: Path | str, **changes: Any) -> dict[str, Any]:
    """Settings of a job; `changes` are dotted names with "__" for "."."""
    made: dict[str, Any] = {
        "workspace": str(workspace),
        "source": {"kind": "parquet", "path": str(folder / "data"), "carry": ["row", "email", "name", "age"], "slice_rows": 20},
        "model": {"bundle": str(folder / "bundle")},
        "engine": {"kind": "inline", "window_rows": 16},
        "hardware": {"device": "cpu", "memory_per_lane_gb": 0.3},
        "contract": {"columns": {k: dict(v) for k, v in COLUMNS.items()}, "privacy": {"subject": "email"}},
        "release": {"max_bad_share": None},
    }
    for name, value in changes.items():
        *above, last = name.split("__")
        at = made
        for key in above:
            at = at.setdefault(key, {})
        at[last] = value
    return made


def score(folder: Path, workspace: Path | str, **changes: Any) -> RunRecord:
    return run(build(Job, plain(folder, workspace, **changes)), "", Quiet())


def scored(workspace: Path | str) -> list[dict[str, Any]]:
    return read_scores(str(workspace)).collect().to_dicts()


def rejected(workspace: Path | str) -> list[dict[str, Any]]:
    store = open_store(str(workspace))
    files = [file.path for manifest in published(store) for file in manifest.quarantine]
    return [row for file in files for row in pq.read_table(store.open_file(file), partitioning=None).to_pylist()]


def truth(folder: Path) -> list[dict[str, Any]]:
    """Every row of the source as it stands, by place."""
    files = sorted((folder / "data").rglob("*.parquet"))
    return [row for file in files for row in pq.read_table(file, partitioning=None).to_pylist()]
