"""Does the memory of a lane depend on how many texts it embeds? Peak resident memory after 10,000 and after 1 M texts.

    python benchmarks/text_memory.py

The real MiniLM on real questions, of which each comes again and again: what is the same within a window is computed once, so that a
million rows take a minute. The last line is one JSON object; `ratio` should be within 0.9 and 1.1.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from lane_memory import compare, peak_mb
from text_data import ROOT, texts, write_model

SMALL, LARGE, DIFFERENT = 10_000, 1_000_000, 250


def write_rows(folder: Path, data: Path) -> Path:
    path = folder / "million" / "texts.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        known = texts("short", DIFFERENT, data)
        table = pa.table({"id": pa.array(range(LARGE)), "text": pa.array([known[n % DIFFERENT] for n in range(LARGE)])})
        pq.write_table(table, path, row_group_size=SMALL)
    return path.parent


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--folder", type=Path, default=Path(".bench/text"))
    ask.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/text")
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--one", type=int, help="embed so many rows in this process and print the peak")
    given = ask.parse_args()
    data, bundle = write_rows(given.folder, given.data), write_model(given.folder)
    if given.one:
        print(peak_mb(data, bundle, given.folder / "memory", given.one, SMALL))
        return
    command = [sys.executable, __file__, "--folder", str(given.folder), "--data", str(given.data)]
    compare(command, SMALL, LARGE, given.rounds, "lane peak memory, 1 M / 10,000 texts")


if __name__ == "__main__":
    main()
