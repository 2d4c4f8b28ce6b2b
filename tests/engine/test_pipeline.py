"""Stages overlap, memory stays bounded, the first error ends everything."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.engine.pipeline import Pipeline


@given(st.lists(st.integers(), max_size=50), st.integers(0, 4))
def test_every_item_passes_every_stage_in_order(items, depth):
    out = []
    Pipeline(depth).run(("read", items), ("double", lambda x: 2 * x), ("keep", out.append))
    assert out == [2 * x for x in items]


def test_stages_run_at_the_same_time():
    meeting = threading.Barrier(2, timeout=10)  # breaks unless both stages are inside it together

    def feed():
        yield 0
        meeting.wait()
        yield 1

    def work(item):
        if item == 0:
            meeting.wait()
        return item

    seen = []
    Pipeline().run(("read", feed()), ("work", work), ("write", seen.append))
    assert seen == [0, 1]


def test_no_more_items_are_alive_than_stages_and_queues_hold():
    alive, peak, lock = 0, 0, threading.Lock()

    def feed():
        nonlocal alive, peak
        for n in range(200):
            with lock:
                alive += 1
                peak = max(peak, alive)
            yield n

    def leave(_):
        nonlocal alive
        with lock:
            alive -= 1

    Pipeline(depth=2).run(("read", feed()), ("work", lambda x: x), ("write", leave))
    assert alive == 0
    assert peak <= 2 * 2 + 4


def test_in_turn_no_second_item_is_taken_before_the_first_has_left():
    at = []
    pipeline = Pipeline(depth=0)
    pipeline.run(("read", (at.append(n) or n for n in range(3))), ("work", lambda n: at.append(n) or n), ("write", at.append))
    assert at == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert set(pipeline.seconds) == {"read", "work", "write"}


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("where", ["read", "work", "write"])
def test_an_error_anywhere_stops_all_and_reaches_the_caller(where, depth):
    def check(stage):
        def work(item):
            if stage == where and item == 3:
                raise RuntimeError(stage)
            return item

        return work

    with pytest.raises(RuntimeError, match=where):
        Pipeline(depth).run(("read", map(check("read"), range(10**9))), ("work", check("work")), ("write", check("write")))
    assert not [t for t in threading.enumerate() if t.name in ("read", "work")]
