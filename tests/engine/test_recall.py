"""A budget is found once and remembered; damage costs a climb, not a run."""

import pytest

from scoring.engine import recall
from scoring.settings import Batch
from scoring.stores import open_store


def test_the_next_lane_starts_where_the_last_one_settled(tmp_path):
    store = open_store(str(tmp_path))
    recall.remember(store, "model", "gpu", 8192)
    found = recall.opened(store, "model", "gpu", Batch(), 65_536, "rows")
    assert (found.size, found.settled) == (8192, True)
    assert not recall.opened(store, "another model", "gpu", Batch(), 65_536, "rows").settled


def test_what_the_user_sets_stands(tmp_path):
    store = open_store(str(tmp_path))
    recall.remember(store, "model", "gpu", 8192)
    assert recall.opened(store, "model", "gpu", Batch(budget=100), 65_536, "rows").size == 100


@pytest.mark.parametrize("text", [b"", b"[]", b'{"budget": "x"}', b'{"budget": -1}', b"\xff"])
def test_a_damaged_memory_is_no_memory(tmp_path, text):
    store = open_store(str(tmp_path))
    recall.remember(store, "model", "gpu", 8192)
    (key,) = store.list("runs/budgets")
    store.replace(key, text)
    assert not recall.opened(store, "model", "gpu", Batch(), 65_536, "rows").settled


def test_a_cpu_takes_the_window_as_it_is(tmp_path):
    store = open_store(str(tmp_path))
    found = recall.opened(store, "model", "cpu", Batch(), 10_000, "rows")
    assert (found.size, found.ceiling, found.settled) == (10_000, 10_000, True)
    assert recall.opened(store, "model", "cpu", Batch(ceiling=100), 10_000, "rows").size == 100
    assert found.out_of_memory(10_000)
    assert found.size == 5_000


def test_a_cpu_takes_so_many_tokens_whatever_the_window(tmp_path):
    store = open_store(str(tmp_path))
    found = recall.opened(store, "model", "cpu", Batch(), 65_536, "tokens")
    assert (found.size, found.settled) == (recall.CPU_TOKENS, True)
    assert recall.opened(store, "model", "cpu", Batch(ceiling=100), 65_536, "tokens").size == 100
