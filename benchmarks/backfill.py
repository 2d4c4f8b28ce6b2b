"""A backfill of a year of days beside one run over the same rows, taking turns.

    make bench-backfill         or: python benchmarks/backfill.py --days 365 --rounds 5

`run` is `scoring run` over the same daily partitions, `one table` the same rows as one partition: what days cost at all. Rates are
those of the record: rows per second from the first lane that is ready to the last row published. The overhead of an interval is the
difference of scoring times by interval; beside one table it holds all that files, footers and publications cost. The last lines are
one JSON object each.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scoring.models.train import Recipe, Target, fit

GOAL_MS, FIRST = 50.0, date(2013, 1, 1)


def write_data(folder: Path, days: int, rows: int) -> None:
    """`days/date=…` and `table/part.parquet`, the same rows; a model."""
    if (folder / "bundle").is_dir():
        return
    rng, parts = np.random.default_rng(0), []
    for n in range(days):
        x = rng.normal(size=rows)
        parts.append(
            pa.table({"id": np.arange(rows) + n * rows, "x": x, "y": rng.normal(size=rows), "kind": rng.choice(list("abcd"), rows)})
        )
        place = folder / "days" / f"date={FIRST + timedelta(days=n)}"
        place.mkdir(parents=True)
        pq.write_table(parts[-1], place / "part.parquet")
    (folder / "table").mkdir()
    pq.write_table(pa.concat_tables(parts), folder / "table" / "part.parquet")
    train = pa.concat_tables(parts[:10]).append_column(
        "label", pa.array(np.concatenate([p["x"].to_numpy() for p in parts[:10]]) > 0)
    )
    fit(
        train,
        folder / "bundle",
        numeric=["x", "y"],
        categorical=["kind"],
        targets={"score": Target("label")},
        recipe=Recipe(epochs=1),
    )


def once(folder: Path, name: str, engine: str, days: int) -> tuple[float, float]:
    """(rows per second, seconds of scoring)."""
    workspace = folder / "workspace"
    shutil.rmtree(workspace, ignore_errors=True)
    data = folder / ("table" if name == "one table" else "days")
    words = ["source=parquet", f"source.path={data}", "source.carry=[id]", f"model.bundle={folder}/bundle", f"engine={engine}"]
    words += [f"workspace={workspace}", "respond.report=false", "respond.lineage.enabled=false", "--json"]
    if name == "backfill":
        words += [f"start={FIRST}", f"end={FIRST + timedelta(days=days)}"]
    verb = "backfill" if name == "backfill" else "run"
    done = subprocess.run([sys.executable, "-m", "scoring", verb, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found = json.loads(done.stdout)
    if name == "backfill":
        return float(found["rate"]), float(found["seconds"])
    return float(found["rates"]["rows_per_second"]), float(found["rates"]["scoring_seconds"])


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--folder", type=Path, default=Path(".bench/backfill"))
    ask.add_argument("--days", type=int, default=365)
    ask.add_argument("--rows", type=int, default=1_000, help="of a day")
    ask.add_argument("--engine", default="inline")
    ask.add_argument("--rounds", type=int, default=5)
    given = ask.parse_args()
    folder = given.folder.absolute() / f"{given.days}x{given.rows}"
    write_data(folder, given.days, given.rows)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ("backfill", "run", "one table")}
    for turn in range(given.rounds):
        for name, measured in found.items():
            measured.append(once(folder, name, given.engine, given.days))
            print(f"round {turn + 1}: {name:10} {measured[-1][0]:>12,.0f} rows/s, {measured[-1][1]:.2f} s", flush=True)
    rates = {name: statistics.median(rate for rate, _ in measured) for name, measured in found.items()}
    for other in ("run", "one table"):
        row = {"name": f"backfill / {other}", "ours": rates["backfill"], "theirs": rates[other]}
        print(json.dumps(row | {"ratio": round(rates["backfill"] / rates[other], 3), "unit": "rows/s", "n": given.rounds}))
    for other, words in (
        ("one table", "overhead of an interval beyond scoring its rows"),
        ("run", "… beyond what a run takes for it"),
    ):
        more = [(mine[1] - theirs[1]) / given.days * 1e3 for mine, theirs in zip(found["backfill"], found[other], strict=True)]
        row = {"name": words, "ours": round(statistics.median(more), 2), "theirs": GOAL_MS}
        print(json.dumps(row | {"ratio": round(statistics.median(more) / GOAL_MS, 3), "unit": "ms", "n": given.rounds}))


if __name__ == "__main__":
    main()
