"""What a user does to a run: stops it, starts it twice, changes what it is made of, starts it again. By the command, mostly."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from chaos import Published, gone, staged, until
from workload import ROOT, RUN, Quiet, assert_sound, job, manifests, plain_days, rows, tabular

from scoring.errors import ChangedError
from scoring.jobs.run import run
from scoring.types import Receipt


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_days(tmp_path_factory.mktemp("data"), days=5, files=2, groups=20, group_rows=30)


@pytest.fixture(scope="module")
def undisturbed(data: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Published:
    workspace = tmp_path_factory.mktemp("undisturbed")
    run(job(workspace, data, bundle), "", Quiet())
    return Published.of(workspace)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tabular(tmp_path_factory.mktemp("other"), version="2", seed=3)


def words(workspace: Path, data: Path, bundle: Path, *more: str) -> list[str]:
    return [
        "source=parquet",
        f"source.path={data}",
        "source.carry=[id,city]",
        "source.slice_rows=1",
        f"model.bundle={bundle}",
        f"workspace={workspace}",
        f"run_id={RUN}",
        "hardware=cpu",
        "hardware.memory_per_lane_gb=0.3",
        "release.max_bad_share=null",
        "contract.columns.amount={dtype: float64, min: -50, max: 5000}",
        *more,
    ]


def command(*given: str) -> list[str]:
    return [sys.executable, "-m", "scoring", "run", *given]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return kept | {"PYTHONPATH": str(ROOT)}


def done(*given: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end; whatever it says, it is no traceback."""
    found = subprocess.run(command(*given), capture_output=True, text=True, env=environment(), timeout=120, check=False)
    assert "Traceback" not in found.stdout + found.stderr
    return found


@contextmanager
def started(log: Path, *given: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command on its way, in a session of its own, as from a terminal. Killed with all its processes if the test fails."""
    with open(log, "w") as out:
        process = subprocess.Popen(command(*given), stdout=out, stderr=out, env=environment(), start_new_session=True)
    try:
        yield process
    finally:
        for one in family(process.pid):
            one.kill()
        process.kill()
        process.wait()


def family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def folders(processes: list[psutil.Process]) -> set[Path]:
    """The private folders of Ray that processes name."""
    found = set()
    for process in processes:
        if not gone(process):
            found |= set(re.findall(r"/[\w/-]*/scoring-\w+", " ".join(process.cmdline())))
    return {Path(name) for name in found}


@pytest.mark.parametrize(
    ("engine", "number"),
    [
        pytest.param("inline", signal.SIGINT, id="inline-SIGINT"),
        pytest.param("inline", signal.SIGTERM, id="inline-SIGTERM", marks=pytest.mark.slow),
        pytest.param("ray", signal.SIGINT, id="ray-SIGINT", marks=pytest.mark.slow),
        pytest.param("ray", signal.SIGTERM, id="ray-SIGTERM"),
    ],
)
def test_a_signal_ends_it_cleanly_and_it_goes_on(
    engine: str, number: signal.Signals, data: Path, bundle: Path, undisturbed: Published, tmp_path: Path
) -> None:
    workspace, log = tmp_path / "ws", tmp_path / "log"
    given = words(workspace, data, bundle, f"engine={engine}")
    with started(log, *given) as process:
        until(lambda: staged(workspace) >= 20 or process.poll() is not None, "some slices")
        below = family(process.pid)
        private = folders(below)
        assert bool(private) == (engine == "ray")
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # a terminal sends it to all of them
        else:
            process.send_signal(number)
        assert process.wait(60) == 128 + number, log.read_text()
        assert all(gone(one) for one in below), [one for one in below if not gone(one)]
        assert not any(folder.exists() for folder in private)
    said = log.read_text()
    assert "Traceback" not in said
    assert re.search(r"To go on: .*scoring run source=parquet ", said)
    assert 20 <= staged(workspace) < 5 * 2 * 20
    assert_sound(workspace)
    again = done(*words(workspace, data, bundle, "engine=inline"))
    assert again.returncode == 0, again.stderr
    Published.of(workspace).same_as(undisturbed)


@pytest.mark.slow
def test_what_a_killed_driver_leaves_on_its_own_ray_is_cleared_by_the_next(
    data: Path, bundle: Path, undisturbed: Published, tmp_path: Path
) -> None:
    """Nobody is left to end Ray's processes. Lanes go within seconds; two agents of Ray's would stay for a minute."""
    workspace, log = tmp_path / "ws", tmp_path / "log"
    given = words(workspace, data, bundle, "engine=ray", "engine.lanes=2")
    with started(log, *given) as process:
        until(lambda: staged(workspace) >= 10 or process.poll() is not None, "some slices")
        below = family(process.pid)
        (private,) = folders(below)
        process.kill()
        assert process.wait(60) == -9
        assert private.exists()
        again = done(*given)
        assert again.returncode == 0, again.stderr
        Published.of(workspace).same_as(undisturbed)
        assert not private.exists()
        until(lambda: all(gone(one) for one in below), "Ray's processes to be gone", deadline_s=10, pause_s=0.05)
    Published.of(workspace).same_as(undisturbed)


@pytest.mark.slow
def test_what_hangs_is_left_after_the_grace_period(data: Path, bundle: Path, tmp_path: Path) -> None:
    mark, log = tmp_path / "mark", tmp_path / "log"
    hang = f"engine.faults=[{{site: device, kind: hang, slice_nth: 5, once: {mark}}}]"
    given = words(tmp_path / "ws", data, bundle, "engine=inline", "engine.in_flight=1", "engine.retry.grace_s=0.3", hang)
    with started(log, *given) as process:
        until(lambda: mark.exists() or process.poll() is not None, "the lane to hang")
        assert process.poll() is None, log.read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143, log.read_text()
    assert done(*given).returncode == 0


@pytest.mark.parametrize("engine", ["inline", pytest.param("ray", marks=pytest.mark.slow)])
def test_a_second_signal_ends_it_at_once_and_a_second_run_is_told_who_works_here(
    engine: str, data: Path, bundle: Path, tmp_path: Path
) -> None:
    mark, log = tmp_path / "mark", tmp_path / "log"
    hang = f"engine.faults=[{{site: device, kind: hang, slice_nth: 5, once: {mark}}}]"
    given = words(tmp_path / "ws", data, bundle, f"engine={engine}", "engine.lanes=1", "engine.in_flight=1", hang)
    with started(log, *given) as process:
        until(lambda: mark.exists() or process.poll() is not None, "the lane to hang")
        assert process.poll() is None, log.read_text()
        second = done(*given)
        assert second.returncode == 75
        assert f"pid {process.pid}" in second.stderr
        assert RUN in second.stderr
        below = family(process.pid)
        process.send_signal(signal.SIGINT)
        until(lambda: "Stopping" in log.read_text(), "the first signal to be heard")
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        assert process.wait(20) == 130
        assert time.monotonic() - began < 10
        until(lambda: all(gone(one) for one in below), "the processes to be gone", deadline_s=5)


def test_a_finished_job_has_nothing_to_do_and_says_so(data: Path, bundle: Path, undisturbed: Published, tmp_path: Path) -> None:
    given = words(tmp_path, data, bundle, "engine=inline")
    assert done(*given).returncode == 0
    before = Published.of(tmp_path)
    before.same_as(undisturbed)
    again = done(*[word for word in given if not word.startswith("run_id")], "engine=ray")
    assert again.returncode == 0
    assert "othing to do" in again.stdout
    assert Published.of(tmp_path) == before


@pytest.mark.parametrize(
    "what",
    [
        "the model",
        pytest.param("the contract", marks=pytest.mark.slow),
        pytest.param("how the source is read", marks=pytest.mark.slow),
        pytest.param("the input files", marks=pytest.mark.slow),
    ],
)
def test_a_change_is_refused_or_rescored_as_asked_and_never_mixed(what: str, bundle: Path, other: Path, tmp_path: Path) -> None:
    data = plain_days(tmp_path / "data", days=3, files=2, groups=3, group_rows=30)
    given = words(tmp_path / "ws", data, bundle, "engine=inline")
    assert done(*given).returncode == 0
    before = Published.of(tmp_path / "ws")
    match what:
        case "the model":
            change = [f"model.bundle={other}"]
        case "the contract":
            change = ["contract.columns.amount={dtype: float64, min: 0, max: 50}"]
        case "how the source is read":
            change = ["source.carry=[id]"]
        case _:
            change = []
            pq.write_table(rows(50, 77, 1_000_000), data / "day=2026-01-02" / "f9.parquet")
    changed = [*(word for word in given if not word.startswith("run_id")), *change]
    refused = done(*changed)
    assert refused.returncode == 78
    assert what in refused.stderr
    assert "release.on_change=rescore" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert Published.of(tmp_path / "ws") == before
    rescored = done(*changed, "release.on_change=rescore")
    assert rescored.returncode == 0, rescored.stderr
    after = manifests(tmp_path / "ws")
    touched = ["day=2026-01-02"] if what == "the input files" else sorted(after)
    assert [key for key in sorted(after) if after[key].version == 2] == touched
    assert len({after[key].run_id for key in touched}) == 1
    assert_sound(tmp_path / "ws")
    fresh = job(tmp_path / "fresh", data, other if what == "the model" else bundle, **fresh_changes(what))
    run(fresh, "", Quiet())
    assert bare(Published.of(tmp_path / "ws")) == bare(Published.of(tmp_path / "fresh"))


def fresh_changes(what: str) -> dict[str, Any]:
    match what:
        case "the contract":
            return {"contract__columns": {"amount": {"dtype": "float64", "min": 0.0, "max": 50.0}}}
        case "how the source is read":
            return {"source__carry": ["id"]}
        case _:
            return {}


def bare(published: Published) -> Any:
    """Without the name of the run, which a resumed file keeps."""
    import polars as pl

    return pl.read_ipc(published.scores).drop("run_id").rows(), published.counts


def test_an_unfinished_run_of_another_model_is_left_alone(data: Path, bundle: Path, other: Path, tmp_path: Path) -> None:
    stopped = run(
        job(tmp_path, data, bundle, run_id=None), "", Quiet(), should_stop=lambda: "enough" if staged_any(tmp_path) > 30 else None
    )
    assert stopped.status == "paused"
    first = manifests(tmp_path)
    assert 0 < len(first) < 5 or staged_any(tmp_path) > 30
    finished = run(job(tmp_path, data, other, run_id=None, release__on_change="rescore"), "", Quiet())
    assert finished.run_id != stopped.run_id
    assert {m.model["version"] for m in manifests(tmp_path).values()} == {"2"}
    assert_sound(tmp_path)
    with pytest.raises(ChangedError, match="the model"):
        run(job(tmp_path, data, bundle, run_id=None), "", Quiet())


def staged_any(workspace: Path) -> int:
    return sum(1 for _ in workspace.glob("runs/*/staged/*.parquet"))


class Rewriting(Quiet):
    """Rewrites an input file as soon as the first slice is done."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def finished(self, receipt: Receipt) -> None:
        if not self.receipts:
            pq.write_table(rows(200, 4711, 2_000_000), self._path, row_group_size=50)
        super().finished(receipt)


def test_an_input_that_changes_under_the_run_is_not_scored_half_and_half(bundle: Path, tmp_path: Path) -> None:
    data = plain_days(tmp_path / "data", days=2, files=2, groups=6, group_rows=50)
    last = data / "day=2026-01-02" / "f1.parquet"
    record = run(job(tmp_path / "ws", data, bundle, engine__in_flight=1), "", Rewriting(last))
    assert (record.status, record.cause) == ("failed", "input"), record
    assert "changed since planning" in record.message
    assert sorted(manifests(tmp_path / "ws")) == ["day=2026-01-01"]
    assert run(job(tmp_path / "ws", data, bundle), "", Quiet()).status == "published"
    run(job(tmp_path / "fresh", data, bundle), "", Quiet())
    Published.of(tmp_path / "ws").same_as(Published.of(tmp_path / "fresh"))
