"""Lanes, nodes and drivers killed at random points, frozen and thawed: after resume, to the byte what an undisturbed run publishes.

Every schedule is a function of its seed; the seed is in the test's name, so that the name is the line to repeat it with.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from chaos import (
    Drivers,
    Immutable,
    Published,
    Running,
    family,
    gone,
    lanes,
    send,
    shown,
    spooling,
    staged,
    stopped,
    until,
    writing,
)
from workload import RUN, Quiet, hurt, job, plain_days, plain_job

from scoring.jobs.run import run

SLICES = 4 * 2 * 10 + 1
SITES = (
    "lane.start",
    "read",
    "device",
    "stage.before_quarantine",
    "stage.before_link",
    "stage.after_link",
    "publish.before_manifest",
    "publish.after_manifest",
    "publish.after_show",
)
OFTEN = ("device", "stage.before_link", "publish.before_manifest", "publish.after_manifest")


def seeds(few: int, many: int) -> list[Any]:
    return [*range(few), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(few, many))]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eighty row groups of sixty rows in four partitions, one of them damaged, and a file that is none."""
    folder = plain_days(tmp_path_factory.mktemp("data"), days=4, files=2, groups=10, group_rows=60)
    hurt(folder / "day=2026-01-02/f1.parquet", group=4)
    (folder / "day=2026-01-03/z.parquet").write_bytes(b"PAR1")
    return folder


@pytest.fixture(scope="module")
def undisturbed(data: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Published:
    workspace = tmp_path_factory.mktemp("undisturbed")
    record = run(job(workspace, data, bundle), "", Quiet())
    assert record.status == "published-with-warnings"
    assert staged(workspace) == SLICES
    return Published.of(workspace)


@pytest.fixture(scope="module")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drivers]:
    with Drivers(tmp_path_factory.mktemp("drivers") / "log") as found:
        yield found


def moment(rng: Random, workspace: Path) -> Callable[[], bool]:
    """A point of the run: so many more slices staged, and perhaps something under way or just published."""
    wanted = staged(workspace) + rng.randrange(0, max(1, (SLICES - staged(workspace)) * 3 // 4))
    before = shown(workspace)
    also = rng.choice([lambda: True, lambda: bool(spooling(workspace)), lambda: shown(workspace) > before])
    return lambda: staged(workspace) >= wanted and also()


def kill_driver(rng: Random, workspace: Path) -> Callable[[int, Callable[[], bool]], None]:
    here = moment(rng, workspace)

    def strike(pid: int, ended: Callable[[], bool]) -> None:
        until(lambda: here() or ended(), "the moment to kill the driver")
        if not ended():
            os.kill(pid, signal.SIGKILL)

    return strike


def hurt_and_resume(rng: Random, drivers: Drivers, given: dict[str, Any], workspace: Path, kills: int, expected: Published) -> int:
    """Kill the driver some times, then let it finish. Returns how many kills struck."""
    immutable, struck = Immutable(workspace), 0
    for _ in range(kills):
        code = drivers.run(given, kill_driver(rng, workspace))
        assert code in (0, -9), drivers.said()
        struck += code == -9
        immutable.look()
    assert drivers.run(given) == 0, drivers.said()
    immutable.look()
    Published.of(workspace).same_as(expected)
    assert drivers.run(given) == 0, drivers.said()
    immutable.look()
    assert not spooling(workspace), "what killed writers left is swept by the next run"
    return struck


@pytest.mark.parametrize("seed", seeds(1, 150))
def test_inline_driver_killed(
    seed: int, drivers: Drivers, data: Path, bundle: Path, undisturbed: Published, tmp_path: Path
) -> None:
    rng = Random(seed)
    given = plain_job(tmp_path, data, bundle, engine__in_flight=rng.randint(1, 3))
    assert hurt_and_resume(rng, drivers, given, tmp_path, rng.randint(1, 4), undisturbed) >= 1


@pytest.mark.parametrize("site", [pytest.param(s, marks=() if s in OFTEN else pytest.mark.slow) for s in SITES])
def test_inline_driver_killed_at(
    site: str, drivers: Drivers, data: Path, bundle: Path, undisturbed: Published, tmp_path: Path
) -> None:
    """The exact points between which a commit is half done."""
    marks = tmp_path / "marks"
    marks.mkdir()
    nth = [None, 7, 30] if site.startswith(("stage", "read", "device")) else [None, None, None]
    faults = [{"site": site, "kind": "kill", "slice_nth": n, "once": str(marks / f"{k}")} for k, n in enumerate(nth)]
    given = plain_job(tmp_path / "ws", data, bundle, engine__faults=faults, engine__in_flight=1)
    codes = [drivers.run(given) for _ in range(4)]
    assert codes.count(-9) == len(os.listdir(marks)) >= 2
    assert codes[-1] == 0, drivers.said()
    Published.of(tmp_path / "ws").same_as(undisturbed)


def on_ray(workspace: Path, data: Path, bundle: Path, address: str, **changes: Any) -> Any:
    return job(workspace, data, bundle, engine__kind="ray", engine__address=address, engine__lanes=2, **changes)


@pytest.mark.parametrize("seed", seeds(1, 110))
def test_lanes_killed(seed: int, cluster: Any, data: Path, bundle: Path, undisturbed: Published, tmp_path: Path) -> None:
    """The run itself goes on: lanes are replaced."""
    rng, immutable = Random(seed), Immutable(tmp_path)
    running = Running(on_ray(tmp_path, data, bundle, cluster.address))
    struck = 0
    for _ in range(rng.randint(1, 3)):
        here = moment(rng, tmp_path)
        until(lambda here=here: (here() and lanes(cluster.head_node)) or running.ended, "the moment to kill lanes")
        found = lanes(cluster.head_node)
        struck += send(signal.SIGKILL, found if rng.random() < 0.3 else found[:1])
        immutable.look()
    record = running.end()
    assert record.status == "published-with-warnings", record.message
    assert struck >= 1
    Published.of(tmp_path).same_as(undisturbed)
    until(lambda: not lanes(cluster.head_node), "the lanes to be gone")


@pytest.mark.parametrize("seed", seeds(1, 20))
def test_driver_on_ray_killed(
    seed: int, cluster: Any, drivers: Drivers, data: Path, bundle: Path, undisturbed: Published, tmp_path: Path
) -> None:
    """Its lanes may write on for seconds beside those of the driver that resumes."""
    given = plain_job(tmp_path, data, bundle, engine__kind="ray", engine__address=cluster.address, engine__lanes=2)
    assert hurt_and_resume(Random(seed), drivers, given, tmp_path, 2, undisturbed) >= 1
    until(lambda: not lanes(cluster.head_node), "the lanes to be gone")


@pytest.mark.parametrize("seed", seeds(0, 12))
def test_node_killed(seed: int, cluster: Any, data: Path, bundle: Path, undisturbed: Published, tmp_path: Path) -> None:
    rng = Random(seed)
    node = cluster.add_node(num_cpus=2, object_store_memory=80 << 20)
    try:
        running = Running(on_ray(tmp_path, data, bundle, cluster.address))
        here = moment(rng, tmp_path)
        until(lambda: (here() and lanes(node)) or running.ended, "a lane on the second node")
        assert send(signal.SIGKILL, family(node)) >= 2
        node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)  # reaps it: workers look for their parent
        record = running.end()
    finally:
        remove(cluster, node)
    assert record.status == "published-with-warnings", record.message
    Published.of(tmp_path).same_as(undisturbed)


@pytest.mark.parametrize("seed", seeds(1, 12))
def test_zombies(seed: int, cluster: Any, data: Path, bundle: Path, undisturbed: Published, tmp_path: Path) -> None:
    """A node frozen in the middle of a write, given up for dead, and thawed when all is published: it changes nothing."""
    rng = Random(seed)
    node = cluster.add_node(num_cpus=2, object_store_memory=80 << 20)
    try:
        running = Running(on_ray(tmp_path, data, bundle, cluster.address, engine__window_rows=4))  # it writes often
        some = rng.randrange(0, SLICES // 4)  # early: enough must be left to be caught writing
        until(lambda: (staged(tmp_path) >= some and lanes(node)) or running.ended, "a lane on the second node")
        assert until(lambda: running.ended or (frozen(node) and "frozen"), "a lane frozen while it writes") == "frozen"
        record = running.end()
        assert record.status == "published-with-warnings", record.message
        before = Published.of(tmp_path)
        zombies = lanes(node)
        assert any(writing(zombie) for zombie in zombies)
        immutable = Immutable(tmp_path)
        immutable.look()
        send(signal.SIGCONT, family(node))
        until(lambda: all(gone(z) or not writing(z) for z in zombies), "the zombies to end their attempts")
        immutable.look()
        Published.of(tmp_path).same_as(before)
    finally:
        remove(cluster, node)
    before.same_as(undisturbed)


def frozen(node: Any) -> bool:
    """Stop the node's lanes where one is writing; if it has just ended, let them go on."""
    found = lanes(node)
    if not any(writing(lane) for lane in found):
        return False
    send(signal.SIGSTOP, found)
    until(lambda: all(stopped(lane) for lane in found), "the lanes to stand still")
    if any(writing(lane) for lane in found):
        send(signal.SIGSTOP, family(node))
        return True
    send(signal.SIGCONT, found)
    return False


def remove(cluster: Any, node: Any) -> None:
    processes = family(node) if node.any_processes_alive() else []
    send(signal.SIGKILL, processes)
    node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
    cluster.worker_nodes.discard(node)
    until(lambda: all(gone(p) for p in processes), "the node's processes to be gone")


def test_the_run_has_the_name_that_was_asked_for(undisturbed: Published) -> None:
    """Guards the comparison: one run id, rows of all partitions, both sorts of quarantine."""
    assert RUN.encode() in undisturbed.scores
    assert sorted(undisturbed.counts) == [f"day=2026-01-0{n}" for n in range(1, 5)]
    assert sum(c["scored"] for c in undisturbed.counts.values()) == 80 * 60 - 60 - 16
