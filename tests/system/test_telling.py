"""Law 6, with the real process that tells: whatever becomes of receivers, outbox or tellers, the run publishes the same and ends;
it says what was not delivered, and the next run delivers it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from receiver import closed, hanging, receiver
from workload import ROOT, RUN, Quiet, fill, job, plain_days, score_bytes

from scoring.errors import ConfigError, StoreError
from scoring.jobs import telling, witness
from scoring.jobs.run import run
from scoring.respond.outbox import Message, Outbox
from scoring.settings import Job
from scoring.stores import open_store

LIMIT_S = 6.0  # a Python that imports what a teller needs takes one or two on a busy machine
SLACK_S = 3.0
TOKEN = "canary-token-91c4"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_days(tmp_path_factory.mktemp("data"), days=2, files=1, groups=2)


@pytest.fixture(scope="module")
def undisturbed(data: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    workspace = tmp_path_factory.mktemp("undisturbed")
    run(job(workspace, data, bundle, respond__lineage__enabled=False), "", Quiet())
    return score_bytes(workspace)


class Scored:
    """A run, and what was told of it."""

    def __init__(self, given: Job) -> None:
        self.record = run(given, "", Quiet())
        began = time.monotonic()
        told = telling.tell(given, self.record)
        self.seconds = time.monotonic() - began
        assert told is not None
        self.told = told
        tellers = [p for p in psutil.Process().children(recursive=True) if "scoring.respond.teller" in " ".join(p.cmdline())]
        assert tellers == [], "nothing is left behind"


def again(given: Job) -> telling.Told:
    """The next run; it finds that everything is published."""
    record = run(given, "", Quiet())
    assert record.started == ""
    told = telling.tell(given, record)
    assert told is not None
    return told


def kinds(got: list[Any]) -> list[str]:
    return [json.loads(one.body)["eventType"] for one in got]


def kept(workspace: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((workspace / f"runs/{RUN}/told.json").read_text())
    return found


@contextmanager
def failing(status: int) -> Iterator[str]:
    with receiver(status) as there:
        yield there.url


@contextmanager
def down() -> Iterator[str]:
    yield closed()


@pytest.mark.parametrize(
    ("trouble", "limit_s", "why"),
    [
        (down, LIMIT_S, "Connection refused"),
        (lambda: failing(500), LIMIT_S, "answered 500"),
        (hanging, LIMIT_S, "no answer in time"),
    ],
    ids=["down", "500", "hanging"],
)
def test_a_receiver_in_trouble(
    trouble: Any, limit_s: float, why: str, data: Path, bundle: Path, undisturbed: bytes, tmp_path: Path
) -> None:
    with trouble() as url:
        given = job(tmp_path, data, bundle, respond__lineage__url=f"{url}/api/v1/lineage", respond__limit_s=limit_s)
        scored = Scored(given)
    assert scored.seconds < limit_s + SLACK_S
    assert score_bytes(tmp_path) == undisturbed
    assert scored.told.receivers["lineage"]["waits"] == 2
    assert scored.told.line() == f"not told: lineage: 2 wait in outbox ({why}). The next run tries again"
    assert kept(tmp_path)["receivers"]["lineage"]["waits"] == 2
    assert len((tmp_path / f"runs/{RUN}/openlineage.jsonl").read_text().splitlines()) == 2
    with receiver() as there:
        told = again(job(tmp_path, data, bundle, respond__lineage__url=there.url, respond__limit_s=30.0))
    assert kinds(there.got) == ["START", "COMPLETE"]
    assert told.line() == "told: lineage 2"
    assert not list((tmp_path / "outbox").rglob("*.json"))
    assert kept(tmp_path)["receivers"]["lineage"]["waits"] == 2, "told.json is of the run that did something"


SABOTAGE = {
    "raises": "raise RuntimeError('a bug of the teller')",
    "loops": "while True: pass",
    "resolves": """
import socket, threading
from pkgutil import extend_path
__path__ = extend_path(__path__, __name__)
socket.getaddrinfo = lambda *given, **more: threading.Event().wait()
""",
    "dies": "import os; os.kill(os.getpid(), 9)",
}


@pytest.mark.parametrize("trouble", ["loops", *(pytest.param(n, marks=pytest.mark.slow) for n in SABOTAGE if n != "loops")])
def test_a_teller_in_trouble(
    trouble: str, data: Path, bundle: Path, undisturbed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library of one of them is not what it should be: it raises, never returns, never resolves a name, or ends the process."""
    broken = tmp_path / "broken/openlineage"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text(SABOTAGE[trouble])
    workspace = tmp_path / "w"
    textfile = tmp_path / "x.prom"
    with receiver() as there:
        named = there.url.replace("127.0.0.1", "localhost")
        settings = {"respond__lineage__url": named, "respond__metrics__textfile": str(textfile)}
        with monkeypatch.context() as patched:
            patched.syspath_prepend(str(tmp_path / "broken"))
            scored = Scored(job(workspace, data, bundle, respond__limit_s=LIMIT_S, **settings))
        assert scored.seconds < LIMIT_S + SLACK_S
        assert score_bytes(workspace) == undisturbed
        assert there.got == []
        assert "not told: " in scored.told.line()
        assert (workspace / f"outbox/untold/{RUN}.json").exists() or list((workspace / "outbox/lineage").iterdir())
        if trouble == "raises":
            assert textfile.exists(), "the others are told"
        told = again(job(workspace, data, bundle, respond__limit_s=30.0, **settings))
    assert kinds(there.got) == ["START", "COMPLETE"]
    assert told.line() == "told: lineage 2, textfile 1"
    assert not list((workspace / "outbox").rglob("*.json"))


def test_a_full_disk(data: Path, bundle: Path, undisturbed: bytes, small_disk: Path) -> None:
    """Neither outbox nor events can be written, and nobody listens: what is told of the run is made again by the next."""
    workspace, ballast = small_disk / "w", small_disk / "ballast"
    given = job(workspace, data, bundle, respond__lineage__url=closed(), respond__limit_s=LIMIT_S)
    record = run(given, "", Quiet())
    with pytest.raises(OSError, match="No space left"):
        fill(ballast)
    told = telling.tell(given, record)
    assert told is not None
    assert told.receivers["lineage"]["lost"] > 0
    assert "No space left on device" in told.line()
    assert score_bytes(workspace) == undisturbed
    ballast.unlink()
    with receiver() as there:
        again(job(workspace, data, bundle, respond__lineage__url=there.url, respond__limit_s=30.0))
    assert kinds(there.got) == ["START", "COMPLETE"]
    assert len((workspace / f"runs/{RUN}/openlineage.jsonl").read_text().splitlines()) == 2


def test_a_driver_that_dies_before_it_tells(data: Path, bundle: Path, tmp_path: Path) -> None:
    with receiver() as there:
        given = job(tmp_path, data, bundle, respond__lineage__url=there.url, respond__limit_s=30.0)
        run(given, "", Quiet())
        again(given)
        again(given)
    assert kinds(there.got) == ["START", "COMPLETE"], "once"


def test_a_run_that_raises_is_told_as_failed(data: Path, bundle: Path, tmp_path: Path) -> None:
    def breaks(given: Job, config: str, watcher: Any) -> Any:
        class Store:
            root = str(tmp_path)

        watcher.begin(RUN, False, 1, Store())
        raise StoreError("the bucket is gone")

    with receiver() as there:
        given = job(tmp_path, data, bundle, respond__lineage__url=there.url, respond__limit_s=30.0)
        with pytest.raises(StoreError, match="the bucket is gone"):
            witness.witnessed(breaks)(given, "", Quiet())
    assert kinds(there.got) == ["START", "FAIL"]
    assert json.loads(there.got[1].body)["run"]["facets"]["errorMessage"]["message"] == "the bucket is gone"


def test_an_outbox_that_is_full_gives_up_the_oldest_and_says_so(data: Path, bundle: Path, tmp_path: Path) -> None:
    given = job(tmp_path, data, bundle, respond__lineage__url=closed(), respond__limit_s=30.0, respond__outbox__max_bytes=20_000)
    run(given, "", Quiet())
    outbox = Outbox(open_store(str(tmp_path)))
    for n in range(30):
        outbox.keep(Message("lineage" if n else "pager", f"2020-{n:02d}", "x" * 1000))
    told = again(given)
    assert sum(path.stat().st_size for path in (tmp_path / "outbox").rglob("*.json")) <= 20_000
    assert not (tmp_path / "outbox/pager/2020-00.json").exists(), "of a receiver that is not set any more"
    gone, why = told.receivers["lineage"]["given_up"], "(more than 20,000 bytes waited)"
    assert told.line().endswith(f". The next run tries again; given up: {gone} for lineage {why}, 1 for pager {why}")


def test_nobody_to_tell_costs_nothing(data: Path, bundle: Path, tmp_path: Path) -> None:
    given = job(tmp_path, data, bundle, respond__lineage__enabled=False, respond__alerts__enabled=False)
    assert telling.tell(given, run(given, "", Quiet())) is None
    assert not (tmp_path / "outbox").exists()


def test_the_command_ends_as_it_would_and_says_what_was_not_told(data: Path, bundle: Path, tmp_path: Path) -> None:
    with hanging() as url:
        words = ["source=parquet", f"source.path={data}", f"model.bundle={bundle}", f"workspace={tmp_path}", "engine=inline"]
        words += ["hardware=cpu", f"respond.lineage.url={url}/x", "respond.limit_s=6", "hardware.memory_per_lane_gb=0.3"]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OPENLINEAGE_API_KEY": TOKEN}
        command = [sys.executable, "-m", "scoring", "run", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("not told: lineage: 2 wait in outbox")
    assert "rows: 240 in" in done.stdout
    assert TOKEN not in done.stdout + done.stderr
    assert TOKEN not in "".join(p.read_text() for p in tmp_path.rglob("*.json*"))


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("lineage__url", "ftp://x", "this is no address"),
        ("lineage__url", "http://", "this is no address"),
        ("lineage__url", "http://x:99999/", "this is no address"),
        ("lineage__url", f"http://me:{TOKEN}@x/", "an address may hold no secret"),
        ("metrics__pushgateway", f"http://x/?api_key={TOKEN}", "an address may hold no secret"),
        ("metrics__textfile", "/x/scoring.txt", "must end with .prom"),
        ("lineage__parent", "dag/task/7", "is not namespace/job/run id"),
        ("name", "a/b", "is no name"),
    ],
)
def test_what_could_never_be_told_is_refused_before_the_run(setting: str, value: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        telling.refuse(job(tmp_path, "in", "bundle", **{f"respond__{setting}": value}).respond)
    assert str(refused.value).startswith(f"respond.{setting.replace('__', '.')}: ")
    assert TOKEN not in str(refused.value)


def test_a_library_that_is_missing_is_said_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs openlineage-python, which is not installed"):
        telling.refuse(job(tmp_path, "in", "bundle").respond)
    settings = {"respond__lineage__enabled": False, "respond__metrics__textfile": "x.prom"}
    with pytest.raises(ConfigError, match="needs prometheus-client, which is not installed"):
        telling.refuse(job(tmp_path, "in", "bundle", **settings).respond)
