"""Down the ladder through a whole run, on a device that behaves like a GPU with too little memory: every rung is used and named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from workload import Quiet, job, manifests, plain_days, score_bytes

from scoring.jobs.run import run
from scoring.types import RunRecord

ROWS = 2 * 6 * 200
GOOD = ROWS - 2 * 2  # two rows of each file are out of range


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_days(tmp_path_factory.mktemp("data"), days=2, files=1, groups=6, group_rows=200)


@pytest.fixture(scope="module")
def on_cpu(data: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    workspace = tmp_path_factory.mktemp("cpu")
    assert run(job(workspace, data, bundle), "", Quiet()).routes == {"cpu": GOOD}
    return score_bytes(workspace)


def scored(workspace: Path, data: Path, bundle: Path, rows: int = 0, faults: Any = (), **changes: Any) -> RunRecord:
    """A run on the simulated GPU that holds so many rows (0: all)."""
    device = {"hardware__device": "simulated", "hardware__simulated_rows": rows, "engine__faults": faults, "engine__in_flight": 1}
    return run(job(workspace, data, bundle, **(device | changes)), "", Quiet())


def test_a_gpu_with_room_is_all_that_is_used(data: Path, bundle: Path, on_cpu: bytes, tmp_path: Path) -> None:
    record = scored(tmp_path, data, bundle)
    assert (record.status, record.routes, record.devices) == ("published", {"gpu": GOOD}, {"simulated": GOOD})
    assert score_bytes(tmp_path) == on_cpu


def test_too_large_a_batch_becomes_smaller(data: Path, bundle: Path, on_cpu: bytes, tmp_path: Path) -> None:
    record = scored(tmp_path, data, bundle, rows=70)
    assert record.status == "published"
    assert sum(record.routes.values()) == GOOD
    assert set(record.routes) == {"gpu", "gpu-smaller-batch"}
    assert any("did not fit" in note for note in record.notes)
    assert score_bytes(tmp_path) == on_cpu


def test_without_smaller_batches_the_cpu_takes_what_does_not_fit(data: Path, bundle: Path, on_cpu: bytes, tmp_path: Path) -> None:
    record = scored(tmp_path, data, bundle, rows=70, engine__fallback__batch=False)
    assert (record.status, record.routes) == ("published", {"cpu": GOOD})
    assert score_bytes(tmp_path) == on_cpu


def test_one_batch_that_does_not_fit_costs_one_batch(data: Path, bundle: Path, on_cpu: bytes, tmp_path: Path) -> None:
    once = {"site": "gpu", "kind": "oom", "once": str(tmp_path / "mark")}
    record = scored(tmp_path / "ws", data, bundle, faults=(once,), engine__fallback__batch=False)
    assert record.status == "published"
    assert sum(record.routes.values()) == GOOD
    assert 0 < record.routes["cpu"] <= 200
    assert score_bytes(tmp_path / "ws") == on_cpu


def test_the_lane_may_stay_on_the_cpu(data: Path, bundle: Path, on_cpu: bytes, tmp_path: Path) -> None:
    once = {"site": "gpu", "kind": "oom", "once": str(tmp_path / "mark"), "slice_nth": 4}
    record = scored(tmp_path / "ws", data, bundle, faults=(once,), engine__fallback__batch=False, engine__fallback__cpu="lane")
    assert record.routes["gpu"] + record.routes["cpu"] == GOOD
    assert record.routes["gpu"] <= 4 * 200 < record.routes["cpu"]
    assert any("left for the CPU" in note for note in record.notes)
    assert score_bytes(tmp_path / "ws") == on_cpu


def test_no_fallback_means_stop_with_the_state_kept(data: Path, bundle: Path, on_cpu: bytes, tmp_path: Path) -> None:
    """Batches of 200 do not fit, and the first and last slice of each file have 199 good rows."""
    never = {"engine__fallback__batch": False, "engine__fallback__cpu": "never"}
    stopped = scored(tmp_path, data, bundle, faults=({"site": "gpu", "kind": "oom", "rows_over": 200},), **never)
    assert stopped.status == "failed"
    assert "no fallback is allowed" in stopped.message
    assert (stopped.rows["scored"], manifests(tmp_path)) == (4 * 199, {})
    assert scored(tmp_path, data, bundle, **never).status == "published"
    assert score_bytes(tmp_path) == on_cpu


def test_a_sticky_error_costs_a_lane(data: Path, bundle: Path, on_cpu: bytes, tmp_path: Path) -> None:
    once = {"site": "gpu", "kind": "sticky", "once": str(tmp_path / "mark"), "slice_nth": 5}
    record = scored(tmp_path / "ws", data, bundle, faults=(once,))
    assert (record.status, record.routes) == ("published", {"gpu": GOOD})
    assert score_bytes(tmp_path / "ws") == on_cpu


def test_a_slice_that_breaks_every_device_goes_to_a_cpu(data: Path, bundle: Path, on_cpu: bytes, tmp_path: Path) -> None:
    """On each new lane the slice is the first, and breaks it."""
    poison = {"site": "gpu", "kind": "sticky", "slice_nth": 0}
    record = scored(tmp_path, data, bundle, faults=(poison,), source__slice_rows=100_000)
    assert (record.status, record.routes) == ("published", {"cpu": GOOD}), record.message
    assert score_bytes(tmp_path) == on_cpu


def lost(nth: int) -> dict[str, Any]:
    return {"site": "gpu", "kind": "lost", "slice_nth": nth}


def test_a_lost_gpu_and_the_run_ends_on_the_cpu(data: Path, bundle: Path, on_cpu: bytes, tmp_path: Path) -> None:
    record = scored(tmp_path, data, bundle, faults=(lost(5),))
    assert record.status == "published"
    assert record.routes == {"gpu": 5 * 200 - 1, "cpu": GOOD - 5 * 200 + 1}
    assert score_bytes(tmp_path) == on_cpu


def test_a_lost_gpu_and_the_run_pauses(data: Path, bundle: Path, on_cpu: bytes, tmp_path: Path) -> None:
    paused = scored(tmp_path, data, bundle, faults=(lost(8),), engine__fallback__gpu_lost="pause")
    assert paused.status == "paused"
    assert "injected" in paused.message
    assert sorted(manifests(tmp_path)) == ["day=2026-01-01"]
    again = scored(tmp_path, data, bundle)
    assert (again.status, again.run_id) == ("published", paused.run_id)
    assert score_bytes(tmp_path) == on_cpu


def test_a_lost_gpu_is_waited_for_and_comes_back(data: Path, bundle: Path, on_cpu: bytes, tmp_path: Path) -> None:
    once = lost(5) | {"once": str(tmp_path / "mark")}
    record = scored(tmp_path / "ws", data, bundle, faults=(once,), engine__fallback__gpu_lost="wait")
    assert (record.status, record.routes) == ("published", {"gpu": GOOD}), record.message
    assert score_bytes(tmp_path / "ws") == on_cpu


def test_a_lost_gpu_is_not_waited_for_for_ever(data: Path, bundle: Path, tmp_path: Path) -> None:
    changes = {"engine__fallback__gpu_lost": "wait", "engine__fallback__gpu_wait_s": 0.5}
    assert scored(tmp_path, data, bundle, faults=(lost(0),), **changes).status == "paused"
    assert manifests(tmp_path) == {}


def test_too_much_from_a_fallback_is_held_and_may_be_let_out(data: Path, bundle: Path, on_cpu: bytes, tmp_path: Path) -> None:
    small = {"engine__fallback__batch": False, "rows": 70}
    held = scored(tmp_path, data, bundle, **small, engine__fallback__max_share=0.25)
    assert held.status == "held"
    assert {c.name for p in held.partitions for c in p.checks if c.status == "fail"} == {"fallback_share"}
    assert manifests(tmp_path) == {}
    let_out = scored(tmp_path, data, bundle, **small, engine__fallback__max_share=1.0)
    assert (let_out.status, let_out.run_id) == ("published", held.run_id)
    assert score_bytes(tmp_path) == on_cpu
