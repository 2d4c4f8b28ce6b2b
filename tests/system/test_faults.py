"""Every fault at every site, once each: the run goes on, and what it publishes is what it would have published."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos import Drivers, Published, lanes, until
from workload import Quiet, job, plain_days, plain_job

from scoring.jobs.run import run
from scoring.settings import Job, build

SITES = ("lane.start", "read", "device", "stage.before_quarantine", "stage.before_link", "stage.after_link")
KINDS = ("oom", "sticky", "lost", "raise", "disk-full")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_days(tmp_path_factory.mktemp("data"), days=2, files=1, groups=8, group_rows=40)


@pytest.fixture(scope="module")
def undisturbed(data: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Published:
    workspace = tmp_path_factory.mktemp("undisturbed")
    run(job(workspace, data, bundle), "", Quiet())
    return Published.of(workspace)


@pytest.fixture(scope="module")
def drivers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drivers]:
    with Drivers(tmp_path_factory.mktemp("drivers") / "log") as found:
        yield found


def fault(site: str, kind: str, mark: Path, **more: Any) -> dict[str, Any]:
    return {"site": site, "kind": kind, "once": str(mark), **more}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("site", SITES)
def test_a_fault_costs_an_attempt_and_no_row(
    site: str, kind: str, data: Path, bundle: Path, undisturbed: Published, tmp_path: Path
) -> None:
    nth = None if site == "lane.start" else 3
    given = job(
        tmp_path / "ws", data, bundle, engine__faults=(fault(site, kind, tmp_path / "mark", slice_nth=nth),), engine__in_flight=1
    )
    record = run(given, "", Quiet())
    assert (tmp_path / "mark").exists()
    if (site, kind) == ("lane.start", "raise"):  # a lane that cannot be built cannot be built again: the run says so
        assert record.status == "failed"
        assert "injected at lane.start" in record.message
        record = run(given, "", Quiet())
    assert record.status == "published", record.message
    Published.of(tmp_path / "ws").same_as(undisturbed)


@pytest.mark.parametrize("site", ["device", *(pytest.param(s, marks=pytest.mark.slow) for s in SITES[1:] if s != "device")])
def test_a_lane_that_hangs_is_given_up(
    site: str, drivers: Drivers, data: Path, bundle: Path, undisturbed: Published, tmp_path: Path
) -> None:
    given = plain_job(
        tmp_path / "ws", data, bundle, engine__faults=[fault(site, "hang", tmp_path / "mark", slice_nth=4)], engine__in_flight=1
    )
    given["engine"]["retry"]["call_deadline_s"] = 1.0
    assert drivers.run(given) == 0, drivers.said()
    assert (tmp_path / "mark").exists()
    Published.of(tmp_path / "ws").same_as(undisturbed)


@pytest.mark.parametrize("kind", ["kill", pytest.param("hang", marks=pytest.mark.slow)])
def test_lanes_on_ray_struck_at_every_site(
    kind: str, cluster: Any, data: Path, bundle: Path, undisturbed: Published, tmp_path: Path
) -> None:
    sites = SITES if kind == "kill" else ("device", "stage.before_link")
    marks = tmp_path / "marks"
    marks.mkdir()
    faults = tuple(fault(site, kind, marks / site) for site in sites)
    changes = {"engine__faults": faults, "engine__kind": "ray", "engine__address": cluster.address, "engine__lanes": 2}
    given = plain_job(tmp_path / "ws", data, bundle, **changes)
    given["engine"]["retry"] |= {"call_deadline_s": 3.0}

    record = run(build(Job, given), "", Quiet())
    assert record.status == "published", record.message
    assert sorted(os.listdir(marks)) == sorted(sites)
    Published.of(tmp_path / "ws").same_as(undisturbed)
    until(lambda: not lanes(cluster.head_node), "the lanes to be gone")
