"""Alerts and events end to end: a real Alertmanager, real receivers, a real command, real trouble. Law 6 holds for them too."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from receiver import closed, hanging, receiver
from workload import ROOT, Quiet, fill, job, score_bytes

from scoring.errors import ConfigError
from scoring.jobs import alerts, alerts_ack, baseline, telling
from scoring.jobs.arguments import words
from scoring.jobs.run import run
from scoring.models.train import Recipe, Target, fit
from scoring.settings import Job
from scoring.types import RunRecord

ALERTMANAGER = shutil.which("prometheus-alertmanager")
CANARY = "canary-token-b81e"
LONG_S, LIMIT_S, SLACK_S = 30.0, 6.0, 3.0
CALM, SHIFTED = 0.0, 1.5


def table(rows: int, seed: int, shift: float = 0.0, bad: float = 0.0) -> pa.Table:
    """x moves by `shift`; `bad` is the share of amounts out of range."""
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1.0, rows).astype(np.float32)
    amount = np.where(rng.random(rows) < bad, -7.0, rng.gamma(2.0, 40.0, rows))
    return pa.table({"x": x, "amount": amount, "y": rng.random(rows) < 1 / (1 + np.exp(-x))})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a baseline."""
    folder = tmp_path_factory.mktemp("model")
    training = table(4_000, 1)
    fit(
        training,
        folder / "bundle",
        numeric=["x", "amount"],
        categorical=[],
        targets={"score": Target("y")},
        recipe=Recipe(epochs=1),
    )
    pq.write_table(training, folder / "training.parquet")
    baseline.command(words("baseline", [str(folder / "training.parquet"), f"bundle={folder / 'bundle'}"]))
    return folder / "bundle"


class Nightly:
    """A job that scores one more day each time, and tells."""

    def __init__(self, folder: Path, model: Path, **settings: Any) -> None:
        self.data, self.workspace, self._model, self._settings, self.day = folder / "in", folder / "w", model, settings, 0

    def job(self, **more: Any) -> Job:
        amount = {"amount": {"dtype": "float64", "min": 0.0}}
        more = {"respond__limit_s": LONG_S, "respond__lineage__enabled": False, "contract__columns": amount, "run_id": None} | more
        return job(self.workspace, self.data, self._model, source__carry=[], release__max_bad_share=0.05, **self._settings | more)

    def add(self, shift: float = 0.0, bad: float = 0.0) -> str:
        self.day += 1
        key = f"date=2026-01-{self.day:02d}"
        (self.data / key).mkdir(parents=True)
        pq.write_table(table(1_000, self.day + 10, shift, bad), self.data / key / "f.parquet")
        return key

    def go(self, **more: Any) -> tuple[RunRecord, telling.Told]:
        mine = self.job(**more)
        record = run(mine, "", Quiet())
        told = telling.tell(mine, record, self.line())
        assert told is not None
        return record, told

    def line(self) -> list[str]:
        said = ["source=parquet", f"source.path={self.data}", f"model.bundle={self._model}", f"workspace={self.workspace}"]
        said += [
            "contract.columns.amount={dtype: float64, min: 0.0}",
            "release.max_bad_share=0.05",
            "respond.lineage.enabled=false",
        ]
        return ["run", *said, "engine=inline", "hardware=cpu", "hardware.memory_per_lane_gb=0.3"]


@contextmanager
def alertmanager(folder: Path) -> Iterator[str]:
    """A real one, its address, once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder.mkdir()
    (folder / "am.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    options = [f"--config.file={folder / 'am.yml'}", f"--storage.path={folder}", f"--web.listen-address=127.0.0.1:{port}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([ALERTMANAGER, *options, "--cluster.listen-address="], **quiet)  # type: ignore[call-overload]
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "it does not start"
                assert time.monotonic() < deadline, "it does not answer"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def active(url: str) -> dict[str, dict[str, Any]]:
    """What fires there, by rule and subject."""
    with urllib.request.urlopen(f"{url}/api/v2/alerts?active=true", timeout=10) as answer:
        found = json.loads(answer.read())
    return {f"{a['labels']['alertname']} {a['labels'].get('subject', '')}".strip(): a for a in found}


def pasted(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """As somebody pastes it into a shell that knows `scoring`."""
    shim = folder / "bin/scoring"
    shim.parent.mkdir(exist_ok=True)
    shim.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m scoring "$@"\n')
    shim.chmod(0o755)
    environment = {"PATH": f"{shim.parent}:/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        ["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.skipif(ALERTMANAGER is None, reason="prometheus-alertmanager is not installed")
def test_an_alertmanager_sees_it_fire_and_go_and_the_command_in_it_lets_a_held_day_out(tmp_path: Path, model: Path) -> None:
    with alertmanager(tmp_path / "am") as url:
        nightly = Nightly(tmp_path, model, respond__alerts__alertmanager__url=url)
        nightly.add(SHIFTED)
        _, told = nightly.go()
        assert told.line() == "told: alertmanager 1"
        drift = active(url)["drift x"]
        assert drift["labels"]["severity"] == "warn"
        assert drift["generatorURL"].startswith("file:///")
        nightly.add(CALM)
        nightly.go()
        assert not any(name.startswith("drift") for name in active(url)), "it is gone"

        key = nightly.add(SHIFTED, bad=0.3)
        record, _ = nightly.go()
        assert record.status == "held"
        assert set(active(url)) == {"held"}, "drift, quarantine and the check itself are hidden"
        lines = [line.partition("  # ") for line in active(url)["held"]["annotations"]["mend"].splitlines()]
        release = next(command for command, _, why in lines if why == f"publish {key} as it was staged")
        done = pasted(release, tmp_path)
        assert done.returncode == 0, done.stderr
        assert "published as version 1" in done.stdout
        record, told = nightly.go()
        assert record.started == "", "there was nothing to do"
        assert active(url) == {}
    found = alerts.alerts(str(nightly.workspace))
    assert {q.rule: (q.alerts, q.acted_on) for q in found.quality}["held"] == (1, 1), "it was released"


@pytest.mark.slow
def test_every_command_of_an_alert_can_be_pasted(tmp_path: Path, model: Path) -> None:
    nightly = Nightly(tmp_path, shutil.copytree(model, tmp_path / "bundle"))  # one of the commands makes a new baseline
    key = nightly.add(SHIFTED, bad=0.3)
    nightly.go()
    (held,) = [a for a in alerts.alerts(str(nightly.workspace)).firing if not a.hidden]
    commands = {why: command for why, command in held.commands if "discard" not in command}
    for why in ("what happened", f"publish {key} as it was staged"):
        assert pasted(commands[why], tmp_path).returncode == 0
    nightly.add(SHIFTED, bad=0.04)
    nightly.go()
    fires = {a.rule: dict(a.commands) for a in alerts.alerts(str(nightly.workspace)).firing}
    assert pasted(fires["quarantine"]["rows by rule, and samples"], tmp_path).returncode == 0
    requeued = pasted(fires["quarantine"]["let in what is good under a mended contract"], tmp_path)
    assert requeued.returncode == 0, requeued.stdout + requeued.stderr
    drift = fires["drift"]
    assert pasted(drift["if this is how the data are from now on: count a new baseline"], tmp_path).returncode == 0
    pq.write_table(table(1_000, 77, CALM), nightly.data / key / "f.parquet")
    done = pasted(commands["score again when the data are mended"], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 published" in done.stdout


@contextmanager
def failing(status: int) -> Iterator[str]:
    with receiver(status) as there:
        yield there.url


@contextmanager
def down() -> Iterator[str]:
    yield closed()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, model: Path) -> bytes:
    nightly = Nightly(tmp_path_factory.mktemp("undisturbed"), model)
    nightly.add(SHIFTED)
    run(nightly.job(run_id="the-run"), "", Quiet())
    return score_bytes(nightly.workspace)


ASK = {"enabled": True, "drifted": 1, "of_last": 1, "min_rows": 0}


@pytest.mark.parametrize(
    ("trouble", "why", "command", "ended"),
    [
        pytest.param(down, "Connection refused", "exit 3", "the command ended with 3", marks=pytest.mark.slow),
        pytest.param(lambda: failing(500), "answered 500", "kill -9 $$", "the command ended with -9", marks=pytest.mark.slow),
        (hanging, "no answer in time", "sleep 600", "no answer in time"),
    ],
    ids=["down", "500", "hanging"],
)
def test_receivers_and_commands_in_trouble(
    trouble: Any, why: str, command: str, ended: str, tmp_path: Path, model: Path, undisturbed: bytes, monkeypatch: Any
) -> None:
    nightly = Nightly(tmp_path, model)
    nightly.add(SHIFTED)
    with trouble() as url:
        monkeypatch.setenv("TEST_NOTIFY_URLS", url.replace("http://", "json://"))
        settings = {"respond__alerts": {"alertmanager": {"url": url}, "notify": {"urls_env": "TEST_NOTIFY_URLS"}}}
        settings["respond__retraining"] = ASK | {"url": f"{url}/events", "command": ["/bin/sh", "-c", command]}
        mine = nightly.job(run_id="the-run", respond__limit_s=LIMIT_S, **settings)
        record = run(mine, "", Quiet())
        began = time.monotonic()
        told = telling.tell(mine, record)
        assert time.monotonic() - began < LIMIT_S + SLACK_S
    assert told is not None
    assert score_bytes(nightly.workspace) == undisturbed
    assert {name: found["waits"] for name, found in told.receivers.items()} == dict.fromkeys(
        ("alertmanager", "notify-1", "retraining-command", "retraining-http"), 1
    )
    assert told.receivers["alertmanager"]["why"] == why
    assert told.receivers["retraining-command"]["why"].endswith(ended)
    assert "notify-1: 1 wait in outbox" in told.line()
    assert len(list((nightly.workspace / "events").iterdir())) == 1, "the event is there, whoever hears of it"

    got = tmp_path / "got"
    with receiver() as there:
        monkeypatch.setenv("TEST_NOTIFY_URLS", there.url.replace("http://", "json://") + "/people")
        settings = {"respond__alerts": {"alertmanager": {"url": there.url}, "notify": {"urls_env": "TEST_NOTIFY_URLS"}}}
        settings["respond__retraining"] = ASK | {"url": f"{there.url}/events", "command": ["/bin/sh", "-c", f"cat > {got}"]}
        record, told = nightly.go(run_id="the-run", **settings)
    assert record.started == ""
    assert {name: found["delivered"] for name, found in told.receivers.items()} == {
        "alertmanager": 2, "notify-1": 1, "retraining-command": 1, "retraining-http": 1
    }, "to Alertmanager what waited, and what still fires"  # fmt: skip
    assert json.loads(got.read_text())["type"] == "scoring.retrain.requested.v1"
    event = next(one for one in there.got if one.path == "/events")
    assert event.headers["Content-Type"] == "application/cloudevents+json"
    assert json.loads(event.body) == json.loads(got.read_text())
    notice = json.loads(next(one for one in there.got if one.path == "/people").body)
    assert notice["type"] == "warning"
    assert "drift of x in 1 partition(s)" in notice["message"]
    assert [m for m in (nightly.workspace / "outbox").rglob("*.json") if "untold" not in m.parts] == []


def test_a_full_disk_keeps_nothing_and_the_next_run_tells_it(
    small_disk: Path, tmp_path: Path, model: Path, undisturbed: bytes
) -> None:
    nightly = Nightly(tmp_path, model, respond__retraining=ASK)
    nightly.workspace, ballast = small_disk / "w", small_disk / "ballast"
    nightly.add(SHIFTED)
    with receiver() as there:
        mine = nightly.job(run_id="the-run", respond__alerts__alertmanager__url=there.url)
        record = run(mine, "", Quiet())
        with pytest.raises(OSError, match="No space left"):
            fill(ballast)
        told = telling.tell(mine, record)
        assert told is not None
        assert "No space left on device" in told.receivers["alerts"]["why"]
        assert "No space left on device" in told.receivers["retraining"]["why"]
        assert score_bytes(nightly.workspace) == undisturbed
        assert there.got == []
        ballast.unlink()
        nightly.go(run_id="the-run", respond__alerts__alertmanager__url=there.url)
    assert "drift" in {a["labels"]["alertname"] for a in json.loads(there.got[0].body)}
    assert len(list((nightly.workspace / "events").iterdir())) == 1


def test_people_are_told_once_though_another_teller_fails_each_time(tmp_path: Path, model: Path, monkeypatch: Any) -> None:
    """The run stays untold, and all of it is made again by the next; only who took it already is spared."""
    broken = tmp_path / "broken/openlineage"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('a bug of the teller')")
    nightly = Nightly(tmp_path, model)
    nightly.add(SHIFTED)
    with receiver() as there:
        monkeypatch.setenv("TEST_NOTIFY_URLS", there.url.replace("http://", "json://"))
        settings = {"respond__alerts__notify__urls_env": "TEST_NOTIFY_URLS", "respond__lineage__enabled": True}
        monkeypatch.syspath_prepend(str(tmp_path / "broken"))
        _, told = nightly.go(**settings)
        assert "a bug of the teller" in told.receivers["lineage"]["why"]
        nightly.go(**settings)
    assert len(there.got) == 1


def test_held_messages_wait_for_the_end_of_quiet_hours(tmp_path: Path, model: Path, monkeypatch: Any) -> None:
    nightly = Nightly(tmp_path, model)
    nightly.add(SHIFTED)
    with receiver() as there:
        monkeypatch.setenv("TEST_NOTIFY_URLS", there.url.replace("http://", "json://"))
        hour = time.gmtime().tm_hour
        around = {"quiet": f"{(hour - 1) % 24:02d}:00-{(hour + 2) % 24:02d}:00", "urls_env": "TEST_NOTIFY_URLS"}
        _, told = nightly.go(respond__alerts__notify=around)
        assert told.receivers["notify-1"]["why"].startswith("held until ")
        assert there.got == []
        (waits,) = (nightly.workspace / "outbox/notify-1").iterdir()
        message = json.loads(waits.read_text())
        waits.write_text(json.dumps(message | {"after": "2020-01-01T00:00:00+00:00"}))  # as if they had ended
        nightly.go(respond__alerts__notify=around)
    assert len(there.got) == 1


def test_no_secret_is_told_to_anybody(tmp_path: Path, model: Path, monkeypatch: Any) -> None:
    for name in ("SCORING_ALERTMANAGER_TOKEN", "SCORING_RETRAINING_TOKEN", "SOME_API_KEY"):
        monkeypatch.setenv(name, CANARY)
    nightly = Nightly(tmp_path, model)
    nightly.add(SHIFTED, bad=0.03)
    with receiver() as there, receiver(500) as refuses:
        urls = f"{there.url.replace('http://', f'json://me:{CANARY}@')}/people {refuses.url.replace('http://', f'json://me:{CANARY}@')}"
        monkeypatch.setenv("TEST_NOTIFY_URLS", urls)
        settings = {"respond__alerts": {"alertmanager": {"url": there.url}, "notify": {"urls_env": "TEST_NOTIFY_URLS"}}}
        settings["respond__retraining"] = ASK | {"url": f"{there.url}/events"}
        mine = nightly.job(**settings)
        told = telling.tell(mine, run(mine, "", Quiet()), [*nightly.line(), f"x.token={CANARY}", f"u=http://me:{CANARY}@x"])
        assert told is not None
    assert {n: r["delivered"] for n, r in told.receivers.items() if r["delivered"]} == {
        "alertmanager": 1, "notify-1": 1, "retraining-http": 1
    }  # fmt: skip
    sent = [one.headers["Authorization"] for one in there.got]
    assert sum(one == f"Bearer {CANARY}" for one in sent) == 2, "secrets do arrive"
    said = [told.line(), *(one.body for one in there.got), *(p.read_text() for p in nightly.workspace.rglob("*.json"))]
    said += [alerts.render(alerts.alerts(str(nightly.workspace)))]
    assert [text[:200] for text in said if CANARY in text] == []
    assert any("notify-2" in text for text in said), "what waits was looked at"


def test_the_verbs_show_acknowledge_and_measure(tmp_path: Path, model: Path) -> None:
    nightly = Nightly(tmp_path, model)
    nightly.add(SHIFTED)
    nightly.go()
    place = f"workspace={nightly.workspace}"
    shown = alerts.alerts(str(nightly.workspace))
    drift = next(a for a in shown.firing if a.rule == "drift")
    assert f"[warn] drift: {drift.said}" in alerts.render(shown)
    with pytest.raises(ConfigError, match=r"'zz' is no alert that fires in .* Say one of these: .*drift"):
        alerts_ack.command(words("alerts ack", ["zz", place, "reason=x"]))
    done, code = alerts_ack.command(words("alerts ack", [drift.fingerprint[:6], place, "by=ada", "reason=a promotion"]))
    assert (code, done.already, done.ack.by) == (0, False, "ada")
    again, _ = alerts_ack.command(words("alerts ack", [drift.fingerprint, place, "by=bob", "reason=x"]))
    assert (again.already, again.ack) == (True, done.ack)
    assert "by ada" in alerts_ack.render(again)
    shown = alerts.alerts(str(nightly.workspace))
    assert "acknowledged by ada" in alerts.render(shown)
    assert next(q for q in shown.quality if q.rule == "drift").acted_on == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"respond__alerts__alertmanager__url": f"http://me:{CANARY}@x/"},
            "respond.alerts.alertmanager.url: an address may hold no",
        ),
        ({"respond__alerts__notify__urls_env": "json://x"}, "respond.alerts.notify.urls_env: this is an address"),
        ({"respond__alerts__notify__urls_env": "NO_SUCH_NAME"}, "the environment variable NO_SUCH_NAME is not set"),
        ({"respond__alerts__notify__quiet": "at night"}, "'at night' are no hours"),
        ({"respond__alerts__rules": {"x": {"metric": "m"}}}, "respond.alerts.rules: x: m is held against nothing"),
        ({"respond__retraining": {"enabled": True, "drifted": 6}}, "drifted=6 of_last=5 can never be"),
        ({"respond__retraining": {"enabled": True, "command": ["/no/such"]}}, "there is no program '/no/such'"),
        ({"respond__retraining": {"enabled": True, "url": "x"}}, "respond.retraining.url: this is no address"),
    ],
)
def test_what_could_never_be_told_is_refused_before_the_run(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        telling.refuse(job(tmp_path, "in", "bundle", **settings).respond)
    assert said in str(refused.value)
    assert CANARY not in str(refused.value)


def test_libraries_that_are_missing_are_said_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scoring.jobs import alerting

    monkeypatch.setenv("TEST_NOTIFY_URLS", "json://x")
    monkeypatch.setattr(alerting, "find_spec", lambda name: None)
    for settings, said in (
        ({"respond__alerts__notify__urls_env": "TEST_NOTIFY_URLS"}, "needs apprise, which is not installed"),
        ({"respond__retraining__enabled": True}, "needs cloudevents, which is not installed"),
    ):
        with pytest.raises(ConfigError, match=said):
            telling.refuse(job(tmp_path, "in", "bundle", **settings).respond)  # type: ignore[arg-type]
