"""A run that fails before it begins is a failed run: told, logged and recorded; not one that nobody hears of."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from receiver import Receiver, receiver
from workload import Quiet, job, plain_days

from scoring.errors import BusyError, ConfigError, ModelError, ScoringError, SourceError
from scoring.jobs import witness
from scoring.jobs.erase import erase
from scoring.jobs.run import run
from scoring.jobs.verify import verify
from scoring.respond.logs import Logs
from scoring.settings import Job
from scoring.stores import open_store

SECRET = "canary-early-31c7"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_days(tmp_path_factory.mktemp("data"), days=1, files=1, groups=1)


def attempt(given: Job, error: type[ScoringError]) -> str:
    """As the command does it; what was said."""
    with Logs(given.respond.logs) as logs, pytest.raises(error) as raised:
        witness.witnessed(run, logs=logs)(given, "", Quiet())
    return str(raised.value)


def held(workspace: Path) -> AbstractContextManager[None]:
    return open_store(str(workspace)).lock({"run": "another"})


@contextmanager
def empty(workspace: Path) -> Iterator[None]:
    (workspace.parent / "empty").mkdir()
    yield


CASES: dict[str, tuple[type[ScoringError], dict[str, Any], Callable[[Path], AbstractContextManager[None]]]] = {
    "nothing to read": (SourceError, {"source__path": "{tmp}/empty"}, empty),
    "no bundle": (ModelError, {"model__bundle": "/nowhere"}, lambda workspace: nullcontext()),
    "a contract that cannot be": (
        ConfigError,
        {"contract__columns": {"amount": {"dtype": "complex"}}},
        lambda workspace: nullcontext(),
    ),
    "the workspace is taken": (BusyError, {}, held),
}


def told(there: Receiver, textfile: Path, message: str) -> None:
    start, fail = (json.loads(one.body) for one in there.got[-2:])
    assert (start["eventType"], fail["eventType"]) == ("START", "FAIL")
    assert start["run"]["runId"] == fail["run"]["runId"]
    assert fail["run"]["facets"]["errorMessage"]["message"] == message
    metrics = textfile.read_text()
    assert re.search(r'^scoring_run_status\{.*status="failed"\} 1\.0$', metrics, re.MULTILINE)
    assert re.search(r"^scoring_last_run_timestamp_seconds\{.*\} 1\.\d+e\+09$", metrics, re.MULTILINE)
    assert not re.search(r"^scoring_last_success_timestamp_seconds\{", metrics, re.MULTILINE)


@pytest.mark.parametrize("case", CASES)
def test_it_is_told_logged_and_recorded(case: str, data: Path, bundle: Path, tmp_path: Path) -> None:
    error, changes, trouble = CASES[case]
    changes = {name: value.replace("{tmp}", str(tmp_path)) if isinstance(value, str) else value for name, value in changes.items()}
    workspace, textfile = tmp_path / "w", tmp_path / "x.prom"
    with receiver() as there, trouble(workspace):
        settings = {"respond__lineage__url": there.url, "respond__metrics__textfile": str(textfile), "respond__limit_s": 30.0}
        given = job(workspace, data, bundle, **settings, run_id=None, **changes)
        message = attempt(given, error)
        told(there, textfile, message)
    (folder,) = (workspace / "runs").glob("*-failed")
    record = json.loads((folder / "record.json").read_text())
    assert (record["status"], record["message"]) == ("failed", message)
    assert len((folder / "openlineage.jsonl").read_text().splitlines()) == 2
    (line,) = [one for one in map(json.loads, (folder / "log.jsonl").read_text().splitlines()) if one["event"] == "run.failed"]
    assert (line["run_id"], line["error"], line["message"]) == (folder.name, error.__name__, message)
    assert (line["stage"], line["exit_code"], line["level"]) == ("begin", error.exit_code, "error")


def test_what_follows_goes_its_way(data: Path, bundle: Path, tmp_path: Path) -> None:
    """The run that failed early keeps nobody from anything: not the next run, nor verify, nor an erasure."""
    quiet = {"respond__lineage__enabled": False}
    attempt(job(tmp_path, data, "/nowhere", **quiet, run_id=None), ConfigError)
    attempt(job(tmp_path, data, "/nowhere", **quiet, run_id="mine"), ConfigError)
    assert sorted(p.name for p in (tmp_path / "runs").iterdir() if not p.name.startswith("."))[1:] == ["mine"]
    record = run(job(tmp_path, data, bundle, **quiet, run_id="mine"), "", Quiet())
    assert (record.status, record.run_id) == ("published", "mine")
    assert json.loads((tmp_path / "runs/mine/record.json").read_text())["status"] == "published"
    assert verify(str(tmp_path)).problems == ()
    with pytest.raises(ConfigError, match="column"):  # looks at all runs before it says so
        erase(str(tmp_path), "somebody", "asked")


def test_a_run_that_had_begun_keeps_its_record(data: Path, bundle: Path, tmp_path: Path) -> None:
    quiet = {"respond__lineage__enabled": False}
    run(job(tmp_path, data, bundle, **quiet), "", Quiet())
    before = (tmp_path / "runs/the-run/record.json").read_bytes()
    attempt(job(tmp_path, data, "/nowhere", **quiet), ConfigError)
    assert (tmp_path / "runs/the-run/record.json").read_bytes() == before
    assert "run.failed" in (tmp_path / "runs/the-run/log.jsonl").read_text()


def test_where_the_workspace_is_the_trouble_receivers_hear_of_it(data: Path, bundle: Path, tmp_path: Path) -> None:
    textfile = tmp_path / "x.prom"
    (tmp_path / "file").write_text("in the way")
    with receiver() as there:
        settings = {"respond__lineage__url": there.url, "respond__metrics__textfile": str(textfile), "respond__limit_s": 30.0}
        message = attempt(job(tmp_path / "file/w", data, bundle, **settings), ScoringError)
        told(there, textfile, message)


def test_secrets_are_out_of_what_is_told(data: Path, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARLY_TOKEN", SECRET)
    with receiver() as there:
        settings = {"respond__lineage__url": there.url, "respond__limit_s": 30.0, "run_id": None}
        attempt(job(tmp_path, f"/nowhere/{SECRET}", bundle, **settings), ConfigError)
    sent = [one.body for one in there.got]
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(sent) == 2
    assert not [text for text in (*sent, *written) if SECRET in text]
    assert any("/nowhere/***" in text for text in sent)
