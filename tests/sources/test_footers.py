"""Footers are read in the driver, where a crash costs the job: no file of the corpora may crash, hang or fill the memory there."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.errors import SourceError
from scoring.settings import Source
from scoring.sources import ipc
from scoring.sources.discover import partitions
from scoring.sources.slices import plan
from scoring.types import File

ROOT = Path(__file__).parents[2]
CORPUS = ROOT.parent / "shared/data/malformed"
CHILD = """
import json, re, sys, time
from scoring.errors import SourceError
from scoring.parts import part
from scoring.settings import Source
from scoring.types import File
def peak():
    # Not ru_maxrss: a child inherits that of the process it was forked from.
    return int(re.search("VmHWM:\\s+([0-9]+)", open("/proc/self/status").read())[1])
for line in sys.stdin:
    path, kind = json.loads(line)
    print(path, kind, file=sys.stderr, flush=True)
    began = time.process_time()
    try:
        part("sources", kind).footer(File(path, 0, ""), Source(kind, path))
        what = "footer"
    except SourceError as error:
        what = "SourceError" if str(error) and str(error).isprintable() else "no reason"
    print(json.dumps([what, time.process_time() - began, peak()]))
"""


def footers(jobs: list[tuple[str, str]]) -> list[tuple[str, float, int]]:
    """(outcome, CPU seconds, peak memory so far in kB) of each file, all in one child."""
    given = "".join(json.dumps(job) + "\n" for job in jobs)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.run([sys.executable, "-c", CHILD], input=given, env=environment, capture_output=True, text=True, timeout=300)
    assert child.returncode == 0, f"ended with {child.returncode} at {child.stderr.splitlines()[-1:]}"
    return [tuple(json.loads(line)) for line in child.stdout.splitlines()]


def sound(told: list[tuple[str, float, int]]) -> None:
    assert {what for what, _, _ in told} <= {"footer", "SourceError"}
    assert max(seconds for _, seconds, _ in told) < 5
    assert told[-1][2] < 1_500_000  # of the child: some 1.0 GB was seen with a full allocator, and never more


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpora are not on this machine")
def test_no_footer_of_the_corpora_costs_the_driver_anything() -> None:
    files = [str(path) for path in sorted(CORPUS.rglob("*")) if path.is_file()]
    told = footers([(path, kind) for path in files for kind in ("parquet", "ipc")])
    assert len(told) == 2 * len(files) > 1800
    sound(told)
    assert sum(what == "footer" for what, _, _ in told) >= 300


@pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpora are not on this machine")
@pytest.mark.parametrize("count", [400, pytest.param(20_000, marks=pytest.mark.slow)])
def test_nor_does_one_with_other_bytes(count: int, tmp_path: Path) -> None:
    chance, jobs = random.Random(count), []
    kinds = {"ipc": "arrow_golden/*.arrow_file", "parquet": "parquet_testing_data/*.parquet"}
    small = {kind: [path for path in sorted(CORPUS.glob(name)) if path.stat().st_size < 100_000] for kind, name in kinds.items()}
    for n in range(count):
        kind = chance.choice(["ipc", "parquet"])
        path = tmp_path / f"{n}"
        path.write_bytes(damaged(chance.choice(small[kind]).read_bytes(), chance))
        jobs.append((str(path), kind))
    sound(footers(jobs))


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Bits and numbers changed, mostly where the metadata are."""
    changed = bytearray(data)
    first = chance.choice([0, max(0, len(data) - 1500)])
    for _ in range(chance.choice([1, 2, 8])):
        at = chance.randrange(first, min(first + 1500, len(data)))
        number = chance.choice([2**31 - 1, -1, 2**63 - 1, 2**40, 0]).to_bytes(8, "little", signed=True)[: chance.choice([1, 4, 8])]
        changed[at : at + len(number)] = number
    return bytes(changed[: len(data)])


def arrow_file(path: Path, batches: list[pa.RecordBatch], **options: object) -> Path:
    given = pa.ipc.IpcWriteOptions(**options)  # type: ignore[arg-type]
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batches[0].schema, options=given) as sink:
        for batch in batches:
            sink.write_batch(batch)
    return path


def groups(path: Path) -> tuple[int, ...] | None:
    return ipc.footer(File(str(path), 0, ""), Source("ipc", str(path))).groups


@given(
    st.lists(st.integers(0, 70), min_size=1, max_size=6),
    st.lists(st.sampled_from([pa.int8(), pa.string(), pa.null(), pa.list_(pa.bool_())]), max_size=4),
    st.booleans(),
    st.sampled_from([None, "zstd", "lz4"]),
)
def test_lengths_are_those_that_arrow_finds(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int], types: list[pa.DataType], legacy: bool, compression: str | None
) -> None:
    schema = pa.schema([(f"c{n}", kind) for n, kind in enumerate([*types, pa.float64()])])
    batches = [pa.RecordBatch.from_arrays([pa.nulls(n, f.type) for f in schema], schema=schema) for n in rows]
    path = tmp_path_factory.mktemp("ipc") / "a.arrow"
    arrow_file(path, batches, use_legacy_format=legacy, compression=compression)
    assert groups(path) == tuple(rows)


def test_a_batch_that_would_fill_the_memory_is_not_loaded_to_be_counted(tmp_path: Path) -> None:
    """Two million zeros per kilobyte: a file of a few kB may hold more than the driver has."""
    path = arrow_file(tmp_path / "a.arrow", [pa.record_batch({"x": np.zeros(10_000_000)})], compression="zstd")
    before = pa.total_allocated_bytes()
    pool = pa.default_memory_pool()
    peak = pool.max_memory()
    assert groups(path) == (10_000_000,)
    assert pa.total_allocated_bytes() - before < 1 << 20
    assert pool.max_memory() - peak < 1 << 20


def test_a_footer_that_promises_more_rows_than_can_be_is_a_fault_of_that_file(tmp_path: Path) -> None:
    """Sums over many of them would overflow what rows are counted in."""
    path = arrow_file(tmp_path / "a.arrow", [pa.record_batch({"x": pa.array([1] * 123_457, pa.int8())})])
    data = path.read_bytes()
    for most, said in ((2**62, "promises 4,611,686,018,427,387,904 rows"), (-5, "a record batch of -5 rows")):
        path.write_bytes(data.replace((123_457).to_bytes(8, "little"), most.to_bytes(8, "little", signed=True)))
        source = Source("ipc", str(tmp_path))
        (work,) = plan(partitions(source, ipc.SUFFIXES)[0], source)
        assert said in (work.fault or "")
        assert work.rows == 0
    pq.write_table(pa.table({"x": [1]}), tmp_path / "b.arrow")
    with pytest.raises(SourceError):
        groups(tmp_path / "b.arrow")
