"""The parts of a replay that know nothing of files: which rows, how far apart, and what that is laid to."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring import columns
from scoring.ledger.replay.causes import PARTS, Fact, Outcome, Swap, causes, fact
from scoring.ledger.replay.sample import spans
from scoring.ledger.replay.scores import APART, EQUAL, WITHIN, compare, same
from scoring.types import Output

FLOATS = st.floats(-1e6, 1e6, width=32)


@given(st.lists(st.integers(0, 400), max_size=12), st.integers(1, 1500), st.text(max_size=5), st.integers(1, 20))
def test_a_sample_is_as_large_as_asked_and_always_the_same(rows, wanted, run_id, places):
    found = spans(rows, wanted, run_id, places)
    assert found == spans(rows, wanted, run_id, places)
    assert sum(stop - start for mine in found for start, stop in mine) == min(wanted, sum(rows))
    for count, mine in zip(rows, found, strict=True):
        edges = [edge for span in mine for edge in span]
        assert all(0 <= edge <= count for edge in edges)
        assert edges == sorted(set(edges)), "spans ascend, are not empty and do not touch"


def test_a_sample_is_spread_and_its_places_are_drawn_by_the_name_of_the_run():
    rows = [1000] * 64
    found = spans(rows, 640, "one")
    assert {n // 4 for n, mine in enumerate(found) if mine} == set(range(16)), "each sixteenth of the rows has its stretch"
    assert found != spans(rows, 640, "two")


def table(output, matrix):
    fields = columns.schema([output])
    return pa.Table.from_arrays(columns.arrays([output], np.asarray(matrix, np.float32)), schema=fields)


def held(output, then, now, tolerance=1e-5):
    state, (distance,) = compare(table(output, then), table(output, now), [output], tolerance)
    assert [distance.bit_equal, distance.within, distance.different] == np.bincount(state, minlength=3).tolist()
    return state.tolist(), distance


@given(st.lists(FLOATS, min_size=1), st.sampled_from(["float32", "float16", "int8"]), st.integers(1, 3))
def test_what_is_the_same_is_bit_equal_however_it_is_stored(values, store, width):
    matrix = np.clip(np.array(values, np.float32)[:, None] * np.ones(width), -6e4, 6e4)
    output = Output("v", width, store if width > 1 else "float32")
    state, distance = held(output, matrix, matrix)
    assert set(state) == {EQUAL}
    assert (distance.max_abs, distance.max_rel, distance.max_ulp) == (0.0, 0.0, 0)


@given(FLOATS.filter(lambda x: abs(x) > 1e-30), st.integers(-3, 3))
def test_ulps_are_counted_as_floats_lie(value, steps):
    other = np.float32(value)
    for _ in range(abs(steps)):
        other = np.nextafter(other, np.float32(math.copysign(math.inf, steps)))
    _, distance = held(Output("x"), [[value]], [[other]], 1e-5)
    assert distance.max_ulp == abs(steps)


def test_a_number_is_within_tolerance_absolute_below_one_and_relative_above():
    then, now = [[0.5], [0.5], [100.0], [100.0], [0.5]], [[0.505], [0.52], [100.9], [102.0], [math.nan]]
    state, distance = held(Output("x"), then, now, 0.01)
    assert state == [WITHIN, APART, WITHIN, APART, APART]
    assert distance.max_abs == pytest.approx(2.0)
    assert distance.max_rel == pytest.approx(0.04)


@pytest.mark.parametrize("store", ["float16", "int8"])
def test_one_step_of_what_is_stored_is_no_difference(store):
    """0.3 and the next float32 fall to both sides of where rounding turns."""
    output = Output("v", 2, store)
    step = 2.0**-12 if store == "float16" else 1 / 127
    state, _ = held(output, [[0.3, 1.0]] * 3, [[0.3 + 0.9 * step, 1.0], [0.3 + 3 * step, 1.0], [0.3, 1.0]], 1e-6)
    assert state == [WITHIN, APART, EQUAL]


def test_a_label_is_the_same_or_another():
    output = Output("class", labels=("low", "high"))
    assert held(output, [[0], [1], [1]], [[0], [0], [1]])[0] == [EQUAL, APART, EQUAL]


def test_a_vector_of_another_width_is_different():
    one, two = Output("v", 2), Output("v", 3)
    state, _ = compare(table(one, [[1, 2]]), table(two, [[1, 2, 3]]), [two], 1.0)
    assert state.tolist() == [APART]


@given(st.lists(st.one_of(st.none(), st.sampled_from(["a", "b"])), min_size=1), st.data())
def test_copied_columns_are_compared_by_value(values, data):
    other = data.draw(st.lists(st.one_of(st.none(), st.sampled_from(["a", "b"])), min_size=len(values), max_size=len(values)))
    then = pa.table({"c": pa.array(values, pa.string()).dictionary_encode(), "x": [math.nan] * len(values)})
    now = pa.table({"c": pa.array(other, pa.string()), "x": [math.nan] * len(values)})
    assert same(then, now, ["c", "x"]).tolist() == [a == b for a, b in zip(values, other, strict=True)]


SAME = tuple(fact(part, part, "x", "x") for part in PARTS)
APART_ROWS = Outcome(bit_equal=5, different=5)


def changed(*parts):
    return tuple(Fact(f.part, f.name, "x", "y", "changed") if f.part in parts else f for f in SAME)


def verdicts(*given):
    return {cause.part: cause.verdict for cause in causes(*given) if cause.verdict != "excluded"}


def test_nothing_is_laid_to_anybody_where_nothing_differs():
    assert causes(changed("model", "code"), Outcome(bit_equal=10), 0, ()) == ()


def test_the_only_part_that_changed_is_likely_and_one_of_several_possible():
    assert verdicts(changed("code"), APART_ROWS, 0, ()) == {"code": "likely"}
    assert verdicts(changed("code", "device"), APART_ROWS, 0, ()) == {"code": "possible", "device": "possible"}
    assert verdicts(SAME, APART_ROWS, 0, ()) == {}


def test_what_was_not_recorded_cannot_be_excluded_nor_be_likely():
    facts = [fact("code", "code", "", "x") if one.part == "code" else one for one in SAME]
    assert verdicts(facts, APART_ROWS, 0, ()) == {"code": "possible"}


def test_other_values_in_copied_columns_are_other_data():
    assert verdicts(changed("data", "code"), APART_ROWS, 3, ()) == {"data": "shown", "code": "possible"}


def test_an_exchange_that_gives_every_bit_explains_it_all():
    swap = Swap("model", "with the other", Outcome(bit_equal=10))
    assert verdicts(changed("model", "code", "device"), APART_ROWS, 0, (swap,)) == {"model": "shown"}


def test_an_exchange_that_brings_rows_within_tolerance_shows_its_part_and_clears_no_other():
    swap = Swap("device", "on the CPU", Outcome(bit_equal=8, within=2))
    assert verdicts(changed("device", "code"), APART_ROWS, 0, (swap,)) == {"device": "shown", "code": "possible"}


def test_an_exchange_that_changes_nothing_clears_its_part():
    swap = Swap("device", "on the CPU", APART_ROWS)
    assert verdicts(changed("device", "code"), APART_ROWS, 0, (swap,)) == {"code": "likely"}
