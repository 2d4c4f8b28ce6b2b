"""Law 6 for the page of a run: it is there at the end; where making it fails or hangs, the run publishes the same and says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from workload import ROOT, plain_days

MODULE = {  # in place of what only the page takes
    "raises": "raise RuntimeError('the page is broken')",
    "hangs": "import time\nwhile True: time.sleep(60)",
    "dies": "import os\nos.kill(os.getpid(), 9)",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plain_days(tmp_path_factory.mktemp("data"), days=2, files=1, groups=2)


def scored(data: Path, bundle: Path, workspace: Path, path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    words = ["source=parquet", f"source.path={data}", f"model.bundle={bundle}", f"workspace={workspace}", "engine=inline"]
    words += ["hardware=cpu", "hardware.memory_per_lane_gb=0.3", "respond.lineage.enabled=false", *more]
    environment = os.environ | {"PYTHONPATH": f"{path}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "scoring", "run", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def rows(workspace: Path) -> pa.Table:
    """What was published, but for the name of the run."""
    found = [pq.read_table(path, partitioning=None) for path in sorted((workspace / "scores").rglob("*.parquet"))]
    return pa.concat_tables(found).drop_columns(["run_id"])


def test_the_page_is_there_when_the_command_ends(data: Path, bundle: Path, tmp_path: Path) -> None:
    done = scored(data, bundle, tmp_path / "w", tmp_path, "respond.limit_s=60")
    assert done.returncode == 0, done.stderr
    page = Path(done.stdout.splitlines()[-1].removeprefix("report:").strip())
    assert "240 rows were scored" in page.read_text() or "240 of 240" in page.read_text()
    again = scored(data, bundle, tmp_path / "w", tmp_path)
    assert "report:" not in again.stdout, "a run that did nothing has no page of its own"
    off = scored(data, bundle, tmp_path / "off", tmp_path, "respond.report=false")
    assert "report:" not in off.stdout
    assert not list((tmp_path / "off").rglob("report.html"))


@pytest.mark.parametrize("fault", ["raises", *(pytest.param(n, marks=pytest.mark.slow) for n in MODULE if n != "raises")])
def test_what_becomes_of_the_page_is_said_and_hurts_nothing(fault: str, data: Path, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "markupsafe.py").write_text(MODULE[fault])
    limit = "respond.limit_s=3" if fault == "hangs" else "respond.limit_s=60"
    done = scored(data, bundle, tmp_path / "w", tmp_path, limit)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("no report: "), done.stdout
    assert ("it took too long" if fault == "hangs" else "ended with") in done.stdout
    plain = scored(data, bundle, tmp_path / "plain", tmp_path / "nowhere", "respond.report=false")
    assert plain.returncode == 0, plain.stderr
    assert rows(tmp_path / "w").equals(rows(tmp_path / "plain"))
