"""Live metrics of a run on Ray, scraped from Ray's own endpoint while the run goes on. Ray's agents report every ten seconds."""

from __future__ import annotations

import socket
import time
import urllib.request
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from workload import Quiet, job, plain_days

from scoring.errors import ConfigError
from scoring.jobs import preparation
from scoring.jobs.run import run
from scoring.types import Receipt

WAIT_S = 120.0


def scraped(port: int) -> dict[tuple[str, ...], float]:
    """Samples by name and labels, those of Ray itself left out."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    samples = [s for f in families for s in f.samples if s.name.startswith("ray_scoring_") and "le" not in s.labels]
    assert {s.labels["pipeline"] for s in samples} <= {"churn-nightly"}
    own = ("outcome", "stage", "state")
    return {(s.name, *(s.labels[key] for key in own if key in s.labels)): s.value for s in samples}


class Scrapes(Quiet):
    """Holds the run up when its first slice is done, until that can be seen."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.seen: dict[tuple[str, ...], float] = {}
        self._port = port

    def finished(self, receipt: Receipt) -> None:
        super().finished(receipt)
        by = time.monotonic() + WAIT_S
        while ("ray_scoring_rows_total", "scored") not in self.seen:
            assert time.monotonic() < by, f"nothing was seen within {WAIT_S:g} s: {sorted(self.seen)}"
            with suppress(OSError):
                self.seen = scraped(self._port)
            time.sleep(0.2)


def test_without_the_libraries_it_is_refused_before_the_run(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "find_spec", lambda name: None)
    data = plain_days(tmp_path / "data", days=1, files=1, groups=1)
    with pytest.raises(ConfigError, match=r"engine.metrics_port needs ray\[default\], which is not installed"):
        run(job(tmp_path / "w", data, bundle, engine__kind="ray", engine__metrics_port=8900), "", Quiet())
    assert not (tmp_path / "w/runs").exists() or not list((tmp_path / "w/runs").glob("*/run.json"))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("opencensus") is None, reason="ray[default] is not installed: Ray has no endpoint of metrics")
def test_ray_shows_how_a_run_goes(bundle: Path, tmp_path: Path) -> None:
    data = plain_days(tmp_path / "data", days=1, files=1, groups=4)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    settings = {"engine__kind": "ray", "engine__lanes": 1, "engine__metrics_port": port, "respond__name": "churn-nightly"}
    watcher = Scrapes(port)
    record = run(job(tmp_path / "w", data, bundle, **settings), "", watcher)
    assert record.status == "published"
    seen = watcher.seen
    assert 0 < seen["ray_scoring_rows_total", "scored"] <= record.rows["scored"]
    assert seen["ray_scoring_stage_seconds_total", "score"] > 0
    assert seen["ray_scoring_lanes", "ready"] == 1
    assert seen["ray_scoring_rows_per_second",] > 0
    assert 0 < seen["ray_scoring_device_busy_ratio",] <= 1
    assert seen["ray_scoring_slices_in_flight",] >= 0
    assert seen["ray_scoring_slice_seconds_count",] >= 1
