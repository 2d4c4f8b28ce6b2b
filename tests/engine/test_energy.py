"""Energy by the counters of the hardware: a powercap tree as Linux has it, its wrap-around, and what cannot be read."""

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.engine.energy import EnergyMeter, Rapl, chosen, open_counters

RANGE = 262_143_328_850  # µJ, that of a server


def zone(root: Path, name: str, says: str, counter: int, most: int = RANGE) -> Path:
    place = root / name
    place.mkdir(parents=True, exist_ok=True)
    (place / "name").write_text(f"{says}\n")
    (place / "max_energy_range_uj").write_text(f"{most}\n")
    (place / "energy_uj").write_text(f"{counter}\n")
    return place


@pytest.fixture
def server(tmp_path):
    """Two packages with memory, and the zones that count the same again."""
    zone(tmp_path, "intel-rapl", "", 0)
    for n in range(2):
        zone(tmp_path, f"intel-rapl:{n}", f"package-{n}", 1_000_000 * n)
        zone(tmp_path, f"intel-rapl:{n}:0", "core", 5)
        zone(tmp_path, f"intel-rapl:{n}:1", "dram", 7)
    zone(tmp_path, "intel-rapl:2", "psys", 9)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 9)
    return tmp_path


def counts(place: Path, counter: int) -> None:
    (place / "energy_uj").write_text(f"{counter}\n")


def test_packages_and_memory_are_read_once_each(server):
    opened = open_counters(server)
    assert sorted(c.name for c in opened.counters) == ["dram-0", "dram-1", "package-0", "package-1"]
    assert opened.why == []


@given(st.integers(0, RANGE), st.lists(st.integers(0, RANGE), min_size=1, max_size=6))
def test_what_was_taken_is_the_sum_of_the_steps_wherever_the_counter_wraps(tmp_path_factory, first, steps):
    place = zone(tmp_path_factory.mktemp("rapl"), "intel-rapl:0", "package-0", first)
    counter, at, joules = Rapl(place, "package-0"), first, 0.0
    for step in steps:
        at = (at + step) % (RANGE + 1)
        counts(place, at)
        joules += counter.joules()
    assert joules == pytest.approx(sum(steps) / 1e6)


def started(place):
    """A meter that has opened its counters."""
    opened = threading.Event()

    def open_():
        found = open_counters(place)
        opened.set()
        return found

    meter = EnergyMeter(open_)
    assert opened.wait(10)
    return meter


def test_a_meter_tells_what_was_taken_while_it_ran(server):
    meter = started(server)
    counts(server / "intel-rapl:0", 2_500_000)
    counts(server / "intel-rapl:1:1", 500_007)
    found = meter.stop()
    assert found["joules"] == {"package-0": 2.5, "package-1": 0.0, "dram-0": 0.0, "dram-1": 0.5}
    assert found["source"] == "rapl"
    assert found["seconds"] >= 0
    assert "why" not in found


def test_a_counter_that_wraps_between_two_readings_in_a_run(server):
    counts(server / "intel-rapl:0", RANGE - 1_000_000)
    meter = started(server)
    counts(server / "intel-rapl:0", 1_999_999)
    assert meter.stop()["joules"]["package-0"] == 3.0


def test_a_machine_without_counters_says_so(tmp_path):
    assert EnergyMeter(lambda: open_counters(tmp_path / "none")).stop() == {"why": f"no RAPL counters in {tmp_path / 'none'}"}


def test_a_counter_that_only_root_may_read_says_so(server):
    if os.geteuid() == 0:
        for n in range(2):  # root reads everything: a link that leads to itself stands for what may not be read
            (server / f"intel-rapl:{n}/energy_uj").unlink()
            (server / f"intel-rapl:{n}/energy_uj").symlink_to("energy_uj")
    else:
        for n in range(2):
            (server / f"intel-rapl:{n}/energy_uj").chmod(0)
    opened = open_counters(server)
    assert sorted(c.name for c in opened.counters) == ["dram-0", "dram-1"]
    assert len(opened.why) == 2
    assert all(why.startswith("package-") and "energy_uj" in why for why in opened.why)


def test_a_counter_that_goes_away_is_left_out_with_the_reason(server):
    meter = started(server)
    (server / "intel-rapl:0/energy_uj").unlink()
    found = meter.stop()
    assert sorted(found["joules"]) == ["dram-0", "dram-1", "package-1"]
    assert found["why"].startswith("package-0: No such file")


def test_gpus_without_a_driver_say_so(server):
    pytest.importorskip("pynvml")
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has a driver of NVIDIA")
    opened = open_counters(server, gpus=True)
    assert len(opened.counters) == 4
    assert opened.why[0].startswith("NVML: NVMLError")


@pytest.mark.skipif(not Path("/proc/driver/nvidia/version").exists(), reason="no driver of NVIDIA")
def test_gpus_are_read(tmp_path):
    pytest.importorskip("pynvml")
    found = [c for c in open_counters(tmp_path, gpus=True).counters if c.source == "nvml"]
    assert found
    assert all(c.joules() >= 0 for c in found)


@pytest.mark.parametrize(
    ("visible", "places"),
    [(None, [0, 1, 2]), ("", []), ("2,0", [2, 0]), ("GPU-b", [1]), ("1,7,0", [1]), ("-1", []), ("1,1", [1])],
)
def test_only_visible_gpus_are_counted(visible, places):
    assert chosen(visible, ["GPU-aaaa", "GPU-bbbb", "GPU-cccc"]) == places
