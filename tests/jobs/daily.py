"""A few days of small files, two versions of a model of a second's training, and backfills of them in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from people import Quiet

from scoring.jobs.backfill import backfill, plan
from scoring.jobs.backfills.account import BackfillRecord
from scoring.jobs.run import run
from scoring.models.train import Recipe, Target, fit
from scoring.settings import Job, build
from scoring.sinks.publish import Manifest, published
from scoring.stores import open_store
from scoring.types import RunRecord

ROWS = 30
DAYS = [f"2026-01-{n:02d}" for n in range(1, 7)]
RANGE = {"start": "2026-01-01", "end": "2026-01-07"}


def rows(seed: int, count: int = ROWS) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table({"id": np.arange(count) + 1000 * seed, "x": rng.normal(size=count), "y": rng.normal(size=count)})


def write(folder: Path, day: str, table: pa.Table, name: str = "part.parquet") -> Path:
    place = folder / f"date={day}"
    place.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, place / name)
    return place / name


def bundle(folder: Path, version: str) -> Path:
    table = rows(99, 400)
    table = table.append_column("label", pa.array(table["x"].to_numpy() > 0))
    recipe = Recipe(epochs=1, batch_rows=128, seed=int(version))
    fit(table, folder, numeric=["x", "y"], categorical=[], targets={"score": Target("label")}, version=version, recipe=recipe)
    return folder


def make(folder: Path) -> Path:
    """`bundle1`, `bundle2`."""
    for version in "12":
        bundle(folder / f"bundle{version}", version)
    return folder


def days(folder: Path, names: list[str] = DAYS) -> Path:
    for n, day in enumerate(names):
        write(folder, day, rows(n))
    return folder


def job(models: Path, data: Path, workspace: Path | str, version: str = "1", **changes: Any) -> Job:
    made: dict[str, Any] = {
        "workspace": str(workspace),
        "source": {"kind": "parquet", "path": str(data), "carry": ["id"]},
        "model": {"bundle": str(models / f"bundle{version}"), "bundles": [str(models / f"bundle{n}") for n in "12"]},
        "engine": {"kind": "inline"},
        "hardware": {"device": "cpu", "memory_per_lane_gb": 0.3},
        "watch": {"enabled": False},
    }
    for name, value in changes.items():
        *above, last = name.split("__")
        at = made
        for key in above:
            at = at.setdefault(key, {})
        at[last] = value
    return build(Job, made)


@contextmanager
def quiet() -> Iterator[Quiet]:
    yield Quiet()


def back(given: Job, stop: Callable[[], str | None] = lambda: None, **words: str) -> BackfillRecord:
    return backfill(given, "", RANGE | words, quiet, stop)[0]


def planned(given: Job, **words: str) -> BackfillRecord:
    return plan(given, RANGE | words)


def nightly(given: Job) -> RunRecord:
    return run(given, "", Quiet())


def by_day(record: BackfillRecord, fact: str) -> list[Any]:
    return [getattr(one, fact) for one in record.intervals]


def manifests(workspace: Path | str, every: bool = False) -> list[Manifest]:
    return list(published(open_store(str(workspace)), every))


def versions(workspace: Path | str) -> dict[str, int]:
    return {m.key.removeprefix("date="): m.version for m in manifests(workspace)}


class Slow(Quiet):
    """Holds the driver up at each slice until `go_on`, so that others find a backfill with days left."""

    def __init__(self) -> None:
        self.begun, self.over = threading.Event(), threading.Event()

    def finished(self, receipt: object) -> None:
        self.begun.set()
        self.over.wait(0.5)


def in_thread(what: Callable[[], Any]) -> Callable[[], Any]:
    """Begin it; the answer waits for what it returns, or raises what it raised."""
    found: list[Any] = []

    def go() -> None:
        try:
            found.append(what())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=go)
    thread.start()

    def ended() -> Any:
        thread.join(60)
        assert not thread.is_alive()
        if isinstance(found[0], BaseException):
            raise found[0]
        return found[0]

    return ended
