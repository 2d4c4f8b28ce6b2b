"""However the work is cut, spread and batched: the same rows, in the same order, to the bit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from workload import RUN, Quiet, assert_sound, job, manifests, quarantine, score_bytes

from scoring.jobs.run import run

FAMILIES = ("tabular", "module")


def answer(workspace: Path, source: Path, bundle: Path, family: str, **changes: Any) -> tuple[bytes, Counter[str], dict[str, Any]]:
    """What a job publishes: scores, quarantine, counts of every partition."""
    if family == "module":
        changes["model__module"] = "fussy:Fussy"
    record = run(job(workspace, source, bundle, **changes), "", Quiet())
    assert record.run_id == RUN
    assert record.status == "published-with-warnings", record.message
    assert record.rows["in"] == record.rows["scored"] + record.rows["quarantined"] > 0
    assert_sound(workspace)
    return score_bytes(workspace), quarantine(workspace), {key: m.counts for key, m in manifests(workspace).items()}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def chosen(family: str, bundle: Path, fussy: Path) -> Path:
    return bundle if family == "tabular" else fussy


@pytest.fixture(scope="module")
def expected(family: str, chosen: Path, dirty: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One slice per file or so, whole files in one window."""
    workspace = tmp_path_factory.mktemp(f"expected-{family}")
    return answer(workspace, dirty, chosen, family, source__slice_rows=100_000, engine__in_flight=1)


def simulated(rows: int, cpu: str, smaller: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {"hardware__device": "simulated", "hardware__simulated_rows": rows}
    return found | {"engine__fallback__cpu": cpu, "engine__fallback__batch": smaller}


INLINE = {
    "one group a slice": {},
    "slices across files": {"source__slice_rows": 333},
    "windows of 7": {"source__slice_rows": 400, "engine__window_rows": 7},
    "windows of 64, three in flight": {"engine__window_rows": 64, "engine__in_flight": 3},
    "batches of 1": {"source__slice_rows": 100_000, "engine__batch__budget": 1},
    "batches of 37": {"source__slice_rows": 700, "engine__batch__budget": 37},
    "a GPU of 50 rows": simulated(50, "never"),
    "a GPU of 9 rows, then the CPU": simulated(9, "batch", smaller=False),
    "a GPU of 20 rows, CPU for the rest": simulated(20, "lane", smaller=False) | {"source__slice_rows": 250},
    "other row groups and codec": {"sink__compression": "zstd", "sink__row_group_rows": 17},
}


@pytest.mark.parametrize("how", INLINE)
def test_inline(how: str, family: str, chosen: Path, dirty: Path, expected: Any, tmp_path: Path) -> None:
    same(answer(tmp_path, dirty, chosen, family, **INLINE[how]), expected)


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 40))])
def test_any_cut(seed: int, family: str, chosen: Path, dirty: Path, expected: Any, tmp_path: Path) -> None:
    rng = Random(f"{seed}-{family}")
    changes = {
        "source__slice_rows": int(10 ** rng.uniform(0, 4)),
        "engine__window_rows": int(10 ** rng.uniform(0.5, 4)),
        "engine__batch__budget": rng.choice([None, 1, 3, 50, 1000]),
        "engine__in_flight": rng.randint(1, 4),
        **rng.choice([{}, simulated(rng.randint(5, 300), rng.choice(["batch", "lane"]), rng.random() < 0.5)]),
    }
    print(f"seed {seed}: {changes}")
    same(answer(tmp_path, dirty, chosen, family, **changes), expected)


RAY = {
    "one lane": {"engine__lanes": 1},
    "two lanes": {"engine__lanes": 2, "source__slice_rows": 200, "engine__window_rows": 50},
    "two lanes with a small GPU": {"engine__lanes": 2} | simulated(40, "batch"),
}


@pytest.mark.parametrize(
    "how", ["two lanes", *(pytest.param(how, marks=pytest.mark.slow) for how in ("one lane", "two lanes with a small GPU"))]
)
def test_ray(how: str, family: str, chosen: Path, dirty: Path, expected: Any, tmp_path: Path, cluster: Any) -> None:
    changes = {"engine__kind": "ray", "engine__address": cluster.address} | RAY[how]
    same(answer(tmp_path, dirty, chosen, family, **changes), expected)


def test_every_sort_of_dirt_is_in_what_is_compared(family: str, expected: Any) -> None:
    scores, rejected, counts = expected
    assert len(scores) > 50_000
    stages = {stage for stage in ("admit", "plan", "read", "score") if any(f'"{stage}"' in row for row in rejected)}
    assert stages == {"admit", "plan", "read"} | ({"score"} if family == "module" else set())
    assert counts["day=2026-01-05"] == {"scored": 0, "quarantined": 0, "suppressed": 0}


def same(found: Any, wanted: Any) -> None:
    assert found[2] == wanted[2]
    assert found[1] == wanted[1]
    assert found[0] == wanted[0], "the published rows differ"
