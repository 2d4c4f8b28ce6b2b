"""Two backfills and a nightly run in one workspace, killed at random: each decision is carried out once, whoever dies when.

Every schedule is a function of its seed, but for how the three processes are interleaved.
"""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest
from chaos import Drivers, shown, until
from workload import Quiet, assert_sound, manifests, plain_days, plain_job

from scoring.jobs.run import run
from scoring.ledger import runs
from scoring.ledger.chain import verify
from scoring.settings import Job, build
from scoring.sinks.manifest import history
from scoring.sinks.reader import read_scores
from scoring.stores import open_store

DAYS = 8
WORDS = {"start": "2026-01-01", "end": f"2026-01-{DAYS + 1:02d}"}
SITES = ("stage.before_link", "stage.after_link", "publish.before_manifest", "publish.after_manifest", "publish.after_show")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_days(tmp_path_factory.mktemp("data"), days=DAYS, files=1, groups=3, group_rows=20)


@pytest.fixture(scope="module")
def undisturbed(data: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    workspace = tmp_path_factory.mktemp("undisturbed")
    run(build(Job, given_to(workspace, data, bundle)), "", Quiet())
    return rows(workspace)


@pytest.fixture(scope="module")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Drivers]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Drivers(tmp_path_factory.mktemp("drivers") / str(n))) for n in range(3)]


def given_to(workspace: Path, data: Path, bundle: Path, **changes: Any) -> dict[str, Any]:
    return plain_job(workspace, data, bundle, run_id=None, source__carry=["id"], watch__enabled=False, **changes)


def rows(workspace: Path) -> bytes:
    """Published rows without what tells runs apart."""
    found = read_scores(str(workspace)).drop("run_id").collect()
    return repr(found.to_dicts()).encode()


class Worker:
    """Says its line again until it ends by itself; it is killed some times before."""

    def __init__(self, driver: Drivers, given: dict[str, Any], seed: int, kills: int, workspace: Path) -> None:
        self._driver, self._given, self._kills, self._workspace = driver, given, kills, workspace
        self._rng = Random(seed)
        self.struck = 0
        self.codes: list[int] = []
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def end(self) -> None:
        self._thread.join(300)
        assert not self._thread.is_alive()
        assert self.codes[-1] == 0, (self.codes, self._driver.said())
        assert set(self.codes) <= {0, -9, 75}, (self.codes, self._driver.said())

    def _work(self) -> None:
        for n in range(40):
            kill = self._strike if n < self._kills else lambda pid, ended: None
            self.codes.append(self._driver.run(dict(self._given), kill))
            self.struck += self.codes[-1] == -9
            if self.codes[-1] == 0:
                return

    def _strike(self, pid: int, ended: Callable[[], bool]) -> None:
        wanted = shown(self._workspace) + self._rng.randrange(0, 4)
        until(lambda: shown(self._workspace) >= wanted or ended(), "the moment to kill")
        if not ended():
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 50))])
def test_two_backfills_and_a_nightly_run_killed(
    seed: int, drivers: list[Drivers], data: Path, bundle: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    rng, marks, workspace = Random(seed), tmp_path / "marks", tmp_path / "w"
    marks.mkdir()
    faults = [{"site": rng.choice(SITES), "kind": "kill", "once": str(marks / str(n))} for n in range(3)]
    which = rng.choice(["missing", "missing", "all"])
    lines = [
        {"verb": "backfill", "words": WORDS | {"order": rng.choice(["oldest", "newest"])}},
        {"verb": "backfill", "words": WORDS | {"which": which, "order": rng.choice(["oldest", "newest"])}},
        {},
    ]
    given = [given_to(workspace, data, bundle, engine__faults=[fault]) | line for line, fault in zip(lines, faults, strict=True)]
    seeds = [rng.getrandbits(32) for _ in lines]
    kills = [rng.randint(0, 2) for _ in lines]
    workers = [Worker(*one, workspace) for one in zip(drivers, given, seeds, kills, strict=True)]
    for worker in workers:
        worker.end()
    assert_sound(workspace)
    assert rows(workspace) == undisturbed
    assert_once_per_decision(workspace)
    assert drivers[0].run(dict(given[0])) == 0, "and there is nothing left to do"
    assert_once_per_decision(workspace)


def assert_once_per_decision(workspace: Path) -> None:
    """A decision is to replace version n, and by whom. No run carries out two for one partition, and no version has two.

    A backfill of all that is killed when its run has ended was carried out: said again it is another decision, and another run.
    """
    store = open_store(str(workspace))
    found = manifests(workspace)
    records = [runs.record(store, name) for name in store.folders("runs")]
    most = 1 + sum("which=all" in record["environment"].get("backfill", "") for record in records if record)
    assert len(found) == DAYS
    said: Counter[str] = Counter()
    verify(store, lambda entry: said.update([entry["once"]]))
    for key in found:
        versions = history(store, key)
        assert len(versions) <= most
        assert [m.version for m in versions] == list(range(1, len(versions) + 1))
        assert [m.restated.replaces if m.restated else 0 for m in versions] == list(range(len(versions)))
        assert len({m.run_id for m in versions}) == len(versions)
        assert [said[f"published {key} v{m.version}"] for m in versions] == [1] * len(versions)
