"""The budget climbs while it pays and never exceeds what memory allowed."""

from hypothesis import given
from hypothesis import strategies as st

from scoring.batching.budget import Budget


def feed(budget: Budget, rate, memory: int | None = None, batches: int = 200) -> None:
    """Run batches on a device with `rate(size)` rows/s that fits at most `memory` rows."""
    for _ in range(batches):
        size = budget.size
        if memory and size > memory:
            assert budget.out_of_memory(size)
        else:
            budget.observe(size, size / rate(size), full=True)


@given(st.integers(10, 20))
def test_it_stops_where_larger_batches_stop_paying(knee):
    budget = Budget(floor=1, ceiling=1 << 20, size=512)
    feed(budget, lambda n: min(n, 1 << knee) * 1000.0)
    assert budget.size in (1 << knee, 1 << 20)
    assert budget.settled


@given(st.integers(1, 1 << 20), st.integers(9, 20))
def test_it_never_tries_again_what_did_not_fit(memory, top):
    budget = Budget(floor=1, ceiling=1 << top, size=1024)
    feed(budget, lambda n: float(n), memory)
    assert budget.size <= memory
    assert budget.ceiling <= 1 << top


def test_at_the_floor_nothing_smaller_can_be_tried():
    assert not Budget(floor=1, ceiling=8, size=8).out_of_memory(1)


def test_tails_teach_nothing():
    budget = Budget(floor=1, ceiling=1 << 20, size=1024)
    for _ in range(50):
        budget.observe(10, 1e-9, full=False)
    assert (budget.size, budget.settled) == (1024, False)
