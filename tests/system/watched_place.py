"""A workspace with everything that a live page shows, made by real runs; a server over it; a browser that looks at it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from waits import Waits
from workload import HERE, ROOT, Quiet

from scoring.jobs import baseline
from scoring.jobs.arguments import words
from scoring.jobs.run import run
from scoring.models.bundle import describe_inputs, write
from scoring.settings import Column, build
from scoring.types import RunRecord

CANARY = "canary@example.org"
MODULE = "waits:Waits"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
FLAGS += ("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage")


def table(rows: int, seed: int, shift: float = 0.0, bad: int = 5) -> pa.Table:
    """x0, x1, mail; `bad` rows with x1 out of range, and one whose mail is not allowed."""
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, 1.0, (2, rows)).astype(np.float32)
    x[1, :bad] = -99.0
    mail = [CANARY] * rows
    mail[bad] = CANARY * 4
    return pa.table({"x0": x[0], "x1": x[1], "mail": mail})


def day(folder: Path, number: int, rows: pa.Table) -> None:
    place = folder / f"date=2026-01-{number:02d}"
    place.mkdir(parents=True)
    pq.write_table(rows, place / "f.parquet", row_group_size=200)


def bundle(folder: Path, gates: Path) -> Path:
    torch.manual_seed(3)
    net = Waits(str(gates)).eval()
    inputs = {"x0": Column("float32"), "x1": Column("float32")}
    golden = table(20, 1, bad=0).select(list(inputs))
    with torch.inference_mode():
        x = torch.from_numpy(np.stack([golden[name].to_numpy() for name in inputs], 1))
        golden = golden.append_column("expected.score", pa.array(net(x)[:, 0].numpy()))
    manifest = {"family": "module", "name": "waits", "version": "7", "inputs": describe_inputs(inputs)}
    manifest |= {"tolerance": {"gpu": 1e-3, "cpu": 1e-5}, "constructor": {"gates": str(gates)}}
    manifest |= {"arguments": {"x": list(inputs)}, "outputs": ["score"]}
    return write(folder, manifest, dict(net.state_dict()), golden)


def settings(place: Path, data: Path, run_id: str, **more: Any) -> dict[str, Any]:
    columns = {"x1": {"dtype": "float32", "min": -50}, "mail": {"dtype": "string", "pattern": "[a-z@.]{1,30}"}}
    return {
        "workspace": str(place / "w"),
        "run_id": run_id,
        "source": {"kind": "parquet", "path": str(data), "slice_rows": 200},
        "model": {"bundle": str(place / "bundle"), "module": MODULE},
        "engine": {"kind": "inline"},
        "hardware": {"device": "cpu", "memory_per_lane_gb": 0.3},
        "contract": {"columns": columns},
        "release": {"max_bad_share": 0.1},
        "respond": {"lineage": {"enabled": False}},
    } | more


def score(given: dict[str, Any]) -> RunRecord:
    from scoring.settings import Job

    return run(build(Job, given), yaml.safe_dump(given), Quiet())


def made(place: Path) -> Path:
    """`place/w`: day 5 and 6 published, 7 missing, 8 held, 9 drifted; runs first, held and second; `place/gates` for `begin`."""
    (place / "gates").mkdir(parents=True)
    bundle(place / "bundle", place / "gates")
    day(place / "training", 1, table(2_000, 1, bad=0))
    baseline.command(words("baseline", [str(place / "training"), f"bundle={place / 'bundle'}", f"module={MODULE}"]))
    for number in (5, 6):
        day(place / "data", number, table(400, number))
    assert score(settings(place, place / "data", "first")).status == "published"
    day(place / "data", 8, table(400, 4, bad=100))
    day(place / "data", 9, table(400, 5, shift=1.0))
    assert score(settings(place, place / "data", "second")).status == "held"
    from scoring.jobs.report import write_report

    for name in ("first", "second"):
        write_report(str(place / "w"), name)
    return place / "w"


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{HERE}"} | more


@contextmanager
def begun(place: Path, run_id: str = "third") -> Iterator[subprocess.Popen[bytes]]:
    """A run of six new partitions of 200 rows; the fourth waits for the gate 1001, the last for 1002."""
    slow = place / "slow"
    for number in range(12, 18):
        rows = table(200, number, bad=0)
        x0 = rows["x0"].to_numpy().copy()
        x0[7] = {15: 1001, 17: 1002}.get(number, 0)
        day(slow, number, rows.set_column(0, "x0", pa.array(x0)))
    lines = [
        f"model.bundle={place / 'bundle'}",
        f"model.module={MODULE}",
        "release.max_bad_share=0.1",
        "source=parquet",
        f"source.path={slow}",
        "source.slice_rows=1",
        "engine=inline",
        "hardware=cpu",
    ]
    lines += ["hardware.memory_per_lane_gb=0.3", f"workspace={place / 'w'}", f"run_id={run_id}", "respond.lineage.enabled=false"]
    lines += ["contract.columns.x1={dtype: float32, min: -50}", "contract.columns.mail={dtype: string, pattern: '[a-z@.]{1,30}'}"]
    command = [sys.executable, "-m", "scoring", "run", *lines, "engine.in_flight=1", "watch.enabled=false"]
    with open(place / f"{run_id}.log", "wb") as log:
        process = subprocess.Popen(command, env=environment(), stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def served(*said: str, **more: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """(address without the last "/", process) of a server that is ready."""
    command = [sys.executable, "-m", "scoring", "ui", *said, "port=0", "--json"]
    process = subprocess.Popen(command, env=environment(**more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    text = ""
    try:
        for line in process.stdout:
            text += line
            if line == "}\n":
                break
        else:
            raise AssertionError(process.communicate()[1])
        yield json.loads(text)["address"].rstrip("/"), process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def browser(width: int = 1280, dark: bool = False) -> Iterator[Any]:
    """A real one, without a screen, that logs what it asks for."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("chromium and chromedriver are not installed")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = Options()
        options.binary_location = chromium
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        found = webdriver.Chrome(options=options, service=Service(driver))
        try:
            scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
            found.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
            sizes = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
            found.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
            yield found
        finally:
            found.quit()
