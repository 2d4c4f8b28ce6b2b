"""pool_normalize against float64 and against a plain oracle; NaN, empty sequences, whole batches of them; bits without a batch."""

import os
from itertools import pairwise

import pytest
import torch
import walk
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.kernels import pool_normalize as module
from scoring.kernels.frame import tuning

DEVICE = "cuda" if os.environ.get("SCORING_TEST_GPU") else "cpu"
quiet = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy, below the interpreter, warns of NaN
each_route = pytest.mark.parametrize("route", ["fused", "reference"])
each_pooling = pytest.mark.parametrize("pooling", ["mean", "max", "cls"])


def arguments(lengths, width=40, dtype=torch.float32, pooling="mean", norm=2, unit=True, out=torch.float32, seed=0):
    """`norm`: 0 for none, 1 for weight, 2 for weight and bias."""
    draw = torch.Generator().manual_seed(seed)
    x, weight, bias = (torch.randn(*shape, width, generator=draw).to(dtype) for shape in ((sum(lengths),), (), ()))
    made = {
        "x": x * 3 + 1, "offsets": torch.tensor([0, *lengths]).cumsum(0).to(torch.int32), "pooling": pooling,
        "weight": weight if norm else None, "bias": bias if norm == 2 else None, "epsilon": 1e-5, "unit": unit, "dtype": out,
    }  # fmt: skip
    return {name: value.to(DEVICE) if isinstance(value, torch.Tensor) else value for name, value in made.items()}


def plain(x, offsets, pooling, weight, bias, epsilon, unit, dtype):
    rows = []
    for begin, end in pairwise(offsets.tolist()):
        h = x[begin:end].double()
        if weight is not None and len(h):
            h = (h - h.mean(1, keepdim=True)) / (h.var(1, unbiased=False, keepdim=True) + epsilon).sqrt() * weight.double()
            h = h if bias is None else h + bias.double()
        if begin == end:
            rows.append(torch.zeros(x.shape[1], dtype=torch.float64, device=x.device))
        else:
            rows.append({"mean": h.sum(0) / len(h), "max": h.max(0)[0], "cls": h[0]}[pooling])
        if unit:
            rows[-1] = rows[-1] / max(float(rows[-1].square().sum().sqrt()), 1e-12)
    return torch.stack(rows).to(dtype)


options = st.fixed_dictionaries({
    "pooling": st.sampled_from(["mean", "max", "cls"]), "norm": st.integers(0, 2), "unit": st.booleans(),
})  # fmt: skip


@settings(max_examples=40)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(2, 50), options)
def test_reference_agrees_with_a_plain_oracle(lengths, width, chosen):
    made = {name: walk.exact(value) for name, value in arguments(lengths, width, **chosen).items()}
    torch.testing.assert_close(module.reference(**made), plain(**made), atol=1e-12, rtol=1e-9)


@settings(max_examples=30)
@given(
    st.lists(st.one_of(st.integers(0, 3), st.integers(0, 40)), min_size=1, max_size=6), st.sampled_from([2, 3, 64, 130, 513]),
    st.sampled_from(list(module.TOLERANCES)), st.sampled_from(list(module.TOLERANCES)), options, st.integers(0, 1),
)  # fmt: skip
def test_kernel_agrees_with_float64(lengths, width, dtype, out, chosen, config):
    with tuning.only(config):
        walk.proven(module, arguments(lengths, width, dtype, out=out, **chosen))


@each_route
@each_pooling
def test_one_column(route, pooling):
    """Its deviation from its own mean is nothing, so that the bias is left."""
    made = arguments([2, 1], 1, pooling=pooling, unit=False)
    found = getattr(module, route)(**made)
    torch.testing.assert_close(found, made["bias"].expand(2, 1))


@each_route
@each_pooling
@pytest.mark.parametrize("norm", [0, 2])
def test_bits_of_a_sequence_do_not_depend_on_its_batch(route, pooling, norm):
    compute, lengths = getattr(module, route), [5, 1, 0, 23, 9]
    together = arguments(lengths, dtype=torch.bfloat16, pooling=pooling, norm=norm)
    expected, alone = compute(**together), torch.split(together["x"], lengths)
    for order in ([4, 3, 2, 1, 0], [3], [0], [1, 3]):
        offsets = torch.tensor([0, *(lengths[place] for place in order)], device=DEVICE).cumsum(0).to(torch.int32)
        found = compute(**{**together, "x": torch.cat([alone[place] for place in order]), "offsets": offsets})
        assert torch.equal(found, expected[order])


@each_route
@each_pooling
@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize("lengths", [[0], [0, 0, 0], [2, 0]], ids=str)
def test_a_sequence_without_tokens_gives_zeros(route, pooling, unit, lengths):
    """Also where the bias is not zero, and where no token exists."""
    (found,) = walk.poisoned(getattr(module, route), **arguments(lengths, pooling=pooling, unit=unit))
    assert torch.equal(found[-1], torch.zeros_like(found[-1]))
    assert found.isfinite().all()


@each_route
def test_no_sequence(route):
    assert getattr(module, route)(**arguments([], width=40)).shape == (0, 40)


@quiet
@each_route
@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("place", [0, 7, 11])
def test_nan_spreads_to_its_column_or_token_and_no_further(route, pooling, place):
    """Maxima of hardware and of some libraries drop NaN, in a block or between blocks."""
    compute = getattr(module, route)
    made = arguments([4, 12, 4], pooling=pooling, norm=0, unit=False)
    clean = compute(**made)
    made["x"][4 + place, 6] = torch.nan
    lost = compute(**made).isnan()
    assert lost.sum() == 1
    assert lost[1, 6]
    assert torch.equal(compute(**made)[[0, 2]], clean[[0, 2]])
    for change in ({"unit": True}, {"weight": torch.ones(40, device=DEVICE)}):
        lost = compute(**{**made, **change}).isnan()
        assert lost.all(1).tolist() == [False, True, False], "with a norm, the whole vector"
        assert not lost[[0, 2]].any()


@quiet
@each_route
def test_cls_sees_the_first_token_only(route):
    made = arguments([4, 12, 4], pooling="cls", norm=2)
    clean = getattr(module, route)(**made)
    made["x"][[1, 2, 3, 5, 15, 19]] = torch.nan
    assert torch.equal(getattr(module, route)(**made), clean)


@quiet
@each_route
def test_infinities_and_negative_maxima(route):
    made = arguments([3, 3, 3], 4, pooling="max", norm=0, unit=False)
    made["x"][:] = -5.0
    made["x"][0:3, 0] = -torch.inf
    made["x"][4, 1] = torch.inf
    made["x"][7] = -4.0
    want = torch.tensor([[-torch.inf, -5, -5, -5], [-5, torch.inf, -5, -5], [-4.0] * 4], device=DEVICE)
    assert torch.equal(getattr(module, route)(**made), want), "padding must not win over what is negative"


@each_route
@pytest.mark.parametrize("size", [1e-30, 1e-13, 1e-6, 1e6, 1e18])
def test_unit_vectors_of_small_and_large_ones(route, size):
    """Below 1e-12 the norm is taken for 1e-12: small vectors stay small, and nothing is divided by zero."""
    made = arguments([2, 3], 8, norm=0)
    made["x"] = torch.nn.functional.normalize(made["x"][:1]).expand(5, 8).contiguous() * size
    norm = getattr(module, route)(**made).double().norm(dim=1)
    torch.testing.assert_close(norm, torch.full_like(norm, min(size / 1e-12, 1.0)), rtol=1e-5, atol=0)


@each_route
@pytest.mark.parametrize("epsilon", [1e-12, 1e-2])
def test_a_large_mean_does_not_cancel_the_variance(route, epsilon):
    made = {**arguments([3, 5], 64), "epsilon": epsilon}
    made["x"] = made["x"].round() / 8 + 1024
    truth = module.reference(**{name: walk.exact(value) for name, value in made.items()})
    torch.testing.assert_close(getattr(module, route)(**made).double(), truth, atol=1e-4, rtol=0)


def test_offsets_beyond_two_to_the_31():
    """Virtual memory of 4 GB, of which two rows are touched."""
    rows = (1 << 31) // 1024 + 3
    made = arguments([1, 1], 1024, torch.bfloat16, pooling="cls")
    room = torch.empty(rows, 1024, dtype=torch.bfloat16, device=DEVICE)
    room[0], room[rows - 1] = made["x"][0], made["x"][1]
    offsets = torch.tensor([0, rows - 1, rows], dtype=torch.int32, device=DEVICE)
    assert torch.equal(module.fused(**{**made, "x": room, "offsets": offsets}), module.fused(**made))


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"x": torch.zeros(12, 40, dtype=torch.int32)}, TypeError, "'x' is torch.int32"),
        ({"x": torch.zeros(12, 0)}, ValueError, "'x' has shape"),
        ({"x": torch.zeros(40, 12).t()}, ValueError, "'x' has strides"),
        ({"offsets": torch.zeros(3, dtype=torch.int64)}, TypeError, "'offsets' is torch.int64"),
        ({"offsets": torch.zeros(1, dtype=torch.int32)}, ValueError, "'offsets' has 1 entries for 12 tokens"),
        ({"pooling": "last"}, ValueError, "'pooling' is 'last'"),
        ({"weight": None}, ValueError, "'weight' is missing"),
        ({"weight": torch.zeros(39)}, ValueError, "'weight' has shape"),
        ({"bias": torch.zeros(40, dtype=torch.float16)}, TypeError, "'bias' is torch.float16"),
        ({"dtype": torch.int8}, ValueError, "'dtype' is torch.int8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_arguments_are_named(change, error, text):
    change = {name: value.to(DEVICE) if isinstance(value, torch.Tensor) else value for name, value in change.items()}
    with pytest.raises(error, match=f"pool_normalize: argument {text}"):
        module.op(**{**arguments([5, 7]), **change})


def test_what_the_kernel_refuses_is_computed_by_torch():
    for case, text in (
        (arguments([5], dtype=torch.float64), "x is torch.float64"),
        (arguments([5], out=torch.float64), "dtype is torch.float64"),
        (arguments([2], module.MAX_WIDTH + 1), "do not fit"),
    ):
        assert text in module.refuses(**case)
        if DEVICE == "cpu":
            assert torch.equal(module.op(**case), module.reference(**case))
