"""What somebody with a model already has, for `make demo-forest`: a LightGBM model of card fraud, and the rows it was trained on.

    python benchmarks/demo_forest.py .demo/forest

Trained on the demo's December as LightGBM's users do it: a table of pandas, texts as its categories, so that the file says which
text has which code. Writes december.parquet and model.txt; nothing of `scoring` is in them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import lightgbm
import pyarrow as pa
import pyarrow.parquet as pq

from scoring.jobs.demo import CATEGORIES, training_table

ROWS, TREES = 60_000, 50


def train(table: pa.Table, file: Path, trees: int = TREES) -> None:
    """One thread and a seed: the same file each time, so that a finished demo is found finished."""
    frame = table.drop_columns("fraud").to_pandas().astype(dict.fromkeys(CATEGORIES, "category"))
    given = {"objective": "binary", "num_leaves": 16, "learning_rate": 0.1, "min_data_in_leaf": 50, "cat_smooth": 50}
    given |= {"num_threads": 1, "deterministic": True, "seed": 0, "verbosity": -1}
    fraud = table.column("fraud").to_numpy().astype(int)
    lightgbm.train(given, lightgbm.Dataset(frame, fraud), trees).save_model(file)


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("folder", type=Path)
    ask.add_argument("--rows", type=int, default=ROWS)
    given = ask.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    table = training_table(given.rows, seed=0)
    pq.write_table(table, given.folder / "december.parquet")
    train(table, given.folder / "model.txt")


if __name__ == "__main__":
    main()
