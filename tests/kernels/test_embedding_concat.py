"""Looked-up columns beside each other: held against float64, and the reference against loops over rows in plain Python."""

import pytest
import torch
import walk
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.kernels import embedding_concat as kernel
from scoring.kernels.frame import operator

EDGES = (-(2**31), -1, 2**31 - 1)  # slots outside every table
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def strided(rows, room):
    """The same values with free space between the rows, as a slice of a wider matrix has it."""
    wide = torch.full((rows.shape[0], rows.shape[1] + room), -7, dtype=rows.dtype)
    wide[:, : rows.shape[1]] = rows
    return wide[:, : rows.shape[1]]


def drawn(rows, columns, single, lists, pooling="mean", stored=torch.float32, dtype=torch.float32, seed=0, room=0, longest=6):
    """Arguments with slots on both sides of every table's edge; lists begin behind values that belong to no row."""
    draw = torch.Generator().manual_seed(seed)
    tables = [*single, *lists]
    edges = torch.tensor(EDGES, dtype=torch.int32)

    def some(size, count):
        found = torch.randint(-2, size + 2, (count,), generator=draw, dtype=torch.int32)
        return torch.where(torch.rand(count, generator=draw) < 0.1, edges[torch.randint(3, (count,), generator=draw)], found)

    counts = torch.randint(0, longest + 1, (len(lists), rows), generator=draw)
    ends = [int(count.sum()) + 3 for count in counts]
    starts = torch.tensor([0, *ends]).cumsum(0)[:-1] + 3
    offsets = torch.cat([torch.zeros((len(lists), 1), dtype=torch.int64), counts.cumsum(1)], 1) + starts[: len(lists), None]
    values = [some(size, end) for (size, _), end in zip(lists, ends, strict=True)]
    slots = torch.stack([some(size, rows) for size, _ in single]) if single else torch.empty((0, rows), dtype=torch.int32)
    return {
        "dense": strided(torch.randn(rows, columns, generator=draw), room),
        "slots": strided(slots, room),
        "weights": kernel.packed([torch.randn(*shape, generator=draw).to(stored) for shape in tables]).to(stored),
        "sizes": [size for size, _ in tables],
        "dims": [dim for _, dim in tables],
        "bag_slots": torch.cat([*values, torch.zeros(3, dtype=torch.int32)]) if lists else None,
        "bag_offsets": strided(offsets, room) if lists else None,
        "pooling": pooling,
        "width": -(-(columns + sum(dim for _, dim in tables)) // 8) * 8,
        "dtype": dtype,
    }


def by_hand(given):
    """One row after the other, one number after the other."""
    tables, base = [], 0
    for size, dim in zip(given["sizes"], given["dims"], strict=True):
        tables.append(given["weights"][base : base + size * dim].double().reshape(size, dim).tolist())
        base += size * dim + -(size * dim) % 8
    single, rows = len(given["slots"]), []
    for n, numbers in enumerate(given["dense"].double().tolist()):
        row = list(numbers)
        for place, table in enumerate(tables):
            if place < single:
                slots = [int(given["slots"][place, n])]
            else:
                first, last = given["bag_offsets"][place - single, n : n + 2].tolist()
                slots = given["bag_slots"][first:last].tolist()
            found = [table[slot] if 0 <= slot < len(table) else table[0] for slot in slots]
            pool = {"sum": sum, "max": max, "mean": lambda some: sum(some) / len(some)}[given["pooling"]]
            row += [pool(column) for column in zip(*found, strict=True)] if found else [0.0] * given["dims"][place]
        rows.append(row + [0.0] * (given["width"] - len(row)))
    return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), given["width"])


tables = st.lists(st.tuples(st.integers(1, 9), st.sampled_from((1, 3, 4, 8, 12, 16, 20, 33))), max_size=3)
schemas = st.fixed_dictionaries(
    {
        "rows": st.integers(0, 40), "columns": st.sampled_from((0, 1, 2, 8, 13, 16, 35)), "single": tables, "lists": tables,
        "pooling": st.sampled_from(kernel.POOLING), "stored": st.sampled_from(DTYPES), "dtype": st.sampled_from(DTYPES),
        "seed": st.integers(0, 999), "room": st.sampled_from((0, 1, 16)),
    }
)  # fmt: skip


@settings(max_examples=40)
@given(schemas)
def test_kernel_agrees_with_float64(schema):
    walk.proven(kernel, drawn(**schema))


@settings(max_examples=30)
@given(schemas)
def test_reference_agrees_with_loops_over_rows(schema):
    given = drawn(**schema)
    found = kernel.reference(**{name: walk.exact(value) for name, value in given.items()})
    torch.testing.assert_close(found, by_hand(given), atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
def test_look_ups_are_copies_to_the_bit(dtype):
    """No arithmetic touches a weight: infinities, NaN, -0.0 and subnormal numbers arrive as they are."""
    given = drawn(20, 3, [(9, 8), (30, 12)], [], stored=dtype, dtype=dtype)
    tiny = torch.finfo(dtype).smallest_normal / 4
    given["weights"][:4] = torch.tensor([float("nan"), float("-inf"), -0.0, tiny])
    (x,) = walk.poisoned(kernel.fused, **given)
    truth = kernel.reference(**given)
    assert torch.equal(x.isnan(), truth.isnan())
    assert torch.equal(x.nan_to_num(5).view(torch.uint8), truth.nan_to_num(5).view(torch.uint8))
    assert (x[:, 3] != x[:, 3]).any(), "the NaN was looked up"


@pytest.mark.parametrize("pooling", kernel.POOLING)
def test_lists_keep_nan_and_infinities_to_their_own_row(pooling):
    given = drawn(12, 0, [], [(6, 8)], pooling, longest=5, seed=3)
    given["weights"][8:11] = torch.tensor([float("nan"), float("inf"), float("-inf")])
    (x,) = walk.proven(kernel, given)
    first, last = given["bag_offsets"][0, :-1], given["bag_offsets"][0, 1:]
    with_one = torch.tensor([1 in given["bag_slots"][a:b].tolist() for a, b in zip(first, last, strict=True)])
    assert with_one.any()
    assert not with_one.all()
    assert torch.equal(x[:, 0].isnan(), with_one), "a maximum must not drop NaN, nor spread it"


@pytest.mark.parametrize("pooling", kernel.POOLING)
def test_values_between_and_behind_lists_are_not_read(pooling):
    """One value a list of which half are empty, each followed by one that would blow up the sum if a neighbour read on."""
    given = drawn(8, 0, [], [(3, 4)], pooling)
    given["weights"] = kernel.packed([torch.tensor([[1.0] * 4, [2.0] * 4, [float("inf")] * 4])])
    given["bag_slots"] = torch.tensor([2, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2], dtype=torch.int32)
    given["bag_offsets"] = torch.tensor([[1, 1, 2, 2, 3, 3, 4, 6, 6]])
    (x,) = walk.proven(kernel, given)
    double = 4.0 if pooling == "sum" else 2.0
    assert x[:, 0].tolist() == [0, 2, 0, 2, 0, 2, double, 0]


def test_wide_tables_are_split_and_keep_their_columns():
    walk.proven(kernel, drawn(5, 0, [(4, 600), (3, 257)], [(5, 520)], room=3))


def test_width_may_leave_many_columns_to_zeros():
    given = drawn(11, 5, [(4, 7)], [])
    (x,) = walk.proven(kernel, {**given, "width": 96})
    assert x.shape == (11, 96)
    assert not x[:, 12:].any()


def test_slots_and_tables_beyond_two_to_the_31():
    """Memory that nobody touches costs nothing: tables, rows of slots and of numbers lie further apart than 32 bits can tell."""
    far = 2**31 + 64
    weights = torch.empty(far + 64 * 8, dtype=torch.float16)
    size = far // 8  # the first table takes what 32 bits can address, the second lies behind it
    weights[: 8 * 2] = 1
    weights[far - 8 : far] = 2
    weights[far : far + 64 * 8] = torch.arange(64 * 8) / 256
    slots = torch.empty(far + 4, dtype=torch.int32).as_strided((2, 4), (far, 1))
    slots[0] = torch.tensor([0, size - 1, 1, size])
    slots[1] = torch.tensor([0, 63, 64, -1])
    dense = torch.empty(far + 8, dtype=torch.float32).as_strided((4, 2), (far // 3, 1))
    dense[:] = torch.arange(8.0).view(4, 2)
    given = {
        "dense": dense, "slots": slots, "weights": weights, "sizes": [size, 64], "dims": [8, 8], "bag_slots": None,
        "bag_offsets": None, "pooling": "sum", "width": 24, "dtype": torch.float32,
    }  # fmt: skip
    x = kernel.fused(**given)
    assert x[:, 2].tolist() == [1, 2, 1, 1]
    assert torch.equal(x, kernel.reference(**given))


def test_many_programs_of_one_table_cover_all_rows():
    """More rows than one program takes, and a last program that is not full."""
    given = drawn(4096 // 16 * 2 + 5, 1, [(50, 16)], [(9, 16)], longest=2)
    walk.proven(kernel, given)


@settings(max_examples=15)
@given(schemas, st.integers(1, 39))
def test_bits_of_a_row_do_not_depend_on_its_batch(schema, cut):
    """Rows in front are dropped, so that the same row stands elsewhere in a program and beside other lists."""
    given = drawn(**{**schema, "rows": 40})
    (whole,) = walk.poisoned(kernel.fused, **given)
    offsets = given["bag_offsets"]
    part = {**given, "dense": given["dense"][cut:], "slots": given["slots"][:, cut:]}
    part["bag_offsets"] = None if offsets is None else offsets[:, cut:]
    (found,) = walk.poisoned(kernel.fused, **part)
    assert torch.equal(found.view(torch.uint8), whole[cut:].view(torch.uint8))


def test_second_call_with_a_schema_copies_nothing_to_the_device(monkeypatch):
    """A CUDA graph may only hold launches: the entries of a schema are made once."""
    given = drawn(3, 2, [(5, 8), (4, 16)], [(6, 8)])
    first = kernel.fused(**given)
    monkeypatch.setattr(torch, "tensor", None)
    assert torch.equal(kernel.fused(**given), first)


def test_reference_runs_in_inference_mode_and_leaves_its_inputs():
    given = drawn(7, 2, [(5, 8)], [(6, 8)])
    before = {name: value.clone() for name, value in given.items() if isinstance(value, torch.Tensor)}
    with torch.inference_mode():
        kernel.op(**given)
    for name, value in before.items():
        assert torch.equal(given[name], value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dense", torch.zeros(6, 4)[:, ::2]), ("slots", torch.zeros((1, 12), dtype=torch.int32)[:, ::2]),
        ("slots", torch.zeros((1, 5), dtype=torch.int32)), ("weights", torch.zeros(3)), ("weights", torch.zeros(400)[::2]),
        ("sizes", [5]), ("sizes", [0, 6]), ("dims", [8, 8, 8]), ("dims", [8, -8]), ("bag_slots", None),
        ("bag_offsets", torch.zeros((1, 6), dtype=torch.int64)), ("bag_offsets", torch.zeros((1, 14), dtype=torch.int64)[:, ::2]),
        ("bag_offsets", torch.zeros((1, 7), dtype=torch.int32)),
        ("pooling", "median"), ("width", 17), ("width", 16), ("dtype", torch.int32),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be_are_named(name, value):
    given = drawn(6, 2, [(5, 8)], [(6, 8)])
    with pytest.raises((TypeError, ValueError), match=rf"embedding_concat: argument '{name}'"):
        kernel.op(**{**given, name: value})


def test_float64_is_computed_by_torch_only():
    given = {**drawn(6, 2, [(5, 8)], [(6, 8)]), "dtype": torch.float64}
    assert kernel.refuses(**given) == "float64"
    operator.force("triton")
    try:
        with pytest.raises(NotImplementedError, match="float64"):
            kernel.op(**given)
    finally:
        operator.force(None)
    assert kernel.op(**given).dtype == torch.float64
