"""A place like that of docs/operations.md: days of data, a bundle, and the file that says the job. A day may have a trouble."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from awkward import KILLS, WAITS, Awkward

from scoring.models.bundle import describe_inputs, write
from scoring.settings import Column
from scoring.sinks.publish import published
from scoring.stores import open_store

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ROWS = 40


@dataclass(frozen=True)
class Place:
    folder: Path

    @property
    def conf(self) -> Path:
        return self.folder / "conf"

    @property
    def gate(self) -> Path:
        return self.folder / "gate"

    @property
    def workspace(self) -> Path:
        return self.folder / "workspace"

    @property
    def command(self) -> Path:
        return self.folder / "bin/scoring"

    def ready(self, day: str) -> None:
        (self.folder / f"data/date={day}/_SUCCESS").touch()

    def published(self) -> dict[str, int]:
        """Versions by day."""
        return {m.key.removeprefix("date="): m.version for m in published(open_store(str(self.workspace)))}


def make(folder: Path, days: Mapping[str, str]) -> Place:
    """`days` says of each date: good, kills, waits, held, not-ready."""
    place = Place(folder)
    _bundle(folder / "bundle", place.gate)
    for number, (day, kind) in enumerate(days.items()):
        path = folder / f"data/date={day}"
        path.mkdir(parents=True)
        pq.write_table(_rows(number, kind), path / "part.parquet")
        if kind != "not-ready":
            place.ready(day)
    job = {
        "defaults": [{"override /source": "parquet"}, {"override /engine": "inline"}],
        "source": {"path": str(folder / "data"), "carry": ["id"], "ready": {"success_file": "_SUCCESS"}},
        "model": {"bundle": str(folder / "bundle"), "module": "awkward:Awkward"},
        "workspace": str(place.workspace),
        "hardware": {"device": "cpu", "memory_per_lane_gb": 0.3},
        "contract": {"columns": {"x1": {"dtype": "float32", "max": 1000.0}}},
        "watch": {"enabled": False},
        "respond": {"lineage": {"enabled": False}},
    }
    path = place.conf / "job/churn-nightly.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(f"# @package _global_\n{yaml.safe_dump(job, sort_keys=False)}")
    place.command.parent.mkdir()
    place.command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT}:{HERE} exec {sys.executable} -m scoring "$@"\n')
    place.command.chmod(0o755)
    return place


def _rows(seed: int, kind: str) -> pa.Table:
    x = np.random.default_rng(seed).normal(size=(2, ROWS)).astype(np.float32)
    x[0, 5] = {"kills": KILLS, "waits": WAITS}.get(kind, x[0, 5])
    x[1, : ROWS // 2] = 1e6 if kind == "held" else x[1, : ROWS // 2]
    return pa.table({"id": np.arange(ROWS), "x0": x[0], "x1": x[1]})


def _bundle(folder: Path, gate: Path) -> None:
    torch.manual_seed(3)
    net = Awkward(str(gate)).eval()
    inputs = {"x0": Column("float32"), "x1": Column("float32")}
    golden = _rows(99, "good").select(list(inputs))
    with torch.inference_mode():
        x = torch.from_numpy(np.stack([golden[name].to_numpy() for name in inputs], 1))
        golden = golden.append_column("expected.score", pa.array(net(x)[:, 0].numpy()))
    manifest = {"family": "module", "name": "churn", "version": "7", "inputs": describe_inputs(inputs)}
    manifest |= {"tolerance": {"gpu": 1e-3, "cpu": 1e-5}, "constructor": {"gate": str(gate)}}
    manifest |= {"arguments": {"x": list(inputs)}, "outputs": ["score"]}
    write(folder, manifest, dict(net.state_dict()), golden)


def answer(command: list[str], environment: Mapping[str, str], seconds: float = 300) -> str:
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
