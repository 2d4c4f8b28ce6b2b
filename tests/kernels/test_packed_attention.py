"""packed_attention against float64 and against a dense oracle; bits of a sequence whatever surrounds it; what is refused."""

import os
from itertools import pairwise

import pytest
import torch
import walk
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.kernels import packed_attention as module
from scoring.kernels.frame import tuning

DEVICE = "cuda" if os.environ.get("SCORING_TEST_GPU") else "cpu"
quiet = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy, below the interpreter, warns of NaN


def arguments(lengths, heads=1, width=32, dtype=torch.float32, window=-1, positions=0, alibi=False, seed=0):
    draw = torch.Generator().manual_seed(seed)
    offsets = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    angle = torch.rand(positions, width // 2, generator=draw) * 6
    made = {
        "qkv": torch.randn(sum(lengths), 3, heads, width, generator=draw).to(dtype), "offsets": offsets,
        "segments": module.segments_of(offsets, sum(lengths)), "scale": width**-0.5, "window": window,
        "cos": angle.cos() if positions else None, "sin": angle.sin() if positions else None,
        "slopes": torch.rand(heads, generator=draw) if alibi else None,
    }  # fmt: skip
    return {name: value.to(DEVICE) if isinstance(value, torch.Tensor) else value for name, value in made.items()}


def dense(qkv, offsets, segments, scale, window, cos, sin, slopes):
    """One query at a time, one head at a time; rotation as a product of complex numbers."""
    out = torch.zeros(qkv.shape[0], *qkv.shape[2:], dtype=torch.float64)
    bounds = offsets.tolist()
    for begin, end in pairwise(bounds):
        for head in range(qkv.shape[2]):
            q, k, v = qkv[begin:end, :, head].double().unbind(1)
            if cos is not None and end > begin:
                turn = torch.complex(cos.double(), sin.double())[: end - begin]
                half = q.shape[1] // 2
                q, k = (torch.view_as_real(torch.complex(x[:, :half], x[:, half:]) * turn) for x in (q, k))
                q, k = (x.transpose(1, 2).flatten(1) for x in (q, k))
            for i in range(end - begin):
                seen = [j for j in range(end - begin) if window < 0 or abs(i - j) <= window]
                bias = torch.tensor(
                    [0.0 if slopes is None else -float(slopes[head]) * abs(i - j) for j in seen], dtype=torch.float64
                )
                weight = ((k[seen] @ q[i]) * scale + bias).exp()
                out[begin + i, head] = (weight[:, None] * v[seen]).sum(0) / weight.sum()
    return out


flags = st.fixed_dictionaries({
    "window": st.one_of(st.just(-1), st.integers(0, 80)), "positions": st.sampled_from([0, 160]), "alibi": st.booleans(),
})  # fmt: skip


@settings(max_examples=15)
@given(st.lists(st.integers(0, 25), max_size=4), st.integers(1, 2), flags)
def test_reference_agrees_with_a_dense_oracle(lengths, heads, options):
    given = {name: walk.exact(value) for name, value in arguments([*lengths, *lengths[:1]], heads, 8, **options).items()}
    torch.testing.assert_close(module.reference(**given), dense(**given).to(DEVICE), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(("length", "window", "alibi"), [(700, 300, False), (600, 0, True), (4200, -1, True)])
def test_reference_takes_queries_of_long_sequences_in_parts(length, window, alibi):
    """A part must see the keys of its own window; compared where parts meet."""
    given = arguments([3, length], 1, 2, torch.float64, window, alibi=alibi)
    found = module.reference(**given)
    q, k, v = given["qkv"][3:, :, 0].unbind(1)
    for i in (0, 255, 256, 257, length - 206, length - 205, length - 1):
        far = (torch.arange(length, device=DEVICE) - i).abs()
        score = k @ q[i] * given["scale"] - (given["slopes"][0] * far if alibi else 0)
        weight = score.masked_fill(far > (window if window >= 0 else length), -torch.inf).softmax(0)
        torch.testing.assert_close(found[3 + i, 0], weight @ v)


@settings(max_examples=10)
@given(
    st.lists(st.one_of(st.integers(0, 5), st.integers(0, 150)), min_size=1, max_size=5),
    st.integers(1, 2), st.sampled_from([32, 32, 64, 128]), st.sampled_from(list(module.TOLERANCES)), flags, st.integers(0, 2),
)  # fmt: skip
def test_kernel_agrees_with_float64(lengths, heads, width, dtype, options, config):
    with tuning.only(config):
        walk.proven(module, arguments(lengths, heads, width, dtype, **options))


@pytest.mark.parametrize(
    ("lengths", "window"),
    [*(([63, 1, 64, 65], window) for window in (-1, 0, 1, 63, 64)), ([0, 0, 129, 0], -1), ([0, 0, 129, 0], 65), ([1] * 66, 1)],
)
def test_kernel_at_the_edges_of_tiles_blocks_and_windows(lengths, window):
    walk.proven(module, arguments(lengths, dtype=torch.bfloat16, window=window))


def parts(found, lengths):
    return torch.split(found, lengths)


@pytest.fixture
def products_by_row(monkeypatch):
    """BLAS, below the interpreter, adds a row's products in an order that depends on the row's place; a tensor core does not."""
    if DEVICE == "cpu":
        from triton.runtime import interpreter

        dot = interpreter.InterpreterBuilder.create_dot

        def rounded_once(self, a, b, d, *precision):
            if a.dtype.scalar != interpreter.tl.float32:
                return dot(self, a, b, d, *precision)
            product = a.data.astype("float64") @ b.data.astype("float64") + d.data
            return interpreter.TensorHandle(product.astype("float32"), d.dtype.scalar)

        monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", rounded_once)


@pytest.mark.parametrize("route", ["fused", "reference"])
@pytest.mark.parametrize(
    ("dtype", "options"),
    [(torch.float32, {}), (torch.float32, {"window": 20, "positions": 100, "alibi": True}), (torch.bfloat16, {"positions": 100})],
    ids=["plain", "all-flags", "bfloat16-rotary"],
)
def test_bits_of_a_sequence_do_not_depend_on_what_surrounds_it(products_by_row, route, dtype, options):
    compute, lengths = getattr(module, route), [70, 3, 91, 0, 20, 3]
    together = arguments(lengths, dtype=dtype, **options)
    alone = dict(zip(range(len(lengths)), parts(together["qkv"], lengths), strict=True))
    expected = parts(compute(**together), lengths)
    for order in ([5, 4, 3, 2, 1, 0], [1, 5, 0], [2]):
        packed = torch.cat([alone[place] for place in order])
        offsets = torch.tensor([0, *(lengths[place] for place in order)], device=DEVICE).cumsum(0).to(torch.int32)
        segments = module.segments_of(offsets, len(packed))
        found = compute(**{**together, "qkv": packed, "offsets": offsets, "segments": segments})
        for got, place in zip(parts(found, [lengths[place] for place in order]), order, strict=True):
            assert torch.equal(got, expected[place]), f"sequence {place} of {lengths[place]} tokens in {order}"


@quiet
@pytest.mark.parametrize("route", ["fused", "reference"])
@pytest.mark.parametrize(("bad", "window"), [(torch.nan, -1), (torch.nan, 4), (-torch.inf, 4)])
@pytest.mark.parametrize("part", [0, 1, 2])
def test_nan_and_infinity_stay_in_their_sequence(route, bad, part, window):
    compute, lengths = getattr(module, route), [20, 30, 40]
    clean = arguments(lengths, window=window)
    spoilt = {**clean, "qkv": clean["qkv"].clone()}
    spoilt["qkv"][25, part, 0, 7] = bad
    before, after = (parts(compute(**given), lengths) for given in (clean, spoilt))
    assert torch.equal(after[0], before[0])
    assert torch.equal(after[2], before[2])
    assert not after[1].isfinite().all()
    if part == 0:
        assert torch.equal(after[1][6:], before[1][6:]), "a query is nobody else's"


@quiet
@pytest.mark.parametrize("route", ["fused", "reference"])
@pytest.mark.parametrize("window", [-1, 4])
def test_a_position_beyond_the_tables_shows_as_nan_in_its_sequence_alone(route, window):
    lengths = [30, 31, 12]
    given = arguments(lengths, dtype=torch.bfloat16, window=window, positions=30)
    found = parts(getattr(module, route)(**given), lengths)
    for place in (0, 2):
        assert found[place].isfinite().all()
    lost = found[1].isnan().all(-1).all(-1)
    assert lost[26:].all()
    if window < 0 or route == "fused":  # masks of torch let a NaN through
        assert lost[:26].tolist() == [window < 0] * 26, "as far as the window of the token reaches"


@pytest.mark.parametrize("dtype", list(module.TOLERANCES), ids=str)
def test_huge_scores_choose_one_key_and_do_not_overflow(dtype):
    given = arguments([70], dtype=dtype)
    given["qkv"][:, :2] = 0
    given["qkv"][:, 0, :, 0] = 200
    given["qkv"][:, 1, :, 0] = -200  # scores of -40000 and 40000
    given["qkv"][66, 1, :, 0] = 200
    given["scale"] = 1.0
    found = walk.proven(module, given)[0]
    assert torch.equal(found, given["qkv"][66, 2].expand_as(found))


def test_equal_values_come_back_as_they_are():
    """Weights sum to one: nothing outside the sequence, no tail of a block, is counted."""
    given = arguments([5, 67, 1, 40], dtype=torch.float32, window=-1)
    given["qkv"][:, 2] = given["segments"][:, None, None].float() + 1
    found = module.fused(**given)
    torch.testing.assert_close(found, given["qkv"][:, 2], atol=0, rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"positions": 160}], ids=["plain", "rotary"])
def test_rows_may_lie_in_a_wider_tensor_and_nothing_beside_them_is_read(options):
    given = arguments([33, 40], 2, 32, torch.bfloat16, **options)
    wider = torch.full((75, 7 + 3 * 2 * 32 + 5), torch.nan, dtype=torch.bfloat16, device=DEVICE)
    wider[1:74, 7:199] = given["qkv"].flatten(1)
    view = wider[1:74, 7:199].view(73, 3, 2, 32)
    assert not view.is_contiguous()
    for compute in (module.fused, module.reference):
        assert torch.equal(compute(**{**given, "qkv": view}), compute(**given))


@pytest.mark.parametrize("options", [{}, {"positions": 300}], ids=["plain", "rotary"])
def test_offsets_beyond_two_to_the_31(options):
    """Of blocks within a sequence, and of its start. Virtual memory of 11 GB, of which little is touched."""
    given = arguments([200, 130], 1, 32, torch.bfloat16, **options)
    apart = module.FARTHEST_ROW - 16
    assert 192 * apart > 1 << 31
    room = torch.empty(329 * apart + 96, dtype=torch.bfloat16, device=DEVICE)
    view = room.as_strided((330, 3, 1, 32), (apart, 32, 32, 1))
    view.copy_(given["qkv"])
    assert module.refuses(**{**given, "qkv": view}) is None
    assert torch.equal(module.fused(**{**given, "qkv": view}), module.fused(**given))


@settings(max_examples=30)
@given(st.lists(st.integers(0, 6), max_size=8))
def test_segments_tell_the_sequence_of_each_token(lengths):
    offsets = torch.tensor([0, *lengths], dtype=torch.int32, device=DEVICE).cumsum(0).to(torch.int32)
    found = module.segments_of(offsets, sum(lengths))
    assert found.dtype == torch.int32
    assert found.tolist() == [place for place, length in enumerate(lengths) for _ in range(length)]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("offsets", [[0, 60, 30, 70], [9, 30, -9, 1 << 30]], ids=str)
def test_wrong_offsets_end_and_read_nothing_beyond_the_stream(offsets):
    """Numbers are wrong then; but a lane that hangs or dies of an address is worse. Rows around the stream are NaN."""
    given = arguments([20, 30, 20])
    room = torch.full((300, 3, 1, 32), torch.nan, device=DEVICE)
    room[100:170] = given["qkv"]
    offsets = torch.tensor(offsets, dtype=torch.int32, device=DEVICE)
    (found,) = walk.poisoned(module.fused, **{**given, "qkv": room[100:170], "offsets": offsets})
    assert found.isfinite().all()


def test_no_sequences_and_no_tokens():
    for lengths in ([], [0], [0, 0, 0]):
        assert module.fused(**arguments(lengths)).shape == (0, 1, 32)
        assert module.op(**arguments(lengths)).shape == (0, 1, 32)


def changed(**change):
    return {**arguments([5, 7], 2, positions=16, alibi=True), **change}


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"qkv": torch.zeros(12, 3, 2, 32, dtype=torch.int32)}, TypeError, "'qkv' is torch.int32"),
        ({"qkv": torch.zeros(12, 2, 2, 32)}, ValueError, "'qkv' has shape"),
        ({"qkv": torch.zeros(12, 3, 2, 0)}, ValueError, "'qkv' has shape"),
        ({"qkv": torch.zeros(12, 3, 32, 2).transpose(2, 3)}, ValueError, "'qkv' has strides"),
        ({"offsets": torch.zeros(3, dtype=torch.int64)}, TypeError, "'offsets' is torch.int64"),
        ({"offsets": torch.zeros(1, dtype=torch.int32)}, ValueError, "'offsets' has 1 entries for 12 tokens"),
        ({"segments": torch.zeros(11, dtype=torch.int32)}, ValueError, "'segments' has shape"),
        ({"scale": 0.0}, ValueError, "'scale' is 0.0"),
        ({"scale": float("nan")}, ValueError, "'scale' is nan"),
        ({"window": -2}, ValueError, "'window' is -2"),
        ({"cos": None}, ValueError, "'cos' is missing"),
        ({"sin": None}, ValueError, "'sin' is missing"),
        ({"cos": torch.zeros(16, 32), "sin": torch.zeros(16, 32)}, ValueError, "'cos' has shape"),
        ({"sin": torch.zeros(15, 16)}, ValueError, "'sin' has shape"),
        ({"slopes": torch.zeros(3)}, ValueError, "'slopes' has shape"),
        ({"slopes": torch.zeros(2, dtype=torch.float16)}, TypeError, "'slopes' is torch.float16"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_arguments_are_named(change, error, text):
    change = {name: value.to(DEVICE) if isinstance(value, torch.Tensor) else value for name, value in change.items()}
    with pytest.raises(error, match=f"packed_attention: argument {text}"):
        module.op(**changed(**change))


def test_what_the_kernel_refuses_is_computed_by_torch():
    for case, text in ((arguments([5], width=48), "48 columns"), (arguments([5], dtype=torch.float64), "float64")):
        assert text in module.refuses(**case)
        if DEVICE == "cpu":
            assert torch.equal(module.op(**case), module.reference(**case))
    many = torch.zeros(1, dtype=torch.bfloat16).expand(module.MOST_TOKENS + 1, 3, 1, 32)
    assert "tokens" in module.refuses(**{**arguments([5]), "qkv": many})
    apart = torch.empty(1, dtype=torch.bfloat16, device="meta").as_strided((2, 3, 1, 32), (module.FARTHEST_ROW, 32, 32, 1))
    assert "apart" in module.refuses(**{**arguments([5]), "qkv": apart})


@pytest.mark.skipif(DEVICE != "cpu", reason="about threads of a CPU")
@pytest.mark.parametrize("threads", [1, 2, 32, 64])
def test_neighbours_change_no_bit_on_any_number_of_threads(threads):
    """From 32 threads on torch reads keys of bfloat16 otherwise where more sequences are computed together."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for length in (33, 64, 65, 77, 90, 100, 127, 256):
            together = arguments([length] * 4, 12, 32, torch.bfloat16)
            alone = {**together, "qkv": together["qkv"][:length], "offsets": together["offsets"][:2]}
            alone["segments"] = together["segments"][:length]
            assert torch.equal(module.reference(**alone), module.reference(**together)[:length]), length
    finally:
        torch.set_num_threads(before)
