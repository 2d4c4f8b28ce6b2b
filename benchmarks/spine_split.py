"""Where the time of the hand loop goes, in core-seconds per million rows, one thread: what of a lane's time is not ours to save.

    python benchmarks/spine_split.py --rows 1000000

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from peers.forwards import Mlp, inputs
from spine_data import write_data, write_model

WINDOW = 65_536


def split(data: Path, bundle: Path) -> dict[str, float]:
    """The best of five of each stage."""
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    files, model = sorted(data.glob("*.parquet")), Mlp(bundle / "weights.safetensors")
    rows = sum(pq.read_metadata(path).num_rows for path in files)
    wanted = ["id", *inputs("tabular")]
    batches = [b for path in files for b in pq.ParquetFile(path).iter_batches(WINDOW, columns=wanted, use_threads=False)]
    with torch.inference_mode():
        encoded = [model.encode(batch.columns[1:]) for batch in batches]
        scores = pa.table(
            {"id": pa.chunked_array([b["id"] for b in batches]), "score": [s for e in encoded for s in model.forward(*e)]}
        )
        stages: dict[str, Callable[[], object]] = {
            "read pyarrow": lambda: [
                None for path in files for _ in pq.ParquetFile(path).iter_batches(WINDOW, columns=wanted, use_threads=False)
            ],
            "read polars": lambda: [pl.read_parquet(path, columns=wanted, parallel="none") for path in files],
            "encode": lambda: [model.encode(batch.columns[1:]) for batch in batches],
            "forward": lambda: [model.forward(*one) for one in encoded],
            "write": lambda: pq.write_table(scores, data.parent / "split.parquet", compression="snappy", use_dictionary=False),
        }
        return {name: round(min(_used(stage) for _ in range(5)) / rows * 1e6, 3) for name, stage in stages.items()}


def _used(stage: Callable[[], object]) -> float:
    began = _cpu()
    stage()
    return _cpu() - began


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--folder", type=Path, default=Path(".bench/spine"))
    ask.add_argument("--rows", type=int, default=1_000_000)
    given = ask.parse_args()
    print(json.dumps({"core_seconds_per_million_rows": split(write_data(given.folder, given.rows), write_model(given.folder))}))


if __name__ == "__main__":
    main()
