"""From a run to a page, with the real programs: Prometheus scrapes node_exporter and a Pushgateway that a run has told, a rule of
deploy/ fires, and Alertmanager tells a receiver. Config and rules are those of deploy/, but for addresses, intervals and `for:`.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from receiver import receiver
from workload import ROOT, Quiet, job, plain_days

from scoring.jobs import telling
from scoring.jobs.run import run

DEPLOY = ROOT / "deploy/prometheus"
WAIT_S = 60.0
NAMES = {
    "prometheus": ("prometheus",),
    "node": ("prometheus-node-exporter", "node_exporter"),
    "gateway": ("prometheus-pushgateway", "pushgateway"),
    "alertmanager": ("prometheus-alertmanager", "alertmanager"),
}
PROGRAMS = {name: next(filter(None, map(shutil.which, names)), None) for name, names in NAMES.items()}
MISSING = ", ".join(NAMES[name][-1] for name, path in PROGRAMS.items() if path is None)


def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def until(condition: Callable[[], Any], what: str) -> Any:
    by = time.monotonic() + WAIT_S
    while True:
        with suppress(OSError):  # nobody listens yet, or it is not ready
            if found := condition():
                return found
        assert time.monotonic() < by, f"{what}: not within {WAIT_S:g} s"
        time.sleep(0.05)


@contextmanager
def started(name: str, words: list[str], ready: str, log: Path) -> Iterator[None]:
    with open(log, "w") as file:
        process = subprocess.Popen([str(PROGRAMS[name]), *words], stdout=file, stderr=file, cwd=log.parent)
        try:
            until(lambda: process.poll() is not None or fetched(ready), f"{name} is up")
            assert process.poll() is None, log.read_text()[-2000:]
            yield
        finally:
            process.terminate()
            process.wait(20)


def settled(folder: Path, ports: dict[str, int], hook: str) -> None:
    """The configurations of deploy/ with this test's addresses, and nothing to wait for."""
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "200ms", "evaluation_interval": "200ms", "scrape_timeout": "200ms"}
    places = {"9093": ports["alertmanager"], "9100": ports["node"], "9091": ports["gateway"], "8900": port()}
    text = yaml.safe_dump(config)
    for ours, theirs in places.items():
        assert f"localhost:{ours}" in text
        text = text.replace(f"localhost:{ours}", f"127.0.0.1:{theirs}")
    (folder / "prometheus.yml").write_text(text)
    rules = yaml.safe_load((DEPLOY / "scoring.rules.yml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        rule.pop("for", None)
    (folder / "scoring.rules.yml").write_text(yaml.safe_dump(rules))
    told = (DEPLOY / "alertmanager.yml").read_text()
    assert "http://localhost:8080" in told
    told = told.replace("http://localhost:8080", hook)
    for waits in ("group_wait: 30s", "group_interval: 5m"):
        assert waits in told
        told = told.replace(waits, f"{waits.partition(':')[0]}: 1s")
    (folder / "alertmanager.yml").write_text(told)


@contextmanager
def monitoring(folder: Path, ports: dict[str, int]) -> Iterator[str]:
    at = {name: f"127.0.0.1:{number}" for name, number in ports.items()}
    words = {
        "node": ["--collector.disable-defaults", "--collector.textfile", f"--collector.textfile.directory={folder / 'textfile'}"],
        "gateway": [],
        "alertmanager": [f"--config.file={folder / 'alertmanager.yml'}", f"--storage.path={folder}", "--cluster.listen-address="],
        "prometheus": [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}"],
    }
    pages = {"node": "/metrics", "gateway": "/-/ready", "alertmanager": "/-/ready", "prometheus": "/-/ready"}
    with ExitStack() as stack:
        for name, own in words.items():
            given = [*own, f"--web.listen-address={at[name]}"]
            stack.enter_context(started(name, given, f"http://{at[name]}{pages[name]}", folder / f"{name}.log"))
        yield f"http://{at['prometheus']}"


def asked(prometheus: str, query: str) -> list[dict[str, Any]]:
    found = json.loads(fetched(f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': query})}"))
    assert found["status"] == "success", found
    return list(found["data"]["result"])


@pytest.mark.skipif(bool(MISSING), reason=f"not on the PATH: {MISSING}")
def test_a_run_that_is_held_pages_who_is_on_call(bundle: Path, tmp_path: Path) -> None:
    data = plain_days(tmp_path / "data", days=1, files=1, groups=2)
    (tmp_path / "textfile").mkdir()
    ports = {name: port() for name in NAMES}
    with receiver() as hook:
        settled(tmp_path, ports, hook.url)
        with monitoring(tmp_path, ports) as prometheus:
            settings = {
                "respond__name": "churn-nightly",
                "respond__lineage__enabled": False,
                "respond__metrics__textfile": str(tmp_path / "textfile/churn-nightly.prom"),
                "respond__metrics__pushgateway": f"http://127.0.0.1:{ports['gateway']}",
                "respond__limit_s": 30.0,
                "release__max_bad_share": 0.0,
            }
            given = job(tmp_path / "w", data, bundle, **settings)
            record = run(given, "", Quiet())
            told = telling.tell(given, record)
            assert record.status == "held"
            assert told is not None
            assert told.line() == "told: pushgateway 1, textfile 1"
            query = 'scoring_rows{pipeline="churn-nightly", outcome="quarantined"}'
            found = until(lambda: len(two := asked(prometheus, query)) == 2 and two, "both ways are scraped")
            assert {float(one["value"][1]) for one in found} == {record.rows["quarantined"]}
            assert {one["metric"]["job"] for one in found} == {"node", "churn-nightly"}
            assert asked(prometheus, "scoring_last_success_timestamp_seconds") == []
            alerts = until(lambda: paged(hook.got, "ScoringHeld"), "the page")
    assert alerts[0]["labels"]["pipeline"] == "churn-nightly"
    assert alerts[0]["annotations"]["summary"] == "churn-nightly: 1 partition(s) are held by a gate"
    assert "release-held" in alerts[0]["annotations"]["runbook"]
    assert {r.path for r in hook.got if any(a["labels"]["severity"] == "page" for a in json.loads(r.body)["alerts"])} == {"/page"}


def paged(got: list[Any], name: str) -> list[dict[str, Any]]:
    return [alert for one in got for alert in json.loads(one.body)["alerts"] if alert["labels"]["alertname"] == name]
