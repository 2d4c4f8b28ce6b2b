"""Law 4: a bad row costs itself only."""

from math import ceil, log2

from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.batching.bisection import Bisection


def bisect(rows: int, poison: set[int], give_up: int = 10**9) -> tuple[set[int], list[int], int]:
    """Run a bisection against a model that raises when a range holds poison: bad rows, rows scored (in order of call), calls."""
    search, scored, calls = Bisection(rows, give_up), [], 0
    while (asked := search.next()) and not search.hopeless:
        start, count = asked
        calls += 1
        if poison & set(range(start, start + count)):
            search.failed("boom")
        else:
            scored += range(start, start + count)
            search.passed()
    return set(search.bad), scored, calls


@settings(max_examples=1000, deadline=None)
@given(st.integers(1, 4096), st.data())
def test_exactly_the_poison_rows_are_found_and_all_others_scored_once(rows, data):
    poison = data.draw(st.sets(st.integers(0, rows - 1), min_size=1, max_size=8))
    bad, scored, calls = bisect(rows, poison)
    assert bad == poison
    assert sorted(scored) == [i for i in range(rows) if i not in poison]
    assert calls <= 2 * len(poison) * (ceil(log2(rows)) + 1)


@given(st.integers(1, 500))
def test_a_failure_that_does_not_come_back_leaves_no_row_unscored(rows):
    bad, scored, _ = bisect(rows, set())
    assert bad == set()
    assert sorted(scored) == list(range(rows))


def test_a_model_that_fails_on_everything_is_given_up_early():
    _, scored, calls = bisect(100_000, set(range(100_000)), give_up=64)
    assert scored == []
    assert calls < 200
