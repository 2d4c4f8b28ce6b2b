"""score_head against float64, against sums written out in Python, and against the counting of scoring.watch itself."""

import math
import os

import numpy as np
import pytest
import torch
import walk
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.kernels import score_head
from scoring.kernels.frame import operator
from scoring.watch.plan import Output
from scoring.watch.tally import _Scores

DEVICE = "cuda" if os.environ.get("SCORING_TEST_GPU") else "cpu"
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LARGEST = torch.finfo(torch.float32).max
ODD = (0.0, -0.0, 1e-45, -1e-45, 0.5, 1.5, 2.5, -0.5, LARGEST, -LARGEST, math.inf, -math.inf, math.nan)
NAMES = ("scores", "best", "places", "margin", "entropy", "counts", "sums", "extremes", "rows")
pytestmark = pytest.mark.filterwarnings("ignore:.*encountered:RuntimeWarning")  # NumPy, which interprets NaN and infinities


def arguments(logits, activation="none", top=0, confidence=False, edges=None, steps=0, slope=1.0, intercept=-0.0):
    """-0.0 is what changes no logit when added, not even -0.0."""
    width = logits.shape[1]
    return {
        "logits": logits.to(DEVICE), "slope": torch.full((width,), slope, device=DEVICE),
        "intercept": torch.full((width,), intercept, device=DEVICE), "activation": activation, "top": top,
        "confidence": confidence, "edges": None if edges is None else torch.tensor(edges).expand(width, -1).contiguous().to(DEVICE),
        "steps": [] if edges is None else [steps] * width if isinstance(steps, int) else steps,
    }  # fmt: skip


def computed(way, **given):
    return dict(zip(NAMES, walk.poisoned(getattr(score_head, way), **given), strict=True))


def assert_counted(found, edges, steps):
    """What was counted is what `scoring.watch` counts of the scores that were returned."""
    scores = found["scores"].cpu().numpy()
    whole = scores[np.isfinite(scores).all(1)]
    assert found["rows"].item() == len(whole)
    for column, (own, step) in enumerate(zip(edges.tolist(), steps, strict=True)):
        counter = _Scores(Output(tuple(own), step))
        counter.add(np.ascontiguousarray(whole[:, column]))
        want = {"min": math.inf, "max": -math.inf, **counter.plain()}
        assert found["counts"][column].tolist() == want["le"]
        assert found["sums"][column].item() == want["sum"]
        bits = np.array([want["min"], want["max"]], np.float32).view(np.int32)
        assert found["extremes"][column].cpu().numpy().view(np.int32).tolist() == bits.tolist()


@st.composite
def heads(draw):
    """Logits, slopes and intercepts have few bits, so that equal calibrated logits are equal in every precision."""
    activation, width = draw(st.sampled_from(["none", "sigmoid", "softmax"])), draw(st.sampled_from([1, 1, 2, 3, 5, 10, 17]))
    rows = draw(st.sampled_from([1, 2, 63, 64, 65, 130, 1023, 1024, 1025]) if width < 4 else st.integers(1, 130))
    random = torch.Generator().manual_seed(draw(st.integers(0, 1 << 30)))
    pad = draw(st.integers(0, 3))
    logits = torch.randint(-16, 17, (rows, width + pad), generator=random) / 8
    logits[:, width:] = math.nan  # neighbours that are no columns of this head
    slope, intercept = torch.randint(1, 9, (width,), generator=random) / 4, torch.randint(-4, 5, (width,), generator=random) / 4
    return {
        "logits": logits.to(draw(st.sampled_from(DTYPES))).to(DEVICE)[:, :width], "slope": slope.to(DEVICE),
        "intercept": intercept.to(DEVICE), "activation": activation, "top": draw(st.integers(0, width)),
        "confidence": (activation == "softmax" or (activation == "sigmoid" and width == 1)) and draw(st.booleans()),
        "edges": None, "steps": [],
    }  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(heads())
def test_kernel_agrees_with_float64(head):
    walk.proven(score_head, head)


@pytest.mark.parametrize("case", [c for c in score_head.cases() if c.size == "small"], ids=lambda case: case.name)
def test_cases_count_what_float64_counts(case):
    """`walk.proven` asks only that counts follow from the scores; here no score lies near an edge, and more can be asked."""
    given = case.arguments(DEVICE)
    found = computed("fused", **given)
    want = computed("reference", **{name: walk.exact(value) for name, value in given.items()})
    assert all(torch.equal(found[name], want[name]) for name in ("counts", "sums", "rows"))
    torch.testing.assert_close(found["extremes"].double(), want["extremes"], atol=2e-6, rtol=2e-6)


def test_counts_that_do_not_follow_from_the_scores_are_found(monkeypatch):
    right = score_head.fused

    def wrong(**given):
        outputs = list(right(**given))
        outputs[5] = outputs[5] + 1
        return tuple(outputs)

    monkeypatch.setattr(score_head, "fused", wrong)
    with pytest.raises(AssertionError, match="output 5 does not follow"):
        walk.proven(score_head, arguments(torch.tensor([[0.1]]), edges=[0.5]))


def slowly(head):
    """Row by row in Python, from the definitions."""
    for row in head["logits"].double().tolist():
        z = [s * x + i for s, x, i in zip(head["slope"].tolist(), row, head["intercept"].tolist(), strict=True)]
        if head["activation"] == "sigmoid":
            p = [1 / (1 + math.exp(-v)) for v in z]
        elif head["activation"] == "softmax":
            total = math.fsum(map(math.exp, z))
            p = [math.exp(v) / total for v in z]
        else:
            p = z
        order = sorted(range(len(p)), key=lambda c, p=p: (-p[c], c))
        chances = [*p, 1 - p[0]] if head["activation"] == "sigmoid" else [*p, 0.0] if len(p) == 1 else p
        first, second = sorted(chances, reverse=True)[:2] if len(chances) > 1 else (*chances, 0.0)
        entropy = -math.fsum(c * math.log(c) for c in chances if c > 0) if head["confidence"] else 0.0
        yield p, [p[c] for c in order[: head["top"]]], order[: head["top"]], first - second, entropy


@settings(max_examples=30, deadline=None)
@given(heads())
def test_reference_agrees_with_the_definitions(head):
    head = {**head, "logits": head["logits"][:20]}
    found = computed("reference", **{name: walk.exact(value) for name, value in head.items()})
    for row, (p, best, places, margin, entropy) in enumerate(slowly(head)):
        assert found["scores"][row].tolist() == pytest.approx(p, abs=1e-12)
        assert found["best"][row].tolist() == pytest.approx(best, abs=1e-12)
        gaps = torch.tensor(sorted(p), dtype=torch.float64).diff()
        if not ((gaps > 0) & (gaps < 1e-12)).any():  # of what differs in the last bit alone, either may come first
            assert found["places"][row].tolist() == places
        if head["confidence"]:
            assert found["margin"][row].item() == pytest.approx(margin, abs=1e-12)
            assert found["entropy"][row].item() == pytest.approx(entropy, abs=1e-12)


@st.composite
def counted_heads(draw):
    width, rows = draw(st.sampled_from([1, 1, 2, 3])), draw(st.integers(0, 40))
    number = st.one_of(st.sampled_from(ODD), st.floats(-4, 4, width=32), st.floats(width=32))
    plain = st.one_of(st.sampled_from([x for x in ODD if math.isfinite(x)]), st.floats(-4, 4, width=32))
    values = draw(st.lists(number if draw(st.booleans()) else plain, min_size=rows * width, max_size=rows * width))
    many = draw(st.integers(0, 7))
    edge = st.one_of(st.sampled_from([x for x in ODD if x == x]), st.floats(-4, 4, width=32))
    edges = [sorted(draw(st.lists(edge, min_size=many, max_size=many))) for _ in range(width)]
    steps = draw(st.lists(st.one_of(st.integers(-60, 60), st.integers(-240, 240)), min_size=width, max_size=width))
    activation = draw(st.sampled_from(["none", "none", "sigmoid", "softmax"]))
    logits = torch.tensor(values, dtype=torch.float32).view(rows, width)
    ends = torch.tensor(edges, dtype=torch.float32).view(width, many)
    return {**arguments(logits, activation), "edges": ends.to(DEVICE), "steps": steps}


@pytest.mark.parametrize("way", ["fused", "reference"])
@settings(max_examples=50, deadline=None)
@given(head=counted_heads())
def test_counts_equal_those_of_watch_to_the_bit(way, head):
    found = computed(way, **head)
    assert_counted(found, head["edges"], head["steps"])
    if head["activation"] == "none":
        assert torch.equal(found["scores"], head["logits"]) or head["logits"].isnan().any()


@pytest.mark.parametrize("way", ["fused", "reference"])
@pytest.mark.parametrize(
    ("rows", "width", "activation"), [(2500, 1, "sigmoid"), (4161, 13, "softmax"), (9, 70, "softmax"), (700, 2, "none")]
)
def test_counts_of_many_tiles_and_programs(way, rows, width, activation):
    """More programs than are merged at a time (13 columns), several columns in a thread, and rows that are not counted."""
    random = torch.Generator().manual_seed(3)
    logits = torch.randn(rows, width, generator=random)
    logits[1::5, width // 2] = math.nan
    head = arguments(logits, activation, edges=[0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8], steps=-20)
    found = computed(way, **head)
    assert found["rows"].item() == rows - len(range(1, rows, 5))
    assert_counted(found, head["edges"], head["steps"])


@pytest.mark.parametrize("width", [1, 16])
def test_a_bin_holds_all_that_a_program_may_count(monkeypatch, width):
    """Every score of a program in one bin: more tiles than its byte could hold make more programs."""
    monkeypatch.setattr(score_head, "PROGRAMS", 1)
    monkeypatch.setattr(score_head, "WIDE_PROGRAMS", 1)
    rows = 66 * 1024 // width + 5
    found = computed("fused", **arguments(torch.zeros(rows, width), edges=[-1.0, 0.0, 1.0]))
    assert found["counts"].tolist() == [[0, rows, rows]] * width
    assert found["rows"].item() == rows


def test_counts_depend_neither_on_the_order_nor_on_the_programs(monkeypatch):
    random = torch.Generator().manual_seed(4)
    logits = torch.randn(6000, 1, generator=random)
    want = computed("fused", **arguments(logits, "sigmoid", edges=[0.3, 0.6], steps=-30))
    monkeypatch.setattr(score_head, "PROGRAMS", 2)
    for order in (torch.arange(6000), torch.randperm(6000, generator=random)):
        found = computed("fused", **arguments(logits[order], "sigmoid", edges=[0.3, 0.6], steps=-30))
        assert all(torch.equal(found[name], want[name]) for name in NAMES[5:])
        assert torch.equal(found["scores"], want["scores"][order.to(DEVICE)])


def test_nothing_counted_is_said_so():
    for logits in (torch.empty(0, 2), torch.tensor([[math.nan, 1.0], [2.0, math.inf]])):
        for way in ("fused", "reference"):
            found = computed(way, **arguments(logits, edges=[0.0, math.inf]))
            assert found["counts"].tolist() == [[0, 0], [0, 0]]
            assert found["sums"].tolist() == [0, 0]
            assert found["extremes"].tolist() == [[math.inf, -math.inf]] * 2
            assert found["rows"].tolist() == [0]


@pytest.mark.parametrize("way", ["fused", "reference"])
def test_a_zero_is_counted_without_its_sign(way):
    found = computed(way, **arguments(torch.full((3, 2), -0.0), edges=[-0.0, 0.0]))
    assert torch.signbit(found["scores"]).all(), "the score itself keeps it"
    assert found["counts"].tolist() == [[3, 3], [3, 3]]
    assert not found["extremes"].any()
    assert not torch.signbit(found["extremes"]).any()


@pytest.mark.parametrize("way", ["fused", "reference"])
def test_best_are_distinct_and_ordered_as_stated(way):
    nan, inf = math.nan, math.inf
    logits = torch.tensor([
        [1.0, 3.0, 3.0, 2.0, 3.0], [-inf, -inf, 5.0, -inf, -inf], [nan, -inf, nan, 7.0, inf], [nan] * 5, [-inf] * 5,
        [-0.0, 0.0, -0.0, 0.0, -1.0], [-3.0, -2.0, -3e38, -1e-45, 1e-45],
    ])  # fmt: skip
    want = [[1, 2, 4, 3, 0], [2, 0, 1, 3, 4], [4, 3, 1, 0, 2], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [4, 3, 1, 0, 2]]
    for top in range(1, 6):
        found = computed(way, **arguments(logits, top=top))
        assert found["places"].tolist() == [row[:top] for row in want]
        taken = found["scores"].gather(1, found["places"].long())
        torch.testing.assert_close(found["best"], taken, rtol=0, atol=0, equal_nan=True)
        assert not torch.signbit(found["best"][5, :4]).any(), "a zero among the best is +0.0"


@pytest.mark.parametrize("way", ["fused", "reference"])
def test_padding_is_never_among_the_best(way):
    """Three columns in a tile of four: the fourth would win over negative scores, and over NaN."""
    logits = torch.tensor([[-5.0, -7.0, -6.0], [math.nan, -math.inf, math.nan]])
    assert computed(way, **arguments(logits, top=3))["places"].tolist() == [[0, 2, 1], [1, 0, 2]]
    sure = computed(way, **arguments(torch.tensor([[-80.0, -80.0, -90.0]]), "softmax", top=3, confidence=True))
    assert sure["places"].tolist() == [[0, 1, 2]]
    assert sure["margin"].item() == 0.0


@pytest.mark.parametrize("way", ["fused", "reference"])
def test_rows_without_probabilities_are_nan_as_in_torch(way):
    nan, inf = math.nan, math.inf
    logits = torch.tensor([[1.0, nan, 2.0], [1.0, inf, 2.0], [-inf] * 3, [inf, inf, 0.0], [1.0, -inf, 2.0], [3e38, -3e38, 0.0]])
    found = computed(way, **arguments(logits, "softmax", top=2, confidence=True))
    torch.testing.assert_close(found["scores"].cpu(), torch.softmax(logits, 1), equal_nan=True)
    odd = [True, True, True, True, False, False]
    for name in ("best", "margin", "entropy"):
        assert found[name].view(6, -1).isnan().any(1).tolist() == odd
    assert found["places"].tolist() == [[0, 1]] * 4 + [[2, 0], [0, 1]]
    assert found["entropy"][4].item() == pytest.approx(0.5822, abs=1e-4)
    assert found["entropy"][5].item() == 0.0


@pytest.mark.parametrize("way", ["fused", "reference"])
def test_sigmoid_at_its_ends(way):
    logits = torch.tensor([[math.inf], [-math.inf], [3e38], [-3e38], [0.0], [math.nan]])
    found = computed(way, **arguments(logits, "sigmoid", confidence=True))
    assert found["scores"][:5, 0].tolist() == [1.0, 0.0, 1.0, 0.0, 0.5]
    assert found["margin"][:5].tolist() == [1.0, 1.0, 1.0, 1.0, 0.0]
    assert found["entropy"][:5].tolist() == pytest.approx([0.0, 0.0, 0.0, 0.0, math.log(2)], abs=1e-7)
    assert all(found[name].flatten()[5].isnan() for name in ("scores", "margin", "entropy"))


@pytest.mark.parametrize("way", ["fused", "reference"])
def test_best_of_one_sigmoid_does_not_change_its_margin(way):
    found = computed(way, **arguments(torch.tensor([[0.3], [-2.0]]), "sigmoid", top=1, confidence=True))
    torch.testing.assert_close(found["margin"], (2 * found["scores"][:, 0] - 1).abs())
    assert found["places"].tolist() == [[0], [0]]


def test_confidence_of_a_single_class_is_full():
    for way in ("fused", "reference"):
        found = computed(way, **arguments(torch.tensor([[0.3], [-200.0]]), "softmax", confidence=True))
        assert found["margin"].tolist() == [1.0, 1.0]
        assert found["entropy"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("width", "activation"), [(1, "sigmoid"), (10, "softmax"), (3, "none")])
def test_bits_of_a_row_do_not_depend_on_its_batch(width, activation):
    """Neither on the rows beside it, nor on whether its tile is full, nor on what lies between rows."""
    random = torch.Generator().manual_seed(5)
    count = 1300 if width == 1 else 300  # a full tile and another
    spread = torch.full((count, width + 3), math.nan)
    spread[:, :width] = torch.randn(count, width, generator=random) * 3
    more = {"activation": activation, "top": width, "confidence": activation != "none"}
    want = computed("fused", **arguments(spread[:, :width].contiguous(), **more))
    strided = {**arguments(spread, **more), "logits": spread.to(DEVICE)[:, :width], **{
        name: value[:width] for name, value in arguments(spread).items() if name in ("slope", "intercept")
    }}  # fmt: skip
    for rows in (slice(0, count), slice(7, 8), slice(200, 220)):
        found = computed("fused", **{**strided, "logits": strided["logits"][rows]})
        for name in NAMES[:5]:
            whole = want[name][rows] if len(want[name]) else want[name]
            assert torch.equal(found[name], whole), name


def test_offsets_beyond_two_billion():
    """Rows 2**30 elements apart, in memory that is reserved but never touched."""
    apart = 1 << 30
    far = torch.empty(3 * apart + 2, dtype=torch.float16).as_strided((4, 2), (apart, 1))
    far.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]]))
    assert computed("fused", **arguments(far))["scores"].tolist() == far.tolist()
    single = far[:, 1:]
    assert computed("fused", **arguments(single))["scores"].tolist() == single.tolist()


def test_steps_that_were_seen_in_inference_mode_serve_outside():
    head = arguments(torch.tensor([[0.25]], requires_grad=False), edges=[0.5], steps=-7)
    with torch.inference_mode():
        inside = score_head.op(**head)
    assert [out.tolist() for out in score_head.op(**head)] == [out.tolist() for out in inside]
    assert inside[6].item() == 32


@pytest.mark.parametrize(("width", "top", "edges", "word"), [(1025, 0, 0, "1025"), (2, 0, 8, "8 edges"), (100, 65, 0, "65 passes")]
)  # fmt: skip
def test_what_the_kernel_refuses_torch_computes(width, top, edges, word):
    logits = torch.randn(5, width, generator=torch.Generator().manual_seed(6))
    head = arguments(logits, top=top, edges=[edge / 4 - 1 for edge in range(edges)], steps=-9)
    assert word in score_head.refuses(**head)
    operator.force("triton")
    try:
        with pytest.raises(NotImplementedError, match="score_head: .*" + word):
            score_head.op(**head)
    finally:
        operator.force(None)
    found = computed("reference", **head)
    assert_counted(found, head["edges"], head["steps"])
    assert torch.equal(found["best"], logits.to(DEVICE).sort(1, descending=True).values[:, :top])
    fitting = {"width": 1024, "top": 64, "edges": 7}
    fits = arguments(torch.zeros(1, fitting["width"]), top=fitting["top"], edges=[0.0] * fitting["edges"])
    assert score_head.refuses(**fits) is None


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("logits", torch.zeros(4, 3, dtype=torch.float64)), ("logits", torch.zeros(3)), ("logits", torch.zeros(4, 0)),
        ("logits", torch.zeros(3, 4).T), ("slope", torch.ones(2)), ("slope", torch.ones(3, dtype=torch.float64)),
        ("intercept", torch.ones(3, 1)), ("activation", "tanh"), ("top", 4), ("top", -1), ("edges", torch.zeros(2, 7)),
        ("edges", torch.zeros(7, 3).T), ("steps", [0, 0]), ("steps", [0, 0, 901]), ("edges", None),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(name, wrong):
    head = {**arguments(torch.zeros(4, 3), edges=[0.5]), name: wrong}
    told = "steps" if wrong is None else name
    with pytest.raises((TypeError, ValueError), match=f"score_head: argument '{told}'"):
        score_head.op(**head)


@pytest.mark.parametrize(("activation", "width"), [("none", 1), ("sigmoid", 2)])
def test_confidence_is_refused_where_it_means_nothing(activation, width):
    with pytest.raises(ValueError, match="score_head: argument 'confidence'"):
        score_head.op(**arguments(torch.zeros(4, width), activation, confidence=True))


def test_cases_keep_their_scores_off_the_edges():
    """Else float64 and float32 could count differently, and a case would fail by chance."""
    for case in score_head.cases():
        head = case.arguments() if case.size == "small" else {"edges": None}
        if head["edges"] is not None and len(head["logits"]):
            scores = score_head.reference(**{name: walk.exact(value) for name, value in head.items()})[0]
            steps = scores / 2.0 ** head["steps"][0]
            assert (steps - steps.floor() - 0.5).abs().min() * 2.0 ** head["steps"][0] > 1e-5
            for edge in head["edges"].T.double():
                assert (scores - edge).abs().min() > 1e-5
