"""Summary is a commutative monoid, and what it counts does not depend on how rows were split."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.watch.plan import Output, Plan, Watched, watched
from scoring.watch.summary import MIXED, Summary
from scoring.watch.tally import STRIDE, Tally

FLOATS = st.one_of(
    st.none(), st.sampled_from([0.0, -0.0, 1.0, -2.5, 3e38, 1e-40, float("inf"), float("-inf"), float("nan")]), st.floats(-5, 5)
)
ROWS = st.lists(
    st.tuples(
        FLOATS,
        FLOATS,
        st.one_of(st.none(), st.integers(-300, 70_000)),
        st.one_of(st.none(), st.sampled_from("abcde")),
        st.floats(0, 1, width=32),
    ),
    max_size=60,
)
PLAN = Plan(
    {
        "f": Watched("number", (-2.5, 0.0, 1.0, 2.0)),
        "d": Watched("number", (0.0, 1.5)),
        "i": Watched("number", (-200.5, 0.0, 7.0, 65_000.0)),
        "c": Watched("category", values=("a", "b", "c")),
        "n": Watched(),
    },
    {"score": Output((0.25, 0.5), -16)},
    {"c": ("a", "d")},
)


def batch(rows) -> pa.RecordBatch:
    f, d, i, c, _ = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [], [])
    with np.errstate(over="ignore"):
        single = pa.array([None if v is None else np.float32(v) for v in f], pa.float32())
    return pa.record_batch(
        {
            "f": single,
            "d": pa.array(d, pa.float64()),
            "i": pa.array(i, pa.int64()),
            "c": pa.array(c, pa.string()),
            "n": pa.array(c, pa.string()),
        }
    )


def scores(rows) -> np.ndarray:
    return np.array([[row[-1]] for row in rows], np.float32).reshape(-1, 1)


def summary(rows, cuts=(), tallies=(), dictionary=False, kept=None, fails=False) -> Summary:
    """Windows end at `cuts`; a new tally (slice) begins at each of `tallies`."""
    whole, out = batch(rows), scores(rows)
    keep = np.arange(len(rows)) if kept is None else kept
    done, tally = Summary(), Tally(PLAN)
    for start, stop in pairwise(sorted({0, len(rows), *cuts, *tallies})):
        if start in tallies:
            done, tally = done + tally.summary(), Tally(PLAN)
        inside = keep[(keep >= start) & (keep < stop)] - start
        part = whole.slice(start, stop - start)
        if kept is not None:
            part = part.take(pa.array(inside, pa.int64()))
        if dictionary:
            part = part.set_column(3, "c", part.column("c").dictionary_encode())
        tally.rows(part, np.arange(start, stop), None if kept is None else inside)
        failed = np.flatnonzero((inside + start) % 5 == 4) if fails else np.empty(0, np.int64)
        tally.scores(np.delete(out[start:stop][inside], failed, axis=0), part, failed)
    return done + tally.summary()


@given(ROWS, st.data())
def test_any_split_gives_the_same_bytes(rows, data):
    places = st.lists(st.integers(0, len(rows)), max_size=4)
    kept = np.array(sorted(data.draw(st.sets(st.integers(0, max(len(rows) - 1, 0)), max_size=len(rows)))), np.int64)
    kept = None if data.draw(st.booleans()) else kept[kept < len(rows)]
    fails = data.draw(st.booleans())
    once = summary(rows, kept=kept, fails=fails).to_json()
    assert summary(rows, data.draw(places), data.draw(places), data.draw(st.booleans()), kept, fails).to_json() == once


@given(ROWS, ROWS, ROWS)
def test_commutative_associative_with_a_zero(a, b, c):
    one, two, three = (summary(rows) for rows in (a, b, c))
    assert (one + two).to_json() == (two + one).to_json()
    assert ((one + two) + three).to_json() == (one + (two + three)).to_json()
    assert (one + Summary()).to_json() == one.to_json() == (Summary() + one).to_json()


@given(ROWS)
def test_counts_are_those_of_a_slow_count(rows):
    found = summary(rows)
    assert found.rows == len(rows)
    for place, name in enumerate("fdi"):
        given = [row[place] for row in rows if row[place] is not None]
        with np.errstate(over="ignore"):
            values = [float(np.float32(v)) if name == "f" else float(v) for v in given]
        finite = [v for v in values if np.isfinite(v)]
        counts = found.of("columns")[name]
        assert counts["null"] == len(rows) - len(values)
        assert counts["le"] == [sum(v <= edge for v in finite) for edge in PLAN.columns[name].edges]
        assert counts.get("nan", 0) == sum(np.isnan(v) for v in values)
        assert (counts.get("inf", 0), counts.get("ninf", 0)) == (values.count(float("inf")), values.count(float("-inf")))
        assert (counts.get("min"), counts.get("max")) == ((min(finite), max(finite)) if finite else (None, None))
        assert sum(counts["cells"].values()) == sum(rows[r][place] is not None for r in range(0, len(rows), STRIDE))
    letters = [row[3] for row in rows]
    assert found.of("columns")["c"]["in"] == [letters.count(v) for v in "abc"]
    assert sum(found.of("columns")["c"]["other"].values()) == letters.count("d") + letters.count("e")
    for letter in "ad":
        alone = summary([row for row in rows if row[3] == letter])
        inner = found.segment(f"c={letter}")
        assert inner.of("scores") == alone.of("scores")
        for name, counts in inner.of("columns").items():
            assert {k: v for k, v in counts.items() if k != "cells"} == {
                k: v for k, v in alone.of("columns")[name].items() if k != "cells"
            }
    assert found.of("columns")["n"] == {"null": letters.count(None)}
    assert found.of("scores")["score"]["sum"] == sum(int(np.rint(float(row[-1]) * 2**16)) for row in rows)


def test_a_window_amid_a_larger_array_with_garbage_under_its_nulls():
    values = np.arange(1000, dtype=np.float32)
    mask = values % 3 == 0
    bits = pa.array(~mask).buffers()[1]
    whole = pa.Array.from_buffers(pa.float32(), 1000, [bits, pa.py_buffer(np.where(mask, np.float32(np.nan), values))])
    tally = Tally(Plan({"x": Watched("number", (500.0,))}, {}))
    tally.rows(pa.record_batch({"x": whole.slice(13, 600)}), np.arange(13, 613), None)
    seen = [v for v in range(13, 613) if v % 3]
    counts = tally.summary().of("columns")["x"]
    assert counts["le"] == [sum(v <= 500 for v in seen)]
    assert (counts["null"], counts["min"], counts["max"]) == (600 - len(seen), min(seen), max(seen))


def test_summaries_of_two_plans_do_not_add_up():
    one = summary([(1.0, 1.0, 1, "a", 0.5)])
    tally = Tally(Plan({"f": Watched()}, {}))
    tally.rows(batch([(1.0, 1.0, 1, "a", 0.5)]), np.arange(1), None)
    mixed = one + tally.summary()
    assert (mixed.plan, mixed.rows, mixed.of("columns")) == (MIXED, 2, {})
    assert (mixed + one).to_json() == (one + mixed).to_json()


def test_unknown_values_fall_into_the_same_cell_whatever_their_type():
    plan = Plan({"x": Watched("category", values=("1",))}, {})
    found = []
    for array in (pa.array([1, 7, 7], pa.int64()), pa.array([1, 7, 7], pa.int8()), pa.array(["1", "7", "7"])):
        tally = Tally(plan)
        tally.rows(pa.record_batch({"x": array}), np.arange(3), None)
        found.append(tally.summary().to_json())
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array(np.arange(1000, dtype=np.float32)), "number"),
        (pa.array(np.arange(1000)), "number"),
        (pa.array(np.arange(1000) % 7), "category"),
        (pa.array([True, False] * 500), "category"),
        (pa.array(["a", "b"] * 500), "category"),
        (pa.array(["a", "b"] * 500).dictionary_encode(), "category"),
        (pa.array([f"person {n}" for n in range(1000)]), "nulls"),
        (pa.array([None] * 5, pa.float32()), "nulls"),
        (pa.array(np.arange(5, dtype=np.int32)).cast(pa.date32()), "nulls"),
    ],
)
def test_how_a_column_is_watched(array, kind):
    assert watched(pa.chunked_array([array])).kind == kind


def test_a_value_that_points_at_few_people_is_not_kept():
    array = pa.chunked_array([pa.array(["often"] * 500 + ["rare"] * 19)])
    assert watched(array).values == ("often",)


def test_arrow_holds_every_count():
    found = summary([(1.0, None, 3, "d", 0.5)] * 4).to_arrow()
    assert found.schema.names == ["part", "column", "statistic", "value"]
    rows = {(r["part"], r["column"], r["statistic"]): r["value"] for r in found.to_pylist()}
    assert rows["columns", "d", "null"] == 4
    assert rows["columns", "f", "le.2"] == 4
    assert rows["scores", "score", "sum"] == 4 * 2**15
