"""How many lanes: never more than fit, never none, every refusal with its sum."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.engine.capacity import GB, Machine, measure, plan
from scoring.errors import PlanError
from scoring.settings import Engine, Hardware

machines = st.builds(Machine, st.integers(1, 128), st.integers(0, 10**12), st.integers(0, 8).map(lambda n: ("GPU",) * n))
shares = st.sampled_from([0.1, 0.25, 0.3, 0.5, 0.6, 1.0, 2.0, 3.0])
hardwares = st.builds(
    Hardware,
    device=st.sampled_from(["auto", "cpu", "cuda", "simulated"]),
    gpus_per_lane=shares,
    cpus_per_lane=st.integers(1, 16),
    memory_per_lane_gb=st.floats(0.1, 64),
)
engines = st.builds(Engine, kind=st.just("ray"), lanes=st.none() | st.integers(1, 64))


def fitting(found, share):
    """Lanes put on GPUs one by one: a lane with a part of a GPU lies on one GPU."""
    if share >= 1:
        return len(found.gpus) // int(share)
    free = [1.0] * len(found.gpus)
    lanes = 0
    while (at := next((n for n, left in enumerate(free) if left >= share - 1e-9), None)) is not None:
        free[at] -= share
        lanes += 1
    return lanes


@given(machines, hardwares, engines)
def test_a_plan_fits_or_is_refused(machine, hardware, engine):
    if not plan_fits(machine, hardware, engine.lanes or 1):
        with pytest.raises(PlanError):
            plan(machine, hardware, engine)
        return
    lanes = plan(machine, hardware, engine)
    assert lanes.count == (engine.lanes or lanes.count) >= 1
    assert plan_fits(machine, hardware, lanes.count)
    if engine.lanes is None:
        assert not plan_fits(machine, hardware, lanes.count + 1), "one more would have fitted"
    assert len(lanes.reasons) == 2
    assert (lanes.gpus > 0) == (lanes.kind == "gpu" and hardware.device != "simulated")


def plan_fits(machine, hardware, count):
    on_gpu = hardware.device == "cuda" or (hardware.device == "auto" and machine.gpus)
    if on_gpu and fitting(machine, hardware.gpus_per_lane) < count:
        return False
    cores = count * hardware.cpus_per_lane <= machine.cores
    return cores and count <= int(machine.memory_bytes / GB / hardware.memory_per_lane_gb)


@pytest.mark.parametrize(
    ("hardware", "engine", "said"),
    [
        (Hardware(cpus_per_lane=2), Engine(lanes=3), "3 lanes x 2 cores = 6 cores, this machine has 4."),
        (Hardware(memory_per_lane_gb=6), Engine(lanes=2), "2 lanes x 6 GB = 12 GB of memory, 8.0 GB are free."),
        (
            Hardware(device="cuda", gpus_per_lane=0.6),
            Engine(lanes=3),
            "3 lanes x 0.6 GPU = 1.8 GPUs, this machine has 2 with room for 2",
        ),
        (
            Hardware(device="cuda", gpus_per_lane=1.5),
            Engine(),
            "hardware.gpus_per_lane is 1.5. A lane has whole GPUs or a part of one",
        ),
        (Hardware(device="cuda"), Engine(lanes=3), "3 lanes x 1 GPU = 3 GPUs, this machine has 2 with room for 2 lanes."),
    ],
)
def test_refusals_show_their_sum(hardware, engine, said):
    with pytest.raises(PlanError) as refused:
        plan(Machine(4, int(8 * GB), ("A", "B")), hardware, engine)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("machine", "hardware", "count", "why"),
    [
        (Machine(64, int(16 * GB), ()), Hardware(), 10, "1.5 GB of memory each, 16.0 GB are free"),
        (Machine(2, int(16 * GB), ()), Hardware(), 2, "1 core(s) each, there are 2"),
        (Machine(64, int(999 * GB), ("A",) * 8), Hardware(), 8, "1 GPU(s) each, there are 8"),
        (Machine(4, int(999 * GB), ("A",) * 8), Hardware(), 4, "1 core(s) each, there are 4"),
    ],
)
def test_unasked_it_takes_what_fits_and_says_what_binds(machine, hardware, count, why):
    lanes = plan(machine, hardware, Engine())
    assert lanes.count == count
    assert why in lanes.reasons[1]


def test_no_gpu_is_no_reason_to_refuse_a_cluster():
    here = Machine(2, int(8 * GB), ())
    with pytest.raises(PlanError, match="no usable GPU"):
        plan(here, Hardware(device="cuda"), Engine())
    lanes = plan(here, Hardware(device="cuda"), Engine(address="ray://head:10001", lanes=16))
    assert (lanes.count, lanes.kind, lanes.gpus) == (16, "gpu", 1.0)
    assert "say engine.lanes=…" in plan(here, Hardware(), Engine(address="ray://head:10001")).reasons[1]


def test_inline_is_one_lane_with_all_cores():
    lanes = plan(Machine(4, 0, ()), Hardware(), Engine(kind="inline", lanes=7))
    assert (lanes.count, lanes.cpus, lanes.kind) == (1, 4, "cpu")


def test_this_machine_has_something():
    found = measure()
    assert found.cores >= 1
    assert found.memory_bytes > 0
