"""What a batch of texts is made of: any part of a window begins at 0, and batches under a budget cover all items in order."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from scoring.models.texts import Texts

ITEMS = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=3), max_size=12)  # lengths of the sequences of each item


def texts(items: list[list[int]], types: bool = True) -> Texts:
    """Tokens are numbered from 0, so that each says where it was."""
    lengths = np.array([n for item in items for n in item], np.int64)
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    first = np.concatenate([[0], np.cumsum([len(item) for item in items], dtype=np.int64)]).astype(np.int64)
    ids = torch.arange(int(offsets[-1]), dtype=torch.int32)
    tensor = torch.from_numpy(offsets.astype(np.int32))
    facts = {"tokens": len(ids)}
    return Texts(ids, ids + 100 if types else None, tensor, torch.from_numpy(first), offsets[first], np.arange(len(items)), facts)


def sequences(given: Texts) -> list[list[list[int]]]:
    """Token ids of each sequence of each item."""
    edges = given.offsets.tolist()
    of_each = [given.ids[start:end].tolist() for start, end in pairwise(edges)]
    first = given.first.tolist()
    return [of_each[start:end] for start, end in pairwise(first)]


@given(ITEMS, st.booleans(), st.data())
def test_parts_of_parts_hold_what_the_window_holds(items: list[list[int]], types: bool, data: st.DataObject) -> None:
    whole = part = texts(items, types)
    low = 0
    for _ in range(2):
        start = data.draw(st.integers(0, part.rows))
        count = data.draw(st.integers(0, part.rows - start))
        part, low = part.narrow(start, count), low + start
        assert part.rows == count
        assert sequences(part) == sequences(whole)[low : low + count]
        assert part.offsets[0] == part.first[0] == part.starts[0] == 0
        assert (part.offsets.dtype, part.first.dtype, part.starts.dtype) == (torch.int32, torch.int64, np.int64)
        assert part.offsets[part.first].tolist() == part.starts.tolist()
        assert (None if part.types is None else part.types.tolist()) == ((part.ids + 100).tolist() if types else None)
        assert (part.order, part.work(), part.counted()) == (None, {}, {})


@given(ITEMS, st.integers(-1, 60))
def test_batches_under_a_budget_cover_all_items_in_order(items: list[list[int]], budget: int) -> None:
    whole = texts(items)
    seen, at = [], 0
    while at < whole.rows:
        count = whole.fit(at, budget)
        assert 1 <= count <= whole.rows - at
        assert count == 1 or whole.cost(at, count) <= budget
        if at + count < whole.rows:  # no room is left unused
            assert whole.cost(at, count + 1) > budget
        part = whole.narrow(at, count)
        assert whole.cost(at, count) == len(part.ids) == part.cost(0, count)
        seen += sequences(part)
        at += count
    assert seen == sequences(whole)
    assert whole.fit(whole.rows, budget) == 0


def test_on_a_device_the_host_knows_where_items_begin() -> None:
    there = texts([[2, 1], [3]]).to(torch.device("meta"))
    assert {there.ids.device.type, there.offsets.device.type} == {"meta"}
    assert there.types is not None
    assert there.types.device.type == "meta"
    assert there.first.tolist() == [0, 2, 3]
    assert (there.cost(0, 1), there.fit(0, 5), there.work()) == (3, 1, {"tokens": 6})
    here = texts([[2]])
    assert here.to(torch.device("cpu")) is here
