"""Bundles and data that the system tests share; made once, by functions of `workload`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import ray
import workload
from ray.cluster_utils import Cluster

# A node counts as dead after some 3 s instead of a minute.
HEALTH = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workload.tabular(tmp_path_factory.mktemp("tabular"))


@pytest.fixture(scope="session")
def fussy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workload.module(tmp_path_factory.mktemp("fussy"))


@pytest.fixture(scope="session")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return workload.dirty_days(tmp_path_factory.mktemp("dirty"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A Ray that runs attach to; they neither start nor end it."""
    os.environ["PYTHONPATH"] = f"{workload.ROOT}:{workload.HERE}"  # where lanes find a user's module, as in a shell
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "1"
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "object_store_memory": 80 << 20, "_system_config": HEALTH})
    ray.init(made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
