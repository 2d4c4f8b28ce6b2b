"""What a killed driver leaves behind is cleared by the next one of the same user; the living and the unknown are left alone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from scoring.pool.private import Cleared, clear

ROOT = Path(__file__).parents[2]
# A driver with its folder and an agent in a session of its own, which writes a log there and calls itself something else.
DRIVER = """
import os, subprocess, sys
from scoring.pool.private import PrivateFolder
folder = PrivateFolder()
os.mkdir(folder.ray)
wait = "import signal, sys; f = open(sys.argv[1], 'a'); print('up', flush=True); signal.pause()"
agent = subprocess.Popen([sys.executable, "-c", wait, folder.ray + "/agent.log"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         start_new_session=True)
agent.stdout.readline()
print(folder.path, agent.pid, flush=True)
if sys.stdin.readline() == "close\\n":
    folder.close(folder.family())
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder of our own, with a name short enough for Ray's sockets."""
    folder = tempfile.mkdtemp(dir="/tmp", prefix="t-")
    monkeypatch.setattr(tempfile, "tempdir", folder)
    yield Path(folder)
    shutil.rmtree(folder)


@contextmanager
def driver(place: Path) -> Iterator[tuple[subprocess.Popen[str], Path, psutil.Process]]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(place)}
    given = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen([sys.executable, "-c", DRIVER], **given) as process:  # type: ignore[call-overload]
        path, pid = process.stdout.readline().split()
        agent = psutil.Process(int(pid))
        try:
            yield process, Path(path), agent
        finally:
            process.kill()
            if agent.is_running():
                agent.kill()


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_dead_driver_is_cleared_and_a_living_one_is_not(place: Path) -> None:
    with driver(place) as (dead, left, agent), driver(place) as (_, kept, other), ExitStack() as stack:
        assert (left.stat().st_mode & 0o777, kept.stat().st_mode & 0o777) == (0o700, 0o700)
        assert clear() == Cleared()
        dead.send_signal(signal.SIGKILL)
        dead.wait(20)
        assert alive(agent)
        looking = stack.enter_context(subprocess.Popen(["tail", "-f", str(left / "r/agent.log")]))
        stack.callback(looking.kill)
        assert clear() == Cleared(1, 1)
        assert not left.exists()
        assert not alive(agent)
        assert looking.poll() is None
        assert kept.exists()
        assert alive(other)
        assert clear() == Cleared()


def test_a_driver_that_closes_leaves_nothing(place: Path) -> None:
    with driver(place) as (process, path, agent):
        process.communicate("close\n", timeout=30)
        assert process.returncode == 0
        assert not alive(agent)
        assert not path.exists()


def test_what_is_not_known_to_be_ours_stays(place: Path) -> None:
    """No note, a mode that others share, a link, another name: each alone is enough."""
    with driver(place) as (dead, path, _):
        dead.kill()
        dead.wait(20)
        (place / "scoring-none").mkdir(0o700)
        shutil.copytree(path, place / "scoring-open")
        (place / "scoring-open").chmod(0o755)
        shutil.copytree(path, place / "other-name")
        (place / "other-name").chmod(0o700)
        (place / "scoring-link").symlink_to(place / "other-name")
        (place / "scoring-note").mkdir(0o700)
        (place / "scoring-note/driver.json").symlink_to(place / "other-name/driver.json")
        assert clear().folders == 1
    assert sorted(p.name for p in place.iterdir()) == ["other-name", "scoring-link", "scoring-none", "scoring-note", "scoring-open"]
