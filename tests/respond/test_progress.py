"""Progress: what is told is true, and nothing that happens to a terminal or a store reaches the run."""

import io
import json
import threading
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.respond.progress import Meter, ProgressWatcher
from scoring.stores import LocalStore
from scoring.types import Counts, Receipt, RunRecord

counts = st.builds(Counts, st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
steps = st.lists(st.tuples(st.floats(0, 100), counts), max_size=30)


def receipt(found, seconds=0.5):
    return Receipt("id", "all", "a", found.total, found, seconds={"read": seconds})


def record(status="published"):
    return RunRecord("r", status, {}, (), {}, {}, {}, {}, {})


@given(steps, st.integers(0, 10**8))
def test_the_meter_counts_every_row_and_never_runs_backwards(found, planned):
    meter, now = Meter(0.0), 0.0
    meter.planned(1, planned)
    for passed, one in found:
        now += passed
        meter.finished(receipt(one), now)
        assert meter.rate() >= 0
    facts = meter.facts()
    assert facts["rows"] == {"done": sum(c.total for _, c in found), "planned": planned}
    assert facts["scored"] + facts["quarantined"] + facts["suppressed"] == facts["rows"]["done"]
    assert facts["slices"] == {"done": len(found), "planned": 1}
    eta = meter.eta_s()
    if eta is not None:
        assert 0 < eta[0] <= eta[1]
    if facts["rows"]["done"] >= planned:
        assert eta is None
    assert meter.sentence().startswith(f"{facts['rows']['done']:,} of " if found else f"starting: {planned:,} rows in 1 slices")


def test_the_rate_is_that_of_the_last_minute_and_the_eta_spans_both_rates():
    meter = Meter(0.0)
    meter.planned(1, 100_000)
    for second in range(1, 101):
        meter.finished(receipt(Counts(100 if second <= 40 else 300, 0, 0), 1.0), float(second))
    assert meter.rate() == pytest.approx(300, rel=0.02)
    fast, slow = meter.eta_s()
    left = 100_000 - 40 * 100 - 60 * 300
    assert fast == pytest.approx(left / 300, rel=0.02)
    assert slow == pytest.approx(left / 220, rel=0.02)


def test_starting_up_says_nothing_of_the_rate():
    meter = Meter(0.0)
    meter.planned(1, 2_000)
    meter.finished(receipt(Counts(1_000, 0, 0), 2.0), 100.0)
    assert meter.rate() == pytest.approx(500)


def run_with(watcher, store, slices=3):
    """What a run tells a watcher."""
    watcher.begin("r", False, 2, store)
    for _ in range(slices):
        watcher.planned("all", 1, 10)
    for _ in range(slices):
        watcher.finished(receipt(Counts(9, 1, 0)))
    watcher.end(record())


def told(folder):
    return json.loads((folder / "runs" / "r" / "progress.json").read_text())


@pytest.mark.parametrize("out", [None, io.StringIO])
def test_progress_json_has_the_last_word(out, tmp_path):
    with ProgressWatcher(out and out()) as watcher:
        run_with(watcher, LocalStore(str(tmp_path)))
    facts = told(tmp_path)
    assert (facts["status"], facts["lanes"], facts["rows"]) == ("published", 2, {"done": 30, "planned": 30})
    assert (facts["scored"], facts["quarantined"], facts["eta_seconds"]) == (27, 3, None)


def fail(folder):
    with ProgressWatcher(None) as watcher:
        watcher.begin("r", False, 1, LocalStore(str(folder)))
        raise ZeroDivisionError


def test_a_run_that_raised_is_not_running_for_ever(tmp_path):
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path)
    assert told(tmp_path)["status"] == "failed"
    assert threading.active_count() == before


def test_a_run_that_never_began_leaves_nothing(tmp_path):
    with ProgressWatcher(None):
        pass
    assert list(tmp_path.iterdir()) == []


def test_plain_lines_where_there_is_no_terminal(tmp_path):
    out = io.StringIO()
    with ProgressWatcher(out, line_every_s=0.0) as watcher:
        watcher.begin("r", True, 2, LocalStore(str(tmp_path)))
        watcher.planned("all", 1, 1_000)
        watcher.finished(receipt(Counts(400, 20, 0)))
        watcher.end(record())
    lines = out.getvalue().splitlines()
    assert lines[0] == f"Going on with r on 2 lane(s); workspace {tmp_path}"
    assert lines[-1].startswith("420 of 1,000 rows, 400 scored, 20 quarantined, ")
    assert lines[-1].endswith(" left")
    assert "\x1b" not in out.getvalue()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_bar_and_its_cursor_back(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with ProgressWatcher(out) as watcher:
        run_with(watcher, LocalStore(str(tmp_path)))
    said = out.getvalue()
    assert "27 scored, 3 quarantined" in said.replace("\n", " ")
    assert said.count("\x1b[?25l") == said.count("\x1b[?25h") == 1


class Broken(io.StringIO):
    def write(self, text):
        raise BrokenPipeError


class NoStore:
    root = "nowhere"

    def replace(self, key, data):
        raise OSError(28, "No space left on device")


def test_neither_a_closed_terminal_nor_a_full_disk_reaches_the_run():
    with ProgressWatcher(Broken(), line_every_s=0.0) as watcher:
        run_with(watcher, NoStore())


class Stuck:
    """A store that never answers."""

    root = "s3://stuck"

    def __init__(self):
        self.asked, self.free = threading.Event(), threading.Event()

    def replace(self, key, data):
        self.asked.set()
        self.free.wait()


def test_a_store_that_never_answers_slows_nothing_but_the_end_and_that_for_a_set_time():
    store = Stuck()
    watcher = ProgressWatcher(None, last_word_s=0.2)
    began = time.monotonic()
    watcher.begin("r", False, 1, store)
    assert store.asked.wait(10)  # it is stuck now
    told_at = time.monotonic()
    for _ in range(1_000):
        watcher.planned("all", 1, 1)
        watcher.finished(receipt(Counts(1, 0, 0)))
    assert time.monotonic() - told_at < 1.0
    watcher.end(record())
    assert time.monotonic() - told_at < 3.0
    assert told_at - began < 10
    store.free.set()


WORK = {"texts": 100, "unique_texts": 90, "tokens": 1_232_000, "tokens_saved": 168_000, "truncated": 1_214, "windows": 90}
WORK |= {"padding_avoided": 1_292_308, "tokenise_us": 260_000}


def test_a_line_tells_of_texts_where_there_are_any():
    meter = Meter(0.0)
    meter.planned(1, 100)
    meter.finished(replace(receipt(Counts(100, 0, 0), 20.0), work=WORK), 40.0)
    assert meter.sentence().endswith(
        "; 1.2 M tokens (61,600 tokens/s), tokenising 1.3%, padding avoided 48%, duplicates saved 12%, 1,214 truncated"
    )
    assert "tokens" not in meter.outcomes()
    assert meter.facts()["work"] == WORK
    assert meter.facts()["tokens_per_second"] == 61_600
    other = Meter(0.0)
    other.finished(receipt(Counts(100, 0, 0)), 1.0)
    assert "token" not in other.sentence()
    assert not {"work", "tokens_per_second"} & other.facts().keys()
