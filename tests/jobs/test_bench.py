"""`scoring bench` as a user meets it: a grid measured for real, what cannot run is a row, the choice is saved and planned with."""

import json
import re
import signal
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from scoring.__main__ import settings
from scoring.engine.capacity import Machine
from scoring.errors import ConfigError, UsageError
from scoring.jobs.bench import asked
from scoring.jobs.benching.rounds import absent
from scoring.jobs.plan import plan
from scoring.models.train import Recipe, Target, fit
from scoring.settings import Engine, Hardware, Job, Measured, Model, Source

ROWS = 40_000


def command(*words):
    return subprocess.run([sys.executable, "-m", "scoring", *words], capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    rng = np.random.default_rng(0)
    x = rng.normal(size=ROWS)
    table = pa.table({"id": np.arange(ROWS), "x": x, "label": (x > 0).astype(np.int64)})
    fit(table, folder / "bundle", numeric=["x"], categorical=[], targets={"score": Target("label")}, recipe=Recipe(epochs=1))
    (folder / "data").mkdir()
    for n in range(4):
        pq.write_table(table.slice(n * ROWS // 4, ROWS // 4), folder / "data" / f"{n}.parquet", row_group_size=2_000)
    return folder


@pytest.fixture(scope="module")
def words(place):
    return ["source=parquet", f"source.path={place}/data", f"model.bundle={place}/bundle", f"workspace={place}/w"]


@pytest.fixture(scope="module")
def benched(place, words):
    """Two configurations that run here and two for hardware that may not be here; the choice is saved."""
    grid = ["hardware=cpu,cuda", "hardware.price_per_hour=0.5", "engine=inline", "engine.window_rows=1000,65536"]
    asked_for = ["rows=8000", "repeats=2", "--save", "mine", f"out={place}/out"]
    done = command("bench", *words, *grid, *asked_for, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def of(record, *parts):
    return next(r for r in record["results"] if all(part in r["name"] for part in parts))


def test_a_grid_is_expanded_and_every_configuration_is_told(benched):
    record, _ = benched
    names = {tuple(sorted(r["name"].split())) for r in record["results"]}
    windows = ("engine.window_rows=1000", "engine.window_rows=65536")
    assert names == {(window, f"hardware={hardware}") for window in windows for hardware in ("cpu", "cuda")}


def test_what_was_measured_is_complete(benched):
    record, _ = benched
    found = of(record, "hardware=cpu", "1000")
    assert found["status"] == "measured"
    m = found["measured"]
    assert m["sample_rows"] == pytest.approx(8_000, rel=0.3)
    rate = m["rows_per_second"]
    assert len(rate["values"]) == 2
    assert 0 < rate["low"] <= rate["median"] <= rate["high"]
    assert rate["median"] == pytest.approx(m["sample_rows"] / m["seconds"]["median"], rel=0.5)
    assert {"read", "encode", "score", "stage"} <= set(m["stages"])
    assert 0 < m["busy"] <= 1
    assert m["host_gb"] > 0.05
    assert 0 <= m["deviation"] <= m["tolerance"]
    assert m["routes"] == {"cpu": 2 * m["sample_rows"]}
    assert record["dataset"]["rows"] == ROWS
    price = m["price_per_hour"]
    assert price == pytest.approx(0.5 * m["devices"])
    assert m["cost_per_million"]["median"] == pytest.approx(np.median([price * 1e6 / r / 3600 for r in rate["values"]]))
    hours = [(ROWS / r + m["start_seconds"]) / 3600 for r in rate["values"]]
    assert m["hours"]["median"] == pytest.approx(np.median(hours))


def test_absent_hardware_is_skipped_by_name(benched):
    record, _ = benched
    for found in (r for r in record["results"] if "cuda" in r["name"]):
        assert (found["status"], found["reason"]) in (("skipped", "no CUDA device"), ("measured", ""))


def test_rounds_take_turns(benched):
    """No configuration is measured twice before all were measured once."""
    record, stderr = benched
    rounds = re.findall(r"^round (\d) of 2: (.*): [\d,]+ rows/s$", stderr, re.MULTILINE)
    measured = {r["name"] for r in record["results"] if r["measured"]}
    assert [n for n, _ in rounds] == sorted(n for n, _ in rounds)
    assert {name for n, name in rounds if n == "1"} == {name for n, name in rounds if n == "2"} == measured


def test_the_choice_is_one_of_them_and_few_rounds_are_said_to_be_few(benched):
    record, _ = benched
    choice = record["choice"]
    assert choice["name"] in {r["name"] for r in record["results"] if r["measured"]}
    said = "None within tolerance is cheaper beyond the spread" if choice["alike"] else "The cheapest within tolerance"
    assert choice["why"].startswith(said)  # which of them depends on this machine
    assert set(record["pareto"]) <= {r["name"] for r in record["results"]}
    assert any("fewer than 5 rounds" in note for note in record["notes"])


def test_too_few_rows_are_said(benched):
    record, _ = benched
    assert any("too few rows for a stable rate" in note for note in of(record, "cpu", "65536")["measured"]["notes"])


def test_nothing_is_published_and_nothing_is_left(benched, place):
    left = {p.relative_to(place / "w").as_posix() for p in (place / "w").rglob("*") if p.is_file()}
    assert left == {"conf/hardware/mine.yaml"}
    assert [p.name for p in place.iterdir() if p.name.startswith(".bench-")] == []


def test_files_are_written_where_asked(benched, place):
    record, _ = benched
    assert json.loads((place / "out" / "bench.json").read_text()) == record
    assert ElementTree.parse(place / "out" / "bench.svg").getroot().tag.endswith("svg")


def test_the_profile_holds_what_was_chosen_and_measured(benched, place):
    record, _ = benched
    chosen = next(r for r in record["results"] if r["name"] == record["choice"]["name"])
    said = yaml.safe_load((place / "w" / "conf" / "hardware" / "mine.yaml").read_text())
    window = int(re.search(r"window_rows=(\d+)", chosen["name"])[1])
    assert said["engine"] == {"window_rows": window}
    assert said["hardware"]["device"] == re.search(r"hardware=(\w+)", chosen["name"])[1]
    measured = said["hardware"]["measured"]
    assert measured["rows_per_second"] == pytest.approx(chosen["measured"]["rows_per_second"]["median"], abs=0.1)
    assert measured["model"] == record["model"]["digest"]


@pytest.fixture(scope="module")
def with_profile(benched, place, words):
    return [*words, "hardware=mine", "engine=inline", f"--config-dir={place}/w/conf"]


@pytest.mark.slow
def test_plan_estimates_with_the_profile_and_run_says_how_far_off_it_was(with_profile, words):
    planned = command("plan", *with_profile, "--json")
    assert planned.returncode == 0, planned.stderr
    found = json.loads(planned.stdout)["estimate"]
    assert found["seconds_low"] <= found["seconds"] <= found["seconds_high"]
    assert found["cost_low"] <= found["cost"] <= found["cost_high"]
    assert re.match(r"measured on .+, 2\d{3}-", found["notes"][0])
    done = command("run", *with_profile, "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    estimate = record["estimate"]
    assert estimate["seconds"] == pytest.approx(ROWS / estimate["rows_per_second"], abs=1e-3)
    assert estimate["off"] == pytest.approx(record["rates"]["scoring_seconds"] / estimate["seconds"] - 1, rel=0.02, abs=0.05)


def test_plan_without_a_profile_estimates_nothing(words, tmp_path):
    found = plan(settings([*words, f"workspace={tmp_path}/w", "engine=inline"], None)[0])
    assert (found.estimate, found.no_estimate) == (None, "")


def test_what_does_not_fit_is_refused_with_its_arithmetic_and_nothing_measured_is_78(words):
    done = command("bench", *words, "hardware=cpu", "engine.lanes=5000,6000", "--json")
    assert done.returncode == 78, done.stderr
    record = json.loads(done.stdout)
    assert [r["status"] for r in record["results"]] == ["failed", "failed"]
    assert "5000 lanes x 1 cores = 5000 cores" in of(record, "5000")["reason"]
    assert record["choice"]["name"] == ""


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"rows": "10", "seconds": "1"}, "say one of them"),
        ({"rows": "1e6"}, "rows=1e6 is not a whole number above 0"),
        ({"seconds": "0"}, "seconds=0 is not a number above 0"),
        ({"repeats": "-1"}, "repeats=-1"),
        ({"save": "cpu"}, "hardware=cpu is there already"),
        ({"save": "../x"}, "a profile is named"),
    ],
)
def test_words_that_cannot_be(own, said):
    with pytest.raises(UsageError, match=re.escape(said)):
        asked(own, None, "w")


def test_a_profile_needs_a_folder():
    with pytest.raises(ConfigError, match="--config-dir"):
        asked({"save": "mine"}, None, "s3://bucket/w")


def a_job(**hardware):
    return Job("w", Source("parquet", "x"), Model("b"), hardware=Hardware(**hardware), engine=Engine("inline"))


def test_a_profile_of_another_gpu_is_absent_hardware():
    seen = Measured(1.0, 1.0, 1.0, 1, 0.0, "inline", "NVIDIA L4", "m", "2026-01-01")
    here = Machine(2, 10**10, ("NVIDIA H200",))
    assert absent(a_job(device="cuda", measured=seen), here) == "no NVIDIA L4 (this machine has NVIDIA H200)"
    assert absent(a_job(device="cuda"), here) == ""
    assert absent(a_job(device="cuda"), Machine(2, 10**10, ())) == "no CUDA device"
    assert absent(a_job(device="cpu"), Machine(2, 10**10, ())) == ""


@pytest.mark.slow
def test_a_configuration_that_dies_is_a_row_and_the_others_go_on(words):
    """The lane of one is killed in its second slice; a simulated device that holds too little is no reason to stop either."""
    fault = "engine.faults=[],[{site: read, kind: kill, slice_nth: 2}]"
    done = command("bench", *words, "hardware=cpu", "engine=ray", "engine.lanes=1", fault, "rows=8000", "repeats=2", "--json")
    assert done.returncode == 0, done.stderr
    statuses = [r["status"] for r in json.loads(done.stdout)["results"]]
    assert statuses == ["measured", "failed"]


@pytest.mark.slow
def test_an_interrupt_tells_what_was_measured(words):
    said = [*words, "hardware=cpu", "engine=inline", "engine.window_rows=1000,65536", "rows=8000", "repeats=200", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "scoring", "bench", *said], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if line.startswith("round 2"):
            process.send_signal(signal.SIGINT)
            break
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    record = json.loads(out)
    assert all(r["measured"] for r in record["results"])
    assert any("rounds were complete" in note for note in record["notes"])
