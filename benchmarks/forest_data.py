"""Data and models of the forest benchmark: trained on the spot, in seconds, the same on every machine with the same libraries.

28 float32 columns with 5 % nulls in each, and an int64 id; snappy Parquet files of row groups of 65,536 rows, as writers make them.

lightgbm   500 trees of 31 leaves, binary
xgboost    500 trees of depth 6, binary
sklearn    a random forest of 200 trees of depth 12: deep trees, which go another way

    python benchmarks/forest_data.py --folder .bench/forest --kind lightgbm --rows 2000000
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from peers.shape import TREE_COLUMNS as NAMES

GROUP_ROWS, FILES = 65_536, 32
TRAINING_ROWS = 20_000
THREADS = 2


@dataclass(frozen=True)
class Kind:
    """`file`: what the library saves. `rows`: so many that ours takes seconds; slow contenders score `slow_rows`, so that they,
    too, take seconds. `score`: our column beside theirs.
    """

    file: str
    rows: int
    slow_rows: int
    score: str
    train: Callable[[np.ndarray[Any, Any], np.ndarray[Any, Any], Path], None]


def values(rows: int, seed: int) -> np.ndarray[Any, Any]:
    """float32 (rows, 28); NaN where null."""
    rng = np.random.default_rng(seed)
    found = rng.standard_normal((rows, len(NAMES)), np.float32)
    found[rng.random(found.shape, np.float32) < 0.05] = np.nan
    return found


def label(x: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, Any]:
    """Columns add up, meet in pairs and bend; a fifth is noise."""
    known = np.nan_to_num(x, nan=0.5)
    odds = known[:, 0] - known[:, 1] * known[:, 2] + np.abs(known[:, 3]) - 1 + np.sin(2 * known[:, 4:16]).sum(1) / 2
    return (odds + np.random.default_rng(seed).logistic(0, 0.5, len(x)) > 0).astype(np.int32)


def _lightgbm(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], file: Path) -> None:
    import lightgbm

    given = {"objective": "binary", "num_leaves": 31, "learning_rate": 0.05, "verbosity": -1, "num_threads": 1, "seed": 0}
    lightgbm.train(given, lightgbm.Dataset(x, y, feature_name=list(NAMES)), 500).save_model(file)


def _xgboost(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], file: Path) -> None:
    import xgboost

    given = {"objective": "binary:logistic", "max_depth": 6, "eta": 0.1, "tree_method": "hist", "nthread": 1, "seed": 0}
    xgboost.train(given, xgboost.DMatrix(x, y, feature_names=list(NAMES)), 500).save_model(file)


def _sklearn(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], file: Path) -> None:
    import skops.io
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(200, max_depth=12, n_jobs=THREADS, random_state=0).fit(x, y)
    forest.feature_names_in_ = np.array(NAMES, object)
    skops.io.dump(forest, file)


KINDS = {
    "lightgbm": Kind("lightgbm.txt", 2_000_000, 125_000, "score", _lightgbm),
    "xgboost": Kind("xgboost.json", 2_000_000, 250_000, "score", _xgboost),
    "sklearn": Kind("sklearn.skops", 200_000, 100_000, "probability_1", _sklearn),
}


def write_data(folder: Path, rows: int) -> Path:
    """Parquet files below `folder`/rows-<rows>; made once."""
    target = folder / f"rows-{rows}"
    target.mkdir(parents=True, exist_ok=True)
    ends = np.linspace(0, rows, FILES + 1).astype(int)
    for place, (start, stop) in enumerate(itertools.pairwise(ends)):
        path = target / f"part-{place:03d}.parquet"
        if not path.exists():
            part = path.with_suffix(".part")
            columns: dict[str, pa.Array[Any]] = {"id": pa.array(np.arange(start, stop))}
            columns |= {n: pa.array(c, from_pandas=True) for n, c in zip(NAMES, values(stop - start, place).T, strict=True)}
            pq.write_table(pa.table(columns), part, compression="snappy", row_group_size=GROUP_ROWS)
            part.rename(path)
    return target


def write_model(folder: Path, kind: str) -> tuple[Path, Path]:
    """What the library saved, and the bundle, imported by the command that users have; made once."""
    file, bundle = folder / KINDS[kind].file, folder / kind
    folder.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        x = values(TRAINING_ROWS, 1_000)
        KINDS[kind].train(x, label(x, 1_001), file)
    if not (bundle / "model.yaml").exists():
        command = [sys.executable, "-m", "scoring", "models", "import-forest", str(file), f"out={bundle}"]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, flush=True)
    return file, bundle


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--folder", type=Path, default=Path(".bench/forest"))
    ask.add_argument("--kind", choices=KINDS, default="lightgbm")
    ask.add_argument("--rows", type=int)
    given = ask.parse_args()
    print(write_data(given.folder, given.rows or KINDS[given.kind].rows), *write_model(given.folder, given.kind))


if __name__ == "__main__":
    main()
