"""The fallback ladder: every rung answers every row with the same score, or names the row."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring import ops
from scoring.batching.budget import Budget
from scoring.engine.device import Device, SimulatedDevice
from scoring.engine.faults import Faults
from scoring.engine.scorer import LaneError, Scorer
from scoring.kernels.frame import operator
from scoring.models.rowwise import RowWise
from scoring.settings import Fallback, Fault
from scoring.types import Output

CPU = torch.device("cpu")


@dataclass
class Rows(RowWise):
    x: torch.Tensor

    @property
    def rows(self) -> int:
        return len(self.x)

    def narrow(self, start, rows):
        return Rows(self.x[start : start + rows])

    def to(self, device):
        return self


class Doubling:
    """Scores 2x; raises on any batch that holds 13, and answers NaN for 7."""

    outputs = (Output("score"),)
    unit = "rows"
    device = CPU
    reentrant = True

    def encode(self, batch):
        return Rows(torch.from_numpy(batch.column("x").to_numpy()))

    def forward(self, encoded):
        if (encoded.x == 13).any():
            raise ValueError("thirteen")
        return torch.where(encoded.x == 7, torch.nan, encoded.x * 2).float().unsqueeze(1)


def scorer(fallback=None, limit=0, faults=(), size=64):
    faults = Faults(faults)
    gpu = SimulatedDevice(Doubling(), faults, limit)
    return Scorer(gpu, lambda: Device(Doubling(), faults), Budget(floor=1, ceiling=1 << 16, size=size), fallback or Fallback())


def rows(values) -> Rows:
    return Rows(torch.tensor(values, dtype=torch.float64))


@settings(deadline=None, max_examples=300)
@given(st.lists(st.integers(0, 15), max_size=300), st.integers(0, 40), st.integers(1, 100))
def test_whatever_the_memory_and_batches_each_row_has_its_own_answer(values, limit, size):
    scored = scorer(limit=limit, size=size).score(rows(values))
    assert {r for r in scored.failed} == {i for i, v in enumerate(values) if v in (7, 13)}
    good = [i for i in range(len(values)) if i not in scored.failed]
    assert scored.outputs[good, 0].tolist() == [2.0 * values[i] for i in good]
    assert sum(scored.routes.values()) == len(good)


def test_a_kernel_that_fails_leaves_the_device_to_torch(monkeypatch, tmp_path):
    """Once for the process, said in a note; nothing is scored twice or by another route."""
    monkeypatch.setattr(ops, "_reasons", [])
    s = scorer(faults=(Fault("gpu", "kernel", once=str(tmp_path / "mark")),), size=60)
    try:
        assert s.score(rows(range(20, 180))).routes == {"gpu": 160}
        assert operator.forced() == "torch"
    finally:
        operator.force(None)
    assert ops.why_reference() == "injected at gpu"
    assert s.take_notes() == ("torch in place of kernels: injected at gpu",)


def test_out_of_memory_becomes_a_smaller_batch_and_is_said():
    s = scorer(limit=10, size=64)
    scored = s.score(rows(range(20, 120)))
    assert scored.routes == {"gpu-smaller-batch": 100}
    assert "did not fit" in s.take_notes()[0]
    assert s.take_notes() == ()
    assert s.score(rows(range(20, 120))).routes == {"gpu": 100}  # the ceiling has been learnt


def test_without_smaller_batches_the_cpu_answers():
    fallback = Fallback(batch=False, cpu="batch")
    assert scorer(fallback, limit=10, size=50).score(rows(range(20, 125))).routes == {"cpu": 100, "gpu": 5}


def test_cpu_for_the_rest_of_the_lane():
    s = scorer(Fallback(batch=False, cpu="lane"), limit=10, size=50)
    assert s.score(rows(range(20, 75))).routes == {"cpu": 55}


def test_never_means_never():
    with pytest.raises(LaneError) as error:
        scorer(Fallback(batch=False, cpu="never"), limit=10).score(rows(range(20, 75)))
    assert error.value.kind == "memory"


@pytest.mark.parametrize(("kind", "expected"), [("sticky", "device-sticky"), ("lost", "device-lost")])
def test_a_broken_device_gives_up_its_process(kind, expected):
    with pytest.raises(LaneError) as error:
        scorer(faults=[Fault(site="gpu", kind=kind)]).score(rows([1, 2, 3]))
    assert (error.value.kind, error.value.usable) == (expected, False)


def test_a_model_that_raises_on_everything_is_not_a_thousand_bad_rows():
    with pytest.raises(LaneError) as error:
        scorer().score(rows([13] * 1000))
    assert error.value.kind == "model"
    assert error.value.message.endswith("ValueError")  # what the model said of it may quote the row


def test_reasons_name_the_error():
    scored = scorer().score(rows([1, 13, 7]))
    assert scored.failed == {1: "ValueError: thirteen", 2: "non-finite"}
    assert np.isfinite(scored.outputs[0]).all()


@dataclass
class Texts:
    """Items of different costs, in an order of their own, for rows of which several may want one item."""

    x: torch.Tensor
    costs: list[int]
    order: np.ndarray | None = None

    @property
    def rows(self) -> int:
        return len(self.x)

    def fit(self, start, budget):
        count = 1
        while start + count < self.rows and self.cost(start, count + 1) <= budget:
            count += 1
        return count

    def cost(self, start, count):
        return sum(self.costs[start : start + count])

    def narrow(self, start, rows):
        return Texts(self.x[start : start + rows], self.costs[start : start + rows])

    def to(self, device):
        return self

    def counted(self):
        return {}

    def work(self):
        return {}


class Reading(Doubling):
    """As Doubling, with a vector beside the score, which float16 holds up to 65,504."""

    outputs = (Output("score"), Output("vector", 3, "float16"))
    unit = "tokens"

    def forward(self, encoded):
        x = super().forward(encoded)
        return torch.cat([x, x + 1, x * 1_000, -x], 1)


@st.composite
def windows(draw):
    """Values of items, what each costs, the item of each row, and items that no memory holds."""
    items = draw(st.lists(st.tuples(st.integers(0, 15) | st.just(40), st.integers(1, 50)), min_size=1, max_size=60))
    order = draw(st.lists(st.integers(0, len(items) - 1), max_size=150))
    return [value for value, _ in items], [cost for _, cost in items], np.array(order, np.int64)


@settings(deadline=None, max_examples=300)
@given(windows(), st.integers(0, 120), st.integers(1, 400), st.integers(1, 60))
def test_each_row_has_the_answer_of_its_item_whatever_its_place_and_cost(window, limit, size, floor):
    """13 makes the model raise, 7 is NaN, and 1,000 times 80 is more than a float16."""
    values, costs, order = window
    gpu = SimulatedDevice(Reading(), Faults(), limit)
    budget = Budget(floor=floor, ceiling=1 << 16, size=size)
    found = Scorer(gpu, lambda: Device(Reading(), Faults()), budget, Fallback()).score(
        Texts(torch.tensor(values, dtype=torch.float64), costs, order)
    )
    wanted = np.array([values[item] for item in order.tolist()])
    assert set(found.failed) == set(np.flatnonzero(np.isin(wanted, (7, 13, 40))).tolist())
    good = [row for row in range(len(order)) if row not in found.failed]
    x = wanted[good] * 2.0
    assert found.outputs.shape == (len(order), 4)
    assert found.outputs[good].tolist() == np.column_stack([x, x + 1, x * 1_000, -x]).tolist()
    assert sum(found.routes.values()) == len(good)
    if not limit:
        assert set(found.routes) <= {"gpu", "cpu"}


def test_out_of_memory_halves_the_cost_and_not_the_items():
    device = SimulatedDevice(Reading(), Faults(), 100)
    budget = Budget(floor=1, ceiling=1 << 16, size=320)
    s = Scorer(device, lambda: Device(Reading(), Faults()), budget, Fallback())
    items = Texts(torch.zeros(32), [40] * 8 + [1] * 24)
    assert s.score(items).routes == {"gpu-smaller-batch": 32}
    assert budget.size <= 100
    assert s.take_notes()[0] == "simulated: batch of 320 tokens did not fit, now 160"


def test_an_item_that_fits_nowhere_else_is_the_cpus():
    device = SimulatedDevice(Reading(), Faults(), 100)
    s = Scorer(device, lambda: Device(Reading(), Faults()), Budget(floor=1, ceiling=1 << 16, size=64), Fallback())
    assert s.score(Texts(torch.zeros(3), [500, 30, 30], np.array([0, 0, 1, 2]))).routes == {"cpu": 2, "gpu": 2}


def test_the_budget_climbs_on_batches_that_are_as_full_as_items_allow():
    budget = Budget(floor=1, ceiling=64, size=4)
    s = Scorer(Device(Reading(), Faults()), lambda: Device(Reading(), Faults()), budget, Fallback())
    for _ in range(30):
        s.score(Texts(torch.zeros(60), [3] * 60))
    assert budget.settled
