"""What a hardware profile lets one expect, and when it does not."""

from dataclasses import replace

import pytest

from scoring.engine.capacity import LanePlan
from scoring.engine.estimate import Rate, devices, expected
from scoring.settings import Engine, Hardware, Measured

SEEN = Measured(1_000.0, 900.0, 1_100.0, 2, 3.5, "ray", "cpu", "abc", "2026-01-01T00:00:00+00:00")
ENGINE = Engine("ray")


def lanes(count, cpus=1, gpus=0.0):
    return LanePlan(count, "gpu" if gpus else "cpu", cpus, gpus, 1.5, ())


def test_without_measurement_nothing_is_expected():
    assert expected(Hardware(), ENGINE, lanes(2), "abc") is None


def test_the_measured_rate_is_expected_of_the_same_lanes():
    found = expected(Hardware(measured=SEEN), ENGINE, lanes(2), "abc")
    assert isinstance(found, Rate)
    assert (found.median, found.low, found.high, found.start_seconds) == (1_000.0, 900.0, 1_100.0, 3.5)
    assert found.notes == ("measured on cpu, 2026-01-01T00:00:00+00:00",)


def test_other_numbers_of_lanes_are_scaled_and_said():
    found = expected(Hardware(measured=SEEN), ENGINE, lanes(6), "abc")
    assert (found.median, found.low, found.high) == (3_000.0, 2_700.0, 3_300.0)
    assert "with 2 lane(s), taken times 3" in found.notes


def test_another_engine_is_said():
    assert "with engine=ray" in expected(Hardware(measured=SEEN), replace(ENGINE, kind="inline"), lanes(2), "abc").notes


def test_another_model_has_no_estimate_and_is_named():
    found = expected(Hardware(measured=SEEN), ENGINE, lanes(2), "xyz")
    assert isinstance(found, str)
    assert "another model" in found
    assert "scoring bench" in found


@pytest.mark.parametrize(("plan", "held"), [(lanes(3, cpus=2), 6), (lanes(3, cpus=2, gpus=0.5), 1.5)])
def test_devices_are_gpus_or_else_cores(plan, held):
    assert devices(plan) == held
