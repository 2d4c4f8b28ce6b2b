"""The spine job as a careful Ray Data user writes it: read_parquet, map_batches over an actor pool, write_parquet.

    python benchmarks/spine_ray_data.py --rows 4000000

The last line is one JSON object. Rows per second count from the moment both actors hold the model to the last file written, so
that the start-up of Ray, of the actors and of torch is apart. Batches are NumPy, the largest of the sizes tried that was fastest.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.data
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file
from spine_data import CATEGORIES, NUMBERS, layout, repeated, write_data, write_model


class Scorer:
    """Loads the weights once; scores NumPy batches with the fused gather, as the hand loop's careful variant does."""

    def __init__(self, bundle: str, ready: str) -> None:
        torch.set_num_threads(1)
        w = load_file(Path(bundle) / "weights.safetensors")
        self.layers = [(w[f"top.{n}.bias"], w[f"top.{n}.weight"].t().contiguous()) for n in (0, 2, 4)]
        self.embedding = torch.cat([w[f"embeddings.{k}.weight"] for k in range(len(CATEGORIES))])
        self.starts = torch.arange(len(CATEGORIES)) * (len(self.embedding) // len(CATEGORIES)) + 1
        self.mean = torch.tensor([n.mean for n in layout().numeric])
        self.inverse = torch.tensor([1 / n.scale for n in layout().numeric])
        tempfile.NamedTemporaryFile(dir=ready, delete=False).close()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        numbers = torch.from_numpy(np.stack([batch[n] for n in NUMBERS], 1).astype(np.float32, copy=False))
        numbers = torch.nan_to_num((numbers - self.mean) * self.inverse)
        codes = torch.from_numpy(np.stack([batch[c] for c in CATEGORIES], 1)) + self.starts
        with torch.inference_mode():
            hidden = torch.cat([numbers, F.embedding(codes, self.embedding).flatten(1)], 1)
            for n, (bias, weight) in enumerate(self.layers):
                hidden = torch.addmm(bias, hidden if n == 0 else hidden.relu_(), weight)
        return {"id": batch["id"], "score": torch.sigmoid(hidden).numpy()[:, 0]}


def run(data: Path, bundle: Path, batch_rows: int) -> float:
    """Seconds from both actors being ready to the last file written."""
    with tempfile.TemporaryDirectory() as ready:
        out = data.parent / "ray-data"
        shutil.rmtree(out, ignore_errors=True)
        rows: Any = ray.data.read_parquet(str(data), columns=["id", *NUMBERS, *CATEGORIES])
        scores = rows.map_batches(
            Scorer,
            fn_constructor_args=(str(bundle), ready),
            compute=ray.data.ActorPoolStrategy(size=2),
            num_cpus=0.5,
            batch_size=batch_rows,
            batch_format="numpy",
        )
        scores.write_parquet(str(out))
        ended = time.time()
        return ended - max(path.stat().st_mtime for path in Path(ready).iterdir())


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--folder", type=Path, default=Path(".bench/spine"))
    ask.add_argument("--rows", type=int, default=4_000_000)
    ask.add_argument("--copies", type=int, default=1, help="score the files so many times")
    ask.add_argument("--batch-rows", type=int, default=65_536)
    given = ask.parse_args()
    data = repeated(write_data(given.folder, given.rows), given.copies).absolute()
    bundle, rows = write_model(given.folder).absolute(), given.rows * given.copies
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray.data.DataContext.get_current().enable_progress_bars = False
    seconds = run(data, bundle, given.batch_rows)
    print(json.dumps({"rows": rows, "rows_per_second": round(rows / seconds)}))


if __name__ == "__main__":
    main()
