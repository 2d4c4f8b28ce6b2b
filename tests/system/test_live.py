"""What is told while a run goes on, with the real process that tells it and real receivers: in order, once, valid."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from receiver import hanging, receiver
from schemas import complaints
from workload import HERE, ROOT, RUN, job, plain_days, plain_job, score_bytes

from scoring.jobs import live, telling, witness
from scoring.jobs.run import run
from scoring.respond.progress import ProgressWatcher
from scoring.settings import Job
from scoring.types import Receipt, RunRecord

WAIT_S = 60.0
DRIVER = """
import json, sys, threading
from scoring.jobs import live, witness
from scoring.jobs.run import run
from scoring.respond.progress import ProgressWatcher
from scoring.settings import Job, build
live._SOON_S = 0.1
class Stuck(ProgressWatcher):
    def finished(self, receipt):
        super().finished(receipt)
        print("stuck", flush=True)
        threading.Event().wait()
witness.witnessed(run)(build(Job, json.loads(sys.argv[1])), "", Stuck(None))
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_days(tmp_path_factory.mktemp("data"), days=2, files=1, groups=2)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_SOON_S", 0.1)


def until(condition: Callable[[], bool], what: str) -> None:
    by = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < by, f"{what}: not within {WAIT_S:g} s"
        time.sleep(0.02)


class Waits(ProgressWatcher):
    """Holds the run up when its first slice is done, until something has happened."""

    def __init__(self, condition: Callable[[], bool], what: str) -> None:
        super().__init__(None)
        self._condition, self._what = condition, what

    def finished(self, receipt: Receipt) -> None:
        super().finished(receipt)
        until(self._condition, self._what)


def told(given: Job, condition: Callable[[], bool], what: str) -> tuple[RunRecord, telling.Told]:
    """A run that goes on until the condition holds, and what was said of its telling."""
    with Waits(condition, what) as watcher:
        record = witness.witnessed(run)(given, "", watcher)
    assert tellers() == [], "nothing is left behind"
    found = telling.tell(given, record)
    assert found is not None
    return record, found


def tellers() -> list[Any]:
    return [p for p in psutil.Process().children(recursive=True) if "scoring.respond.live" in " ".join(p.cmdline())]


def events(got: list[Any]) -> list[dict[str, Any]]:
    return [json.loads(one.body) for one in got]


def kinds(got: list[Any]) -> list[str]:
    """In the order of coming, RUNNING once however often."""
    found = [event["eventType"] for event in events(got)]
    return [kind for n, kind in enumerate(found) if n == 0 or found[n - 1] != kind]


def test_events_come_while_the_run_goes_on(data: Path, bundle: Path, tmp_path: Path) -> None:
    textfile = tmp_path / "churn.prom"
    textfile.write_text("scoring_last_success_timestamp_seconds 1.0\n")
    alive = tmp_path / "churn.live.prom"
    seen: dict[str, str] = {}
    with receiver() as there:

        def enough() -> bool:
            if alive.exists():
                seen.update(live=alive.read_text(), last=textfile.read_text())
            return kinds(there.got) == ["START", "RUNNING"] and "live" in seen

        settings = {"respond__lineage__every_s": 0.2, "respond__lineage__url": there.url, "respond__limit_s": 30.0}
        given = job(tmp_path / "w", data, bundle, respond__metrics__textfile=str(textfile), **settings)
        record, said = told(given, enough, "START and RUNNING")
    assert record.status == "published"
    assert kinds(there.got) == ["START", "RUNNING", "COMPLETE"]
    assert len({event["run"]["runId"] for event in events(there.got)}) == 1
    assert len({one.body for one in there.got}) == len(there.got), "each once"
    assert [message for event in events(there.got) for message in complaints(event)] == []
    running = events(there.got)[1]
    assert running["inputs"][0]["inputFacets"]["inputStatistics"]["rowCount"] <= record.rows["in"]
    standing = (tmp_path / f"w/runs/{RUN}/openlineage.jsonl").read_text().splitlines()
    assert standing == [one.body for one in there.got]
    assert not list((tmp_path / "w/outbox").rglob("*.json"))
    assert said.line() == "told: lineage 1, textfile 1"
    gauges = {s.name: s.value for f in text_string_to_metric_families(seen["live"]) for s in f.samples}
    assert gauges["scoring_live_lanes"] == 1
    assert gauges["scoring_live_planned_rows"] == record.rows["in"]
    assert seen["last"] == "scoring_last_success_timestamp_seconds 1.0\n", "the last run's stays meanwhile"
    assert not alive.exists(), "gone with the run"
    assert "scoring_last_success_timestamp_seconds{" in textfile.read_text()


@pytest.mark.slow
def test_a_receiver_that_hangs_gets_all_of_it_in_order_later(data: Path, bundle: Path, tmp_path: Path) -> None:
    outbox = tmp_path / "outbox/lineage"

    def kept() -> bool:
        return any("running" in path.name for path in outbox.glob("*.json"))

    settings = {"respond__lineage__every_s": 0.2, "respond__limit_s": 6.0}
    with hanging() as url:
        given = job(tmp_path, data, bundle, respond__lineage__url=url, **settings)
        record, _ = told(given, kept, "RUNNING in the outbox")
    assert record.status == "published"
    assert len(list(outbox.glob("*.json"))) >= 2
    with receiver() as there:
        given = job(tmp_path, data, bundle, respond__lineage__url=there.url, respond__limit_s=30.0)
        telling.tell(given, witness.witnessed(run)(given, "", ProgressWatcher(None)))
    assert kinds(there.got) == ["START", "RUNNING", "COMPLETE"]
    assert len({event["run"]["runId"] for event in events(there.got)}) == 1
    assert not list(outbox.glob("*.json"))


@pytest.fixture
def driver(data: Path, bundle: Path, tmp_path: Path) -> Iterator[Callable[[str, str], Any]]:
    """Starts a run, in a process of its own, that stops for ever when its first slice is done."""
    started: list[subprocess.Popen[str]] = []

    def start(url: str, textfile: str) -> subprocess.Popen[str]:
        settings = {"respond__lineage__url": url, "respond__metrics__textfile": textfile, "respond__limit_s": 30.0}
        given = json.dumps(plain_job(tmp_path / "w", data, bundle, **settings))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(HERE)))}
        command = [sys.executable, "-c", DRIVER, given]
        started.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_run_that_is_killed_is_told_as_such_and_the_next_pass_as_another(
    driver: Any, data: Path, bundle: Path, tmp_path: Path
) -> None:
    textfile = tmp_path / "churn.prom"
    with receiver() as there:
        process = driver(there.url, str(textfile))
        until(lambda: kinds(there.got) == ["START"] and (tmp_path / "churn.live.prom").exists(), "START and the textfile")
        assert process.stdout.readline() == "stuck\n"
        process.send_signal(signal.SIGKILL)
        until(lambda: len(there.got) > 1, "the end")
        until(lambda: not (tmp_path / "churn.live.prom").exists(), "the textfile gone")
        first = events(there.got)
        assert [event["eventType"] for event in first] == ["START", "ABORT"]
        assert "ended without a word" in first[1]["run"]["facets"]["errorMessage"]["message"]
        assert [message for event in first for message in complaints(event)] == []
        given = job(tmp_path / "w", data, bundle, respond__lineage__url=there.url, respond__limit_s=30.0)
        telling.tell(given, witness.witnessed(run)(given, "", ProgressWatcher(None)))
    second = events(there.got)[2:]
    assert [event["eventType"] for event in second] == ["START", "COMPLETE"]
    assert first[0]["run"]["runId"] == first[1]["run"]["runId"] != second[0]["run"]["runId"] == second[1]["run"]["runId"]


def test_a_run_that_raises_ends_under_the_id_that_it_began_with(data: Path, bundle: Path, tmp_path: Path) -> None:
    with receiver() as there:

        class Breaks(Waits):
            def finished(self, receipt: Receipt) -> None:
                super().finished(receipt)
                raise RuntimeError("a watcher may not raise; this one does")

        given = job(tmp_path, data, bundle, respond__lineage__url=there.url, respond__limit_s=30.0)
        with Breaks(lambda: kinds(there.got) == ["START"], "START") as watcher, pytest.raises(RuntimeError):
            witness.witnessed(run)(given, "", watcher)
    found = events(there.got)
    assert [event["eventType"] for event in found] == ["START", "FAIL"]
    assert len({event["run"]["runId"] for event in found}) == 1


def test_what_is_published_is_the_same_with_and_without(data: Path, bundle: Path, tmp_path: Path) -> None:
    with hanging() as url:
        quiet = job(tmp_path / "a", data, bundle, respond__lineage__enabled=False)
        loud = job(tmp_path / "b", data, bundle, respond__lineage__url=url, respond__lineage__every_s=0.01, respond__limit_s=1.0)
        for given in (quiet, loud):
            assert witness.witnessed(run)(given, "", ProgressWatcher(None)).status == "published"
    assert score_bytes(tmp_path / "a") == score_bytes(tmp_path / "b")
