"""Real contenders on a few rows: measured in turn, compared, kept, and continued after an interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from peers import cases, watched
from peers.cases import Case, prepare
from peers.turns import Log, Turns

pytestmark = pytest.mark.slow

CASE = Case("tabular", "", 3_000)
NAMES = ["inline", "hand"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The folder, and the lines of one timed round."""
    folder = tmp_path_factory.mktemp("peers")
    log = Log(folder / "raw.jsonl")
    Turns(log, folder / "out", {CASE.name: prepare(CASE, folder)}, {}).go([CASE], NAMES, 1)
    return folder, log.lines()


def measurements(lines):
    return [line for line in lines if "round" in line]


def test_every_contender_has_its_turn_in_each_round(measured):
    turns = [(line["round"], line["contender"]) for line in measurements(measured[1])]
    assert [number for number, _ in turns] == [0, 0, 1, 1]
    assert sorted(turns) == sorted((number, name) for number in (0, 1) for name in NAMES)


def test_a_line_tells_all_that_is_claimed(measured):
    for line in measurements(measured[1]):
        assert (line["error"], line["rows"]) == (None, 3_000)
        assert 0 < line["first_s"] < line["job_s"]
        assert line["rate"] > 0
        assert len(line["load"]) == 3
    assert measured[1][0]["machine"]["cores"] == len(os.sched_getaffinity(0))


def test_their_scores_are_ours(measured):
    found = {line["contender"]: line["agreement"] for line in measured[1] if "agreement" in line}
    assert {name: (one["holds"], one["rows"]) for name, one in found.items()} == {name: (True, 3_000) for name in NAMES}


def test_what_was_measured_is_not_measured_again(measured, tmp_path):
    """As after an interruption in the middle of the last round."""
    folder, lines = measured
    log = Log(tmp_path / "raw.jsonl")
    for line in lines[:-1]:
        log.add(line)
    Turns(log, folder / "out", {CASE.name: prepare(CASE, folder)}, {}).go([CASE], NAMES, 1)
    again = log.lines()
    assert again[: len(lines) - 1] == lines[:-1]
    assert [(line["round"], line["contender"]) for line in again[len(lines) - 1 :]] == [(1, lines[-1]["contender"])]


def test_another_machine_does_not_continue(measured, tmp_path):
    log = Log(tmp_path / "raw.jsonl")
    machine = measured[1][0]["machine"]
    log.add({"machine": machine | {"cpu": "another"}})
    with pytest.raises(SystemExit, match="another cpu"):
        log.begin()


def child(code, limit_s=30.0):
    return watched.run([sys.executable, "-c", code], os.environ, limit_s, exact=True)


def test_memory_is_that_of_the_whole_tree():
    """A grandchild holds 300 MB."""
    inner = "x = bytearray(b'1') * 300_000_000; import time; time.sleep(2)"
    seen = child(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}], check=True); print(7)")
    assert (seen.error, seen.said.strip()) == (None, "7")
    assert 300 < seen.rss_mb < 500
    assert 300 < seen.pss_mb < 500


def test_the_error_of_a_child_is_told_in_a_line():
    seen = child("import sys; print('said'); raise MemoryError('no room for it')")
    assert seen.error == "exit 1: MemoryError: no room for it"


def test_who_hangs_is_ended_with_all_that_it_started(tmp_path):
    note = tmp_path / "pid"
    inner = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    began = time.monotonic()
    seen = child(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])", limit_s=4.0)
    assert seen.error == "no end after 4 s"
    assert time.monotonic() - began < 30
    assert not psutil.pid_exists(int(note.read_text())) or psutil.Process(int(note.read_text())).status() == psutil.STATUS_ZOMBIE


def test_ctrl_c_ends_who_is_at_work(tmp_path):
    """The contender has a session of its own, so that the terminal's signal does not reach it."""
    note = tmp_path / "pid"
    inner = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    outer = f"import os, sys; from peers import watched; watched.run([sys.executable, '-c', {inner!r}], os.environ, 600, False)"
    environment = os.environ | {"PYTHONPATH": str(cases.ROOT / "benchmarks")}
    with subprocess.Popen([sys.executable, "-c", outer], env=environment, stderr=subprocess.PIPE) as process:
        while not (note.exists() and note.read_text()):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert b"KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert not psutil.pid_exists(int(note.read_text()))


def test_raw_lines_are_whole_json(measured):
    assert all(json.loads(text) for text in (measured[0] / "raw.jsonl").read_text().splitlines())
