"""Corpora of broken and odd files, read in a child process: rows or a SourceError, never a crash, never another exception."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[2]
CORPUS = ROOT.parent / "shared/data/malformed"
TOO_LARGE = {"large_string_map.brotli.parquet"}  # valid, and more than 8 GiB in memory


def outcomes(jobs: list[tuple[str, str]]) -> list[tuple[str, str, str, int]]:
    child = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("read_all.py"))],
        input="".join(json.dumps(job) + "\n" for job in jobs),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    told = [tuple(json.loads(line)) for line in child.stdout.splitlines()]
    assert child.returncode == 0, f"crashed with {child.returncode} on {told[-1] if told else jobs[0]}: {child.stderr[-500:]}"
    assert child.stderr == ""
    return [outcome for outcome in told if outcome[2] != "started"]


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpora are not on this machine")
@pytest.mark.parametrize("kind", ["parquet", "ipc", "csv", "jsonl"])
def test_every_malformed_file_ends_in_rows_or_in_a_reason(kind: str) -> None:
    files = [str(path) for path in sorted(CORPUS.rglob("*")) if path.is_file() and path.name not in TOO_LARGE]
    told = outcomes([(path, kind) for path in files])
    assert [outcome for outcome in told if outcome[2] not in ("rows", "fault", "SourceError")] == []
    assert len(told) == len(files)
    read = Counter(what for _, _, what, _ in told)
    assert read["rows"] >= {"parquet": 140, "ipc": 60, "csv": 350, "jsonl": 900}[kind]


def damaged(data: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.2:
        return data[: chance.randrange(len(data))]
    changed = bytearray(data)
    late = chance.random() < 0.5  # footers are where the danger is
    for _ in range(chance.choice([1, 1, 2, 8])):
        at = chance.randrange(max(0, len(data) - 1500), len(data)) if late else chance.randrange(len(data))
        changed[at] ^= 1 << chance.randrange(8)
    return bytes(changed)


@pytest.mark.parametrize("count", [150, pytest.param(5000, marks=pytest.mark.slow)])
def test_damaged_files_of_our_own_never_crash_the_reader(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    table = pa.table(
        {"x": rng.standard_normal(6000), "s": [f"c{n % 40}" for n in range(6000)], "n": pa.array([1, None] * 3000, pa.int32())}
    )
    pq.write_table(table, tmp_path / "plain.parquet", row_group_size=5000)
    pq.write_table(table, tmp_path / "sums.parquet", row_group_size=5000, write_page_checksum=True, compression="none")
    feather.write_feather(table, tmp_path / "zstd.arrow", compression="zstd", chunksize=2000)
    feather.write_feather(table, tmp_path / "raw.arrow", compression="uncompressed", chunksize=2000)
    chance, jobs = random.Random(7), []
    for original in sorted(tmp_path.iterdir()):
        data = original.read_bytes()
        for n in range(count):
            path = tmp_path / "damaged" / f"{n}-{original.name}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(damaged(data, chance))
            jobs.append((str(path), "parquet" if original.suffix == ".parquet" else "ipc"))
    told = outcomes(jobs)
    assert {what for _, _, what, _ in told} <= {"rows", "fault", "SourceError"}
    assert {rows for _, _, what, rows in told if what == "rows"} <= {0, 2000, 4000, 6000}
