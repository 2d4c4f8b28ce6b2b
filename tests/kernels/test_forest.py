"""forest against rows that walk their trees one by one in Python, in float64 and written as libraries say it."""

import math
import os
import struct
from dataclasses import replace

import pytest
import torch
import walk
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_every_kernel import same
from triton.runtime import interpreter

from scoring.kernels import forest
from scoring.kernels.forest_parts import drawn
from scoring.kernels.forest_parts.trees import MAX_PERFECT, Ranking, Trees, directed, pack

EDGES = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-45, -1e-45, 3.4e38, 1.0, 1.0000001, -0.5, 31.0, 32.0, 69.5, 3e9, 1e20]
EDGES = struct.unpack(f"{len(EDGES)}f", struct.pack(f"{len(EDGES)}f", *EDGES))
float32s = st.sampled_from(EDGES) | st.floats(width=32)
FEATURES = 5
GROUPED = {3, 4}  # features that may be categorical


def near(value):
    """Values of float64 at and beside a float32: where rounding a threshold the wrong way would show."""
    return st.sampled_from([value, math.nextafter(value, math.inf), math.nextafter(value, -math.inf)])


thresholds = st.sampled_from(EDGES[1:]).flatmap(near) | st.floats(allow_nan=False)
wholes = st.integers(0, 100)
splits = st.fixed_dictionaries({"feature": st.integers(0, 2), "threshold": thresholds, "default_left": st.booleans()})
grouped = st.fixed_dictionaries(
    {"feature": st.sampled_from(sorted(GROUPED)), "set": st.sets(wholes, max_size=6), "default_left": st.booleans()}
)


@st.composite
def nested(draw, depth, categorical, width=1):
    """A tree of dictionaries, of at most `depth` levels, often with a long spine."""
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return {"leaf": draw(st.lists(st.integers(-(10**6), 10**6).map(float), min_size=width, max_size=width))}
    deep, shallow = depth - 1, min(depth - 1, draw(st.integers(0, 2)))
    sides = (deep, shallow) if draw(st.booleans()) else (shallow, deep)
    node = draw(splits | grouped if categorical else splits)
    left, right = (draw(nested(side, categorical, width)) for side in sides)
    return {**node, "left": left, "right": right}


@st.composite
def spine(draw, depth):
    """The deepest tree there is of its number of leaves."""
    tree = {"leaf": [float(depth + 1)]}
    for level in range(depth):
        sides = [{"leaf": [float(level)]}, tree]
        tree = {**draw(splits), **dict(zip(("left", "right"), sides if draw(st.booleans()) else sides[::-1], strict=True))}
    return tree


def flattened(roots, less_equal, base, output=None, leaf=torch.float32):
    """Trees of nested dictionaries."""
    nodes, leaves = [], []

    def place(tree):
        if "leaf" in tree:
            leaves.append(tree["leaf"])
            return -len(leaves)
        at = len(nodes)
        nodes.append(None)
        nodes[at] = (tree, place(tree["left"]), place(tree["right"]))
        return at

    starts = [place(tree) for tree in roots]
    told = [node for node, _, _ in nodes]
    return Trees(
        torch.tensor([node["feature"] for node in told], dtype=torch.int32),
        torch.tensor([node.get("threshold", 0.0) for node in told], dtype=torch.float64),
        torch.tensor([left for _, left, _ in nodes], dtype=torch.int32),
        torch.tensor([right for _, _, right in nodes], dtype=torch.int32),
        torch.tensor([node["default_left"] for node in told], dtype=torch.bool),
        torch.tensor(starts, dtype=torch.int32),
        torch.tensor(leaves or [[]], dtype=leaf).reshape(len(leaves), len(leaves[0]) if leaves else 1),
        torch.tensor(base, dtype=torch.float64),
        less_equal,
        None if output is None else torch.tensor(output),
        {place: sorted(node["set"]) for place, node in enumerate(told) if "set" in node},
    )


def oracle(roots, less_equal, base, output, row):
    """One row by hand: libraries' own words, Python's floats."""
    sums = list(base)
    for number, tree in enumerate(roots):
        while "leaf" not in tree:
            value = row[tree["feature"]]
            if math.isnan(value):
                left = tree["default_left"]
            elif "set" in tree:
                left = not math.isinf(value) and int(value) in tree["set"]
            else:
                left = value <= tree["threshold"] if less_equal else value < tree["threshold"]
            tree = tree["left" if left else "right"]
        for place, value in enumerate(tree["leaf"]):
            sums[(output[number] if output else 0) + place] += value
    return sums


def agrees(roots, rows, less_equal, base, output=None, ranked=None, perfect=None, dtype=torch.float64):
    """Kernel and reference give what the oracle says, to the bit; returns what the kernel gave."""
    trees = flattened(roots, less_equal, base, output)
    columns = torch.tensor(rows, dtype=torch.float32).reshape(len(rows), FEATURES).T.contiguous()
    ranking = None
    if ranked is not None:
        ranking = replace(Ranking.of(trees, FEATURES), dtype=ranked)
        columns = ranking.ranks(columns)
    arguments = {"columns": columns, **pack(trees, ranking, perfect).arguments(), "dtype": dtype}
    want = torch.tensor([oracle(roots, less_equal, base, output, row) for row in rows], dtype=torch.float64).reshape(-1, len(base))
    (found,) = walk.proven(forest, arguments)
    assert same(found, want.to(dtype))
    assert same(forest.reference(**arguments), want.to(dtype))
    return found


rows_of = st.lists(st.lists(float32s, min_size=FEATURES, max_size=FEATURES), max_size=6)
numbers = st.floats(-1e3, 1e3)


@settings(max_examples=20)
@given(st.data(), rows_of, st.booleans(), st.sampled_from([None, torch.int16, torch.int32]), st.booleans())
def test_rows_take_the_branches_of_a_walk_by_hand(data, rows, less_equal, ranked, perfect):
    """Thresholds lie beside floats of 32 bits; classes take turns and one of them may have no tree."""
    depth = data.draw(st.integers(0, 4), label="depth")
    roots = data.draw(st.lists(nested(depth, not perfect), min_size=1, max_size=4), label="trees")
    classes = data.draw(st.integers(1, 3), label="classes")
    output = data.draw(st.lists(st.integers(0, classes - 1), min_size=len(roots), max_size=len(roots)), label="output")
    base = data.draw(st.lists(numbers, min_size=classes, max_size=classes), label="base")
    agrees(roots, rows, less_equal, base, output, ranked, perfect)


@settings(max_examples=5)
@given(st.integers(9, 16).flatmap(spine), rows_of, st.sampled_from([None, torch.int16]))
def test_degenerate_trees_are_walked_to_their_end(tree, rows, ranked):
    agrees([tree], rows, True, [0.0], ranked=ranked)


@settings(max_examples=8)
@given(st.data(), st.sampled_from([2, 5, 9, 17]), st.booleans())
def test_leaves_of_several_values_fill_as_many_outputs(data, width, perfect):
    roots = data.draw(st.lists(nested(3, not perfect, width), min_size=1, max_size=3))
    rows = data.draw(rows_of)
    agrees(roots, rows, True, [0.5 * place for place in range(width)], perfect=perfect)


@settings(max_examples=20)
@given(st.data(), st.sampled_from([None, torch.int16, torch.int32]))
def test_categories_of_any_value_go_where_the_set_says(data, ranked):
    """Truncated, and right when negative, unseen, beyond the last word, infinite; as the default says when missing."""
    odd = st.sampled_from([*EDGES, -1.0, -0.99, 100.5, 1e9, 2.0**30, 2.0**31, 2.0**32, -3e9])
    value = odd | wholes.map(float)
    tree = {**data.draw(grouped), "left": {"leaf": [1.0]}, "right": {"leaf": [2.0]}}
    tree["set"] |= set(data.draw(st.lists(st.sampled_from([0, 31, 32, 63, 64]), max_size=2)))
    rows = data.draw(st.lists(st.lists(value, min_size=FEATURES, max_size=FEATURES), min_size=1, max_size=20))
    agrees([tree], rows, False, [0.0], ranked=ranked)


def test_what_is_below_everything_goes_right_and_missing_as_told():
    for default in (True, False):
        split = {"feature": 0, "threshold": -math.inf, "default_left": default, "left": {"leaf": [1.0]}, "right": {"leaf": [2.0]}}
        for perfect in (True, False):
            agrees([split], [[value] * FEATURES for value in EDGES], False, [0.0], perfect=perfect)


@pytest.mark.parametrize("ranked", [None, torch.int16, torch.int32])
def test_high_categories_keep_apart(ranked):
    tree = {"feature": 3, "set": {90, 32000}, "default_left": False, "left": {"leaf": [1.0]}, "right": {"leaf": [2.0]}}
    agrees(
        [tree], [[value] * FEATURES for value in (89.0, 90.0, 91.0, 31999.0, 32000.0, 32767.0, 40000.0)], True, [0.0], ranked=ranked
    )


def test_integers_are_categories_as_they_are():
    """Not by ranks, which hold back what is below -1; before the second set lie the words of one that has every category."""
    sides = {"left": {"leaf": [1.0]}, "right": {"leaf": [2.0]}, "default_left": True, "feature": 0}
    trees = flattened([{**sides, "set": set(range(64))}, {**sides, "set": {0, 33}}], True, [0.0])
    columns = torch.tensor([[*range(-100, 70), -(1 << 31), (1 << 31) - 1]], dtype=torch.int32)
    (found,) = walk.proven(forest, {"columns": columns, **pack(trees, Ranking.of(trees, 1)).arguments(), "dtype": torch.float64})
    want = [(1 if 0 <= x < 64 or x == -(1 << 31) else 2) + (1 if x in (0, 33, -(1 << 31)) else 2) for x in columns[0].tolist()]
    assert found.flatten().tolist() == want


@settings(max_examples=300)
@given(float32s, thresholds, st.booleans())
@example(-math.inf, -math.inf, False)
@example(math.inf, math.inf, False)
@example(3.4028234663852886e38, 1e39, True)
@example(-0.0, 0.0, False)
@example(0.0, 1e-320, False)
def test_directed_thresholds_compare_in_float32_as_in_float64(value, threshold, less_equal):
    (narrow,) = struct.unpack("f", struct.pack("f", value))
    found = directed(torch.tensor([threshold], dtype=torch.float64), less_equal)
    assert found.dtype == torch.float32
    assert bool(torch.tensor([narrow], dtype=torch.float32) <= found) == (narrow <= threshold if less_equal else narrow < threshold)


@settings(max_examples=100)
@given(st.lists(st.floats(), max_size=30), st.lists(thresholds, min_size=1, max_size=8), st.booleans())
def test_ranks_keep_order_and_branches_of_float64(values, limits, less_equal):
    """Here values are of 64 bits, which a float32 could not tell apart."""
    values = values + limits
    roots = [
        {"feature": 0, "threshold": t, "default_left": True, "left": {"leaf": [0.0]}, "right": {"leaf": [1.0]}} for t in limits
    ]
    trees = flattened(roots, less_equal, [0.0])
    ranking = Ranking.of(trees, 1)
    ranks = ranking.ranks(torch.tensor([values], dtype=torch.float64))[0].tolist()
    assert ranking.dtype == torch.int16
    for limit, place in zip(limits, ranking.thresholds(trees).tolist(), strict=True):
        for value, rank in zip(values, ranks, strict=True):
            missing = rank == torch.iinfo(torch.int16).min
            assert missing == math.isnan(value)
            assert missing or (rank <= place) == (value <= limit if less_equal else value < limit)
    known = sorted((value, rank) for value, rank in zip(values, ranks, strict=True) if not math.isnan(value))
    assert [rank for _, rank in known] == sorted(rank for _, rank in known)


def drawn_case(rows, integers=None, **kind):
    draw = torch.Generator().manual_seed(rows)
    trees = drawn.trees(draw, features=7, **kind)
    packed, columns = drawn.packed(trees, drawn.columns(draw, 7, rows, kind.get("categorical", False)), integers)
    return {"columns": columns, **packed.arguments(), "dtype": torch.float64}


@pytest.mark.parametrize("rows", [1, 31, 64, 65, 129])
def test_each_row_has_a_leaf_of_its_own(rows):
    """Leaves are told apart by powers of two, so that a wrong leaf cannot give the right sum; both forms agree to the bit."""
    trees = drawn.trees(torch.Generator().manual_seed(rows), 3, 4, 7)
    assert len(trees.leaves) <= 52, "their sums must be exact"
    trees = replace(trees, leaves=2.0 ** torch.arange(len(trees.leaves), dtype=torch.float64)[:, None], base=torch.zeros(1))
    columns = drawn.columns(torch.Generator().manual_seed(rows), 7, rows)
    forms = [
        walk.proven(forest, {"columns": columns, **pack(trees, perfect=perfect).arguments(), "dtype": torch.float64})[0]
        for perfect in (True, False)
    ]
    assert same(*forms)


def test_sums_of_many_trees_are_added_one_after_the_other():
    """60 trees whose sums depend on their order in float64."""
    arguments = drawn_case(20, count=60, depth=1, outputs=2, leaf=torch.float64)
    arguments["leaves"] = arguments["leaves"] * 10.0 ** torch.arange(len(arguments["leaves"])).remainder(17)[:, None]
    (found,) = walk.proven(forest, arguments)
    assert same(found, forest.reference(**arguments))


def test_reference_does_not_depend_on_how_it_cuts_its_work(monkeypatch):
    for case in ({"count": 9, "depth": 3, "outputs": 2}, {"count": 9, "depth": 5, "categorical": True}):
        arguments = drawn_case(50, **case)
        whole = forest.reference(**arguments)
        monkeypatch.setattr(forest, "_CPU_ROWS", 16)
        monkeypatch.setattr(forest, "_CPU_PLACES", 40)
        assert same(forest.reference(**arguments), whole)
        monkeypatch.undo()


@pytest.mark.parametrize(
    "kind", [{"depth": 3}, {"depth": 10, "bushy": 0.7}, {"depth": 3, "outputs": 3, "vectors": True, "leaf": torch.float64}]
)
def test_bits_of_a_row_do_not_depend_on_its_batch(kind):
    arguments = drawn_case(70, count=3, **kind)
    (whole,), columns = walk.proven(forest, arguments), arguments["columns"]
    order = torch.randperm(70, generator=torch.Generator().manual_seed(1))
    assert same(forest.fused(**{**arguments, "columns": columns[:, order].contiguous()}), whole[order])
    for cut in (slice(0, 1), slice(69, 70), slice(5, 40)):
        assert same(forest.fused(**{**arguments, "columns": columns[:, cut]}), whole[cut]), "columns of a longer batch, in place"


@pytest.mark.parametrize("integers", [None, torch.int16, torch.int32])
def test_columns_may_be_apart_and_padded_with_anything(integers):
    arguments = drawn_case(33, count=3, depth=3, integers=integers)
    columns = arguments["columns"]
    room = torch.full((7, 40), math.nan) if integers is None else torch.full((7, 40), torch.iinfo(integers).max, dtype=integers)
    room[:, 3:36] = columns
    assert same(forest.fused(**{**arguments, "columns": room[:, 3:36]}), forest.fused(**arguments))
    assert same(forest.op(**{**arguments, "columns": room[:, 3:36]}), forest.reference(**arguments))


@pytest.mark.parametrize("kind", [{"depth": 3}, {"depth": 4, "categorical": True, "bushy": 0.8}])
def test_columns_beyond_two_billion_elements_are_found(kind):
    """Pages that nobody touches cost nothing."""
    arguments = drawn_case(5, count=3, integers=torch.int16, **kind)
    far = torch.empty((7, (1 << 29) + 8), dtype=torch.int16)[:, 8:13]
    assert far.stride(0) * 6 > 1 << 31
    far.copy_(arguments["columns"])
    assert same(walk.proven(forest, {**arguments, "columns": far}), walk.proven(forest, arguments))


@pytest.mark.skipif(bool(os.environ.get("SCORING_TEST_GPU")), reason="looks into the interpreter")
@pytest.mark.parametrize("kind", [{"depth": 3}, {"depth": 5, "categorical": True}, {"depth": 3, "outputs": 11, "vectors": True}])
@pytest.mark.parametrize("rows", [1, 65])
def test_nothing_is_read_beside_the_arguments(kind, rows, monkeypatch):
    """Rows that fill a program up would read what lies behind the last column: of no effect here, a fault on a GPU."""
    arguments = drawn_case(rows, count=2, **kind)
    held = [given for given in arguments.values() if isinstance(given, torch.Tensor)]
    kept = [(given.data_ptr(), given.data_ptr() + given.numel() * given.element_size()) for given in held]
    builder, seen = interpreter.InterpreterBuilder, []
    load = builder.create_masked_load

    def watched(self, pointers, mask, *rest):
        seen.extend(torch.from_numpy(pointers.data[mask.data].astype("int64")).unique().tolist())
        return load(self, pointers, mask, *rest)

    monkeypatch.setattr(builder, "create_masked_load", watched)
    forest.fused(**arguments)
    assert seen
    assert [at for at in seen if not any(first <= at < last for first, last in kept)] == []


def test_forests_without_rows_trees_nodes_or_columns():
    row = [[0.0] * FEATURES]
    leaf = {"leaf": [2.5]}
    split = {"feature": 2, "threshold": 0.0, "default_left": True, "left": leaf, "right": {"leaf": [1.0]}}
    for perfect in (True, False):
        agrees([leaf, split], [], True, [1.0], perfect=perfect)
        agrees([], row, True, [1.0, -0.0], [], perfect=perfect)
        agrees([leaf, leaf], row * 3, True, [1.0], perfect=perfect)
        agrees([leaf, split, leaf], row, True, [0.0] * 3, [2, 0, 2], perfect=perfect, dtype=torch.float32)
        alone = pack(flattened([leaf], True, [1.0]), perfect=perfect).arguments()
        (found,) = walk.proven(forest, {"columns": torch.empty(0, 4), **alone, "dtype": torch.float64})
        assert found.flatten().tolist() == [3.5] * 4


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, on which the interpreter stands
def test_sums_that_no_float_holds_are_infinite_or_nan():
    split = {"feature": 0, "threshold": 0.0, "default_left": True}
    trees = [{**split, "left": {"leaf": [math.inf]}, "right": {"leaf": [3e38]}} for _ in range(2)]
    trees.append({**split, "left": {"leaf": [-math.inf]}, "right": {"leaf": [0.0]}})
    arguments = {**pack(flattened(trees, True, [0.0])).arguments(), "dtype": torch.float32}
    found = forest.fused(columns=torch.tensor([[-1.0, 1.0]]), **arguments)
    assert found.flatten().tolist() == pytest.approx([math.nan, math.inf], nan_ok=True), "6e38 is more than a float32 can be"


def test_trees_are_padded_where_they_may_be():
    shallow = drawn.trees(torch.Generator(), 2, MAX_PERFECT, 4)
    deep = drawn.trees(torch.Generator(), 1, MAX_PERFECT + 1, 4, bushy=1.0)
    grouped = drawn.trees(torch.Generator(), 2, 3, 4, categorical=True)
    assert [pack(trees).perfect for trees in (shallow, deep, grouped)] == [True, False, False]
    for trees in (deep, grouped):
        with pytest.raises(ValueError, match="cannot be padded"):
            pack(trees, perfect=True)


def test_what_is_no_forest_is_refused():
    good = flattened(
        [{"feature": 1, "threshold": 0.0, "default_left": True, "left": {"leaf": [1.0]}, "right": {"leaf": [2.0]}}], True, [0.0]
    )
    assert pack(good).depth == 1
    wrong = {
        "a child is beyond": [{"left": good.left * 0 + 1}, {"left": good.left * 0 - 3}, {"roots": good.roots + 1}],
        "runs in a circle": [{"left": good.left * 0}],
        "features must be": [{"feature": good.feature - 2}, {"feature": good.feature + (1 << 19)}],
        "threshold is NaN": [{"threshold": good.threshold * math.nan}],
        "one entry for each": [{"default_left": torch.zeros(2, dtype=torch.bool)}],
        "do not make": [{"base": torch.zeros(0)}, {"leaves": torch.zeros(2, 2)}],
        "no tree says": [{"base": torch.zeros(2)}],
        "one number below": [{"output": torch.tensor([1])}, {"output": torch.tensor([0, 0])}],
        "sets must hold": [{"sets": {0: [-1]}}, {"sets": {0: [1 << 30]}}, {"sets": {1: [1]}}],
    }
    for message, changes in wrong.items():
        for change in changes:
            with pytest.raises(ValueError, match=message):
                pack(replace(good, **change))
    both = replace(good, feature=good.feature.repeat(2), threshold=good.threshold.repeat(2), sets={1: [3]})
    with pytest.raises(ValueError, match=r"features \[1\] are split by thresholds and by categories"):
        Ranking.of(both, 2)


def test_arguments_that_do_not_fit_are_named():
    for kind in ({"depth": 2}, {"depth": 2, "categorical": True}):
        arguments = drawn_case(4, count=2, **kind)
        columns = arguments["columns"]
        wrong = [
            ("columns", columns.double(), TypeError), ("columns", columns.T, ValueError), ("columns", columns[:2], ValueError),
            ("columns", columns[:, ::2], ValueError), ("nodes", arguments["nodes"][:, :1], ValueError), ("depth", -1, ValueError),
            ("leaves", arguments["leaves"][:, :0], ValueError), ("starts", arguments["starts"][:1], ValueError),
            ("base", arguments["base"].float(), TypeError), ("base", torch.zeros(5, dtype=torch.float64), ValueError),
            ("roots", torch.zeros(2, 2, dtype=torch.int32), ValueError), ("dtype", torch.float16, ValueError),
        ]  # fmt: skip
        for name, value, error in wrong:
            with pytest.raises(error, match=f"forest: arguments? .*'{name}'"):
                forest.op(**{**arguments, name: value})


def test_the_floor_counts_columns_that_are_read():
    arguments = drawn_case(100, count=2, depth=2)
    floor, wider = (forest.traffic({**arguments, "features": features}) for features in (3, 4))
    assert wider.bytes - floor.bytes == 100 * 4
    assert floor.flops == 100 * 2 * (arguments["depth"] + 1)
