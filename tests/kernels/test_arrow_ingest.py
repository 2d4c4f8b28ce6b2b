"""Arrow's raw buffers to a matrix and counts: as pyarrow and numpy read them, whatever lies under nulls and around bits."""

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
import walk
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.kernels import arrow_ingest as kernel
from scoring.kernels.frame import tuning
from scoring.kernels.frame.arrow import DTYPES, KINDS
from scoring.kernels.frame.arrow_cases import arena, packed_bits
from scoring.watch.plan import Watched
from scoring.watch.tally import _Numeric

SPECIAL = (math.nan, math.inf, -math.inf, -0.0, 0.0, 1e30, -1e30)
PLAIN = [0.0, -math.inf, math.inf, 0.0, 1.0]  # fill, low, high, mean, inverse_scale


def arguments(columns, rules=None, edges=None, by_column=True, indicators=False, dtype=torch.float32, gap=0):
    """`columns`: (values, valid, bit offset) with columns of one type together."""
    laid, places = arena(columns, gap)
    count = len(columns)
    table = [[*place, c, count + c if indicators else -1] for c, place in enumerate(places)]
    return {
        "buffers": [laid], "table": torch.tensor(table), "kinds": [DTYPES.index(values.dtype) for values, _, _ in columns],
        "rules": torch.tensor(rules or [PLAIN] * count, dtype=torch.float64), "edges": edges, "rows": len(columns[0][0]),
        "width": count * (2 if indicators else 1), "by_column": by_column, "dtype": dtype,
    }  # fmt: skip


@st.composite
def columns(draw):
    """A few columns of one type and length, with nulls anywhere and garbage under them."""
    kind = draw(st.sampled_from([name for name in KINDS if name != "uint64"]))
    rows, dtype = draw(st.integers(0, 70)), DTYPES[KINDS[kind]]
    if dtype == torch.bool:
        cell = st.booleans()
    elif dtype.is_floating_point:
        cell = st.one_of(st.sampled_from(SPECIAL), st.floats(-8, 8, width=32))
    else:
        limits = torch.iinfo(dtype)
        cell = st.one_of(st.sampled_from((limits.min, limits.max)), st.integers(max(limits.min, -9), 9))
    found = []
    for _ in range(draw(st.integers(1, 3))):
        values = torch.tensor(draw(st.lists(cell, min_size=rows, max_size=rows)), dtype=dtype)
        valid = draw(
            st.none() | st.lists(st.booleans(), min_size=rows, max_size=rows).map(lambda v: torch.tensor(v, dtype=torch.bool))
        )
        found.append((values, valid, draw(st.integers(0, 19))))
    return found


@given(columns(), st.booleans(), st.booleans())
@settings(max_examples=40)
def test_every_type_and_offset_is_read_as_arrow_reads_it(given_columns, by_column, indicators):
    found, _, _ = walk.poisoned(kernel.fused, **arguments(given_columns, by_column=by_column, indicators=indicators))
    matrix = found if by_column else found.t()
    for c, (values, valid, _) in enumerate(given_columns):
        null = np.zeros(len(values), bool) if valid is None else ~valid.numpy()
        array = pa.array(values.numpy(), mask=null, from_pandas=False)
        want = array.cast(pa.float64(), safe=False).fill_null(0.0).to_numpy().astype(np.float32)
        np.testing.assert_array_equal(matrix[c].numpy(), want)
        if indicators:
            np.testing.assert_array_equal(matrix[len(given_columns) + c].numpy(), null.astype(np.float32))


@given(columns(), st.sets(st.sampled_from([-8.5, -3.0, -1.0, 0.0, 0.5, 2.0, 7.0]), min_size=1))
@settings(max_examples=40)
@pytest.mark.parametrize("way", ["fused", "reference"])
def test_counts_are_those_of_the_summary(way, given_columns, levels):
    """Equal to the bit with what a lane counts on a CPU, so that counts of both can be added (law 7)."""
    edges = tuple(sorted(levels))
    floating = given_columns[0][0].dtype.is_floating_point
    row = torch.tensor(edges, dtype=torch.float64).view(torch.int64) if floating else torch.tensor([math.floor(e) for e in edges])
    asked = arguments(given_columns, edges=row.repeat(len(given_columns), 1))
    _, counts, extremes = walk.poisoned(getattr(kernel, way), **asked)
    for c, (values, valid, _) in enumerate(given_columns):
        if values.dtype == torch.bool:
            values = values.to(torch.uint8)  # the summary counts booleans as categories
        tally = _Numeric(Watched("number", edges))
        if len(values):
            tally.add(pa.array(values.numpy(), mask=None if valid is None else ~valid.numpy(), from_pandas=False), slice(0, 0))
        want = tally.plain()
        assert counts[c, : len(edges)].tolist() == want["le"]
        assert counts[c, len(edges) :].tolist() == [want.get(fact, 0) for fact in ("null", "nan", "inf", "ninf")]
        ends = (want.get("min", math.inf), want.get("max", -math.inf))
        assert tuple((extremes[c] + 0.0).tolist()) == ends


@given(st.lists(st.one_of(st.sampled_from(SPECIAL), st.floats(-8, 8, width=32)), min_size=1, max_size=40))
@settings(max_examples=15)
def test_clip_keeps_nan_and_bounds_the_rest(values):
    column = (torch.tensor(values), None, 0)
    found, _, _ = walk.proven(kernel, arguments([column], rules=[[0.0, -2.0, 3.0, 0.5, 2.0]]))
    nan = torch.isnan(column[0])
    assert torch.equal(torch.isnan(found[0]), nan)
    assert bool(((found[0][~nan] >= -5) & (found[0][~nan] <= 5)).all())


@pytest.mark.parametrize("kind", ["int64", "float64"])
def test_large_values_keep_what_the_mean_leaves_of_them(kind):
    """Nanoseconds since 1970 are far beyond float32: the mean goes first, in float64."""
    start = 1_700_000_000_000_000_000
    values = torch.arange(start, start + 600 * 1024, 1024, dtype=torch.int64).to(DTYPES[KINDS[kind]])
    rule = [0.0, -math.inf, math.inf, float(start), 2.0**-10]
    found, _, _ = kernel.fused(**arguments([(values, None, 0)], rules=[rule]))
    assert torch.equal(found[0], torch.arange(600, dtype=torch.float32))


def test_arena_beyond_two_billion_bytes():
    """Untouched pages cost nothing; a place of 32 bits would wrap around to the front."""
    columns = [(torch.arange(100).to(kind), torch.arange(100) % 3 > 0, 5) for kind in (torch.int8, torch.float32)]
    asked = arguments(columns, gap=1 << 31)
    found, _, _ = kernel.fused(**asked)
    near, _, _ = kernel.fused(**arguments(columns))
    assert asked["table"][0, 0] == 1 << 31
    assert torch.equal(found, near)


def test_separate_buffers_give_the_same_without_a_copy():
    """On a CPU columns are read where Arrow has them."""
    given_columns = [(torch.randn(77), torch.rand(77) < 0.8, 3), (torch.arange(77, dtype=torch.int16), None, 0)]
    asked = arguments(given_columns, edges=torch.zeros((2, 1), dtype=torch.int64))
    apart, table = [], asked["table"].clone()
    for c, (values, valid, offset) in enumerate(given_columns):
        apart += [values.view(torch.uint8), torch.empty(0, dtype=torch.uint8) if valid is None else packed_bits(valid, offset)]
        table[c, :4] = torch.tensor([0, 0, -1 if valid is None else offset // 8, offset % 8])
    for one, other in zip(kernel.op(**asked), kernel.op(**{**asked, "buffers": apart, "table": table}), strict=True):
        assert torch.equal(one, other)
    assert "buffers of their own" in kernel.refuses(**{**asked, "buffers": apart, "table": table})


def test_rows_do_not_depend_on_the_window_they_are_in():
    values, valid = torch.randn(3000), torch.rand(3000) < 0.7
    whole, _, _ = kernel.fused(**arguments([(values, valid, 0)], by_column=False))
    part, _, _ = kernel.fused(**arguments([(values[700:900], valid[700:900], 700)], by_column=False))
    assert torch.equal(whole[700:900], part)


def test_wrong_arguments_are_named():
    good = arguments([(torch.zeros(3, dtype=torch.uint64), None, 0)])
    with pytest.raises(ValueError, match=r"argument 'edges' has shape \(2, 2\)"):
        kernel.op(**{**good, "edges": torch.zeros((2, 2), dtype=torch.int64)})
    with pytest.raises(ValueError, match="argument 'width' is 0"):
        kernel.op(**{**good, "width": 0})
    with pytest.raises(ValueError, match="argument 'buffers' has 3"):
        kernel.op(**{**good, "buffers": good["buffers"] * 3})
    with pytest.raises(ValueError, match="argument 'kinds' holds 99"):
        kernel.op(**{**good, "kinds": [99]})


@pytest.mark.parametrize("place", [1, *(pytest.param(place, marks=pytest.mark.slow) for place in (0, 2))])
def test_rows_are_columns_turned_round_wherever_they_stand(place):
    """More columns than a tile has, in any order, of one type and of two, with more rows than a program takes."""
    random = torch.Generator().manual_seed(2)
    rows, kinds = 1100, [torch.float32] * 37 + [torch.int16] * 5
    given_columns = [
        (torch.randint(-9, 9, (rows,), generator=random).to(dtype), torch.rand(rows, generator=random) < 0.8 if c % 3 else None, c)
        for c, dtype in enumerate(kinds)
    ]
    asked = arguments(given_columns, indicators=True, edges=torch.zeros(len(kinds), 1, dtype=torch.int64))
    order = torch.randperm(2 * len(kinds), generator=random)
    asked["table"][:, 4], asked["table"][:, 5] = order.chunk(2)
    by_column = walk.poisoned(kernel.fused, **asked)
    with tuning.only(place):
        by_row = walk.poisoned(kernel.fused, **asked | {"by_column": False})
    assert torch.equal(by_row[0], by_column[0].t())
    assert all(torch.equal(one, other) for one, other in zip(by_row[1:], by_column[1:], strict=True))
    walk.proven(kernel, asked | {"by_column": False})
