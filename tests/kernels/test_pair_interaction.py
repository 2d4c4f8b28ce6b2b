"""Dot products of all pairs: held against float64, and the reference against the network that it stands for."""

from itertools import combinations

import pytest
import torch
import walk
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.kernels import pair_interaction as kernel
from scoring.kernels.frame import operator
from scoring.models.net import Architecture, Net

numpy_may_warn = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter computes with it
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def drawn(rows, count, numbers, keep_first=True, dtype=torch.float32, seed=0, room=0, more=0):
    """`room`: columns behind each row that are not its own, full of NaN. `more`: columns of padding beyond the multiple of 8."""
    draw = torch.Generator().manual_seed(seed)
    wide = torch.full((rows, count * numbers + room), float("nan"), dtype=dtype)
    wide[:, : count * numbers] = torch.randn(rows, count * numbers, generator=draw)
    vectors = wide.as_strided((rows, count, numbers), (count * numbers + room, numbers, 1))
    used = count * (count - 1) // 2 + keep_first * numbers
    return {"vectors": vectors, "keep_first": keep_first, "width": -(-used // 8) * 8 + more}


shapes = st.fixed_dictionaries(
    {
        "rows": st.integers(0, 20), "count": st.integers(1, 32), "numbers": st.integers(1, 128), "keep_first": st.booleans(),
        "dtype": st.sampled_from(DTYPES), "seed": st.integers(0, 999), "room": st.sampled_from((0, 1, 8)),
        "more": st.sampled_from((0, 8, 72)),
    }
)  # fmt: skip


@settings(max_examples=40)
@given(shapes)
def test_kernel_agrees_with_float64(shape):
    walk.proven(kernel, drawn(**shape))


@settings(max_examples=15)
@given(shapes)
def test_reference_agrees_with_loops_over_pairs(shape):
    given = drawn(**{**shape, "rows": min(shape["rows"], 4), "count": min(shape["count"], 9)})
    given["vectors"] = given["vectors"].double()
    rows = []
    for row in given["vectors"].tolist():
        dots = [sum(a * b for a, b in zip(one, two, strict=True)) for one, two in combinations(row, 2)]
        found = (row[0] if given["keep_first"] else []) + dots
        rows.append(found + [0.0] * (given["width"] - len(found)))
    want = torch.tensor(rows, dtype=torch.float64).reshape(len(rows), given["width"])
    torch.testing.assert_close(kernel.reference(**given), want, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("numeric", [True, False])
def test_reference_is_what_the_network_means(numeric):
    net = Net(3 * numeric, [(7, 16)] * 5, Architecture("dlrm", (4,), bottom=(8,)), 1)
    dense, vectors = torch.randn(6, 3), [torch.randn(6, 16) for _ in range(5)]
    with torch.inference_mode():
        want = net._interact(dense, vectors)
        stacked = torch.stack([net.bottom(dense), *vectors] if numeric else vectors, 1)
        found = kernel.op(stacked, numeric, 40)
    torch.testing.assert_close(found[:, : want.shape[1]], want)
    assert not found[:, want.shape[1] :].any()


def test_more_rows_than_a_program_takes():
    walk.proven(kernel, drawn(37, 3, 5))
    walk.proven(kernel, drawn(11, 17, 33))


@numpy_may_warn
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinities_stay_with_their_pairs(value):
    given = drawn(9, 5, 12, keep_first=False, dtype=torch.bfloat16)
    given["vectors"][4, 2, 3] = value
    (x,) = walk.proven(kernel, given)
    touched = torch.tensor([2 in pair for pair in combinations(range(5), 2)])
    assert torch.equal(~x[4, :10].isfinite(), touched)
    assert x[torch.arange(9) != 4].isfinite().all()


@numpy_may_warn
def test_half_precision_is_summed_in_float32():
    """Halfway through, the sum is beyond what float16 holds; a sum that stays there is infinite."""
    vectors = torch.full((1, 3, 64), 200.0, dtype=torch.float16)
    vectors[0, 1, 32:] = -200
    (x,) = walk.poisoned(kernel.fused, vectors=vectors, keep_first=False, width=8)
    assert x[0].tolist() == [0.0, float("inf"), 0.0, 0, 0, 0, 0, 0]


@numpy_may_warn
def test_first_vector_is_a_copy_to_the_bit():
    given = drawn(5, 4, 24, dtype=torch.float16)
    given["vectors"][:, 0, :3] = torch.tensor([-0.0, 1e-7, float("-inf")])
    (x,) = walk.proven(kernel, given)
    assert torch.equal(x[:, :24].contiguous().view(torch.int16), given["vectors"][:, 0].contiguous().view(torch.int16))


def test_rows_further_apart_than_32_bits_can_tell():
    """Memory that nobody touches costs nothing."""
    far = 2**31 // 8 + 8
    vectors = torch.empty(far * 9, dtype=torch.float16).as_strided((9, 3, 8), (far, 8, 1))
    vectors[:] = torch.arange(9.0)[:, None, None]
    x = kernel.fused(vectors, True, 16)
    assert x[:, 0].tolist() == list(range(9))
    assert x[:, 8].tolist() == [8.0 * n * n for n in range(9)]


@settings(max_examples=10)
@given(shapes, st.integers(1, 19))
def test_bits_of_a_row_do_not_depend_on_its_batch(shape, cut):
    given = drawn(**{**shape, "rows": 20})
    for compute in (kernel.fused, kernel.reference):
        (whole,) = walk.poisoned(compute, **given)
        (part,) = walk.poisoned(compute, **{**given, "vectors": given["vectors"][cut:]})
        assert torch.equal(part.view(torch.uint8), whole[cut:].view(torch.uint8))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vectors", torch.zeros(2, 8)), ("vectors", torch.zeros(2, 0, 8)), ("vectors", torch.zeros(2, 3, 0)),
        ("vectors", torch.zeros(2, 3, 8, dtype=torch.int32)), ("vectors", torch.zeros(2, 6, 8)[:, ::2]),
        ("vectors", torch.zeros(2, 3, 16)[:, :, ::2]), ("vectors", torch.zeros(2, 3, 12)[:, :, :8]), ("width", 8), ("width", 17),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be_are_named(name, value):
    with pytest.raises((TypeError, ValueError), match=rf"pair_interaction: argument '{name}'"):
        kernel.op(**{**drawn(2, 3, 8), name: value})


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (drawn(2, 33, 4), "33 vectors of 4"),
        (drawn(2, 2, 129), "2 vectors of 129"),
        (drawn(2, 3, 8, more=1040), "padding"),
        ({**drawn(2, 3, 8), "vectors": torch.zeros(2, 3, 8, dtype=torch.float64)}, "float64"),
    ],
)
def test_what_the_kernel_refuses_torch_computes(given, reason):
    operator.force("triton")
    try:
        with pytest.raises(NotImplementedError, match=reason):
            kernel.op(**given)
    finally:
        operator.force(None)
    assert kernel.op(**given).shape == (2, given["width"])
