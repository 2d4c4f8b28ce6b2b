"""embedding_concat: many category columns looked up and written straight into the input row of a network.

    x[n] = dense[n] | table_0[slots[0, n]] | … | table_K-1[slots[K-1, n]] | pooled rows of list 0 | … | 0 up to `width`

A slot outside [0, size) is slot 0, the unknown one. Row n of list l is bag_slots[bag_offsets[l, n] : bag_offsets[l, n+1]], pooled
in float32 by sum, mean or max (NaN wins); an empty one gives zeros, and so must a null one: give it two equal offsets.
Sources: Wang et al. 2021 (DCN V2, arXiv:2008.13535, section 3.1), Naumov et al. 2019 (DLRM, arXiv:1906.00091, section 2.1.1).
Tables lie in one flat tensor, each [size, dim] row-major from a multiple of 8 elements on (`packed`), so one launch serves many.

Floor, element width w of tables and v of x: bytes = N*(4*C + 4*K + v*width) + w*sum(min(N, size)*dim), and for lists 8*L*(N+1) +
4*values + w*min(values, size)*dim; FLOPs = values*dim. HBM-bound. Eager writes and reads each look-up once more to concatenate.
A program takes one table and several rows of it, many 16-byte loads in flight; tables of like widths share a launch, and
programs side by side finish the same rows, whose shared sectors meet in L2. Technique: FBGEMM's table-batched embedding.
Loads are 16 bytes wide where dim is a multiple of 8 (4: float32), stores where C is, too: pad `dense`, and the next layer's weight.
Where a table lies and where it goes in x stands in a small device tensor, made at the first call with a schema and kept for the
life of the process: CUDA graphs hold its address, and that first call must not be captured.

Taken on trust: offsets ascend and stay within bag_slots. A row's bits do not depend on its batch: lists are pooled in their order.
"""

from functools import cache
from math import gcd

import torch

from .frame import check as require
from .frame.case import Arguments, Case, Tolerance, Traffic
from .frame.language import cdiv, jit, power_of_2, tl
from .frame.operator import register
from .frame.tuning import Config, pick

NAME = "embedding_concat"
TOLERANCES = {
    torch.float32: Tolerance(1e-6, 1e-6),  # look-ups are copies; pooling adds float32
    torch.float16: Tolerance(1e-6, 4.9e-4),
    torch.bfloat16: Tolerance(1e-6, 4e-3),
}
INSTRUCTIONS = ("wide_loads", "wide_stores")
CONFIGS = {
    "look_up": (Config((("ELEMENTS", 2048),)), Config((("ELEMENTS", 4096),))),
    "pool": (Config((("ELEMENTS", 1024),)), Config((("ELEMENTS", 256),), 1), Config((("ELEMENTS", 2048),), 8)),
    "copy": (Config((("ROWS", 64), ("BLOCK", 32))),),
}
WIDEST = 256  # columns of a program; wider tables are split
POOLING = ("mean", "sum", "max")
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def packed(tables: list[torch.Tensor]) -> torch.Tensor:
    """Tables [size, dim] as the flat tensor `weights`."""
    bases, length = _bases(tuple(len(table) for table in tables), tuple(table.shape[1] for table in tables))
    flat = tables[0].new_zeros(length) if tables else torch.zeros(0)
    for base, table in zip(bases, tables, strict=True):
        flat[base : base + table.numel()] = table.flatten()
    return flat


@cache
def _bases(sizes: tuple[int, ...], dims: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """Where each table begins, and where the last one ends."""
    bases, end = [], 0
    for size, dim in zip(sizes, dims, strict=True):
        bases.append(cdiv(end, 8) * 8)
        end = bases[-1] + size * dim
    return tuple(bases), end


def reference(
    dense: torch.Tensor, slots: torch.Tensor, weights: torch.Tensor, sizes: list[int], dims: list[int],
    bag_slots: torch.Tensor | None, bag_offsets: torch.Tensor | None, pooling: str, width: int, dtype: torch.dtype,
) -> torch.Tensor:  # fmt: skip
    """`dense` [N, C] float32, `slots` [K, N] int32, `weights` flat; `sizes`, `dims` of the K tables, then of the L lists' ones.
    `bag_slots` int32 and `bag_offsets` int64 [L, N+1], or None. Returns x [N, width] of `dtype`; `width` is a multiple of 8.
    """
    columns, single = dense.shape[1], len(slots)
    known = _known(slots, torch.tensor(sizes[:single], device=slots.device)[:, None])
    x = dense.new_empty((dense.shape[0], width), dtype=dtype)
    x[:, :columns] = dense
    bases, _ = _bases(tuple(sizes), tuple(dims))
    for place, (base, size, dim) in enumerate(zip(bases, sizes, dims, strict=True)):
        table = weights[base : base + size * dim].view(size, dim)
        out = x[:, columns : columns + dim]
        if place < single:
            out.copy_(table.index_select(0, known[place]))
        elif bag_slots is not None and bag_offsets is not None:
            out.copy_(_pooled(table, bag_slots, bag_offsets[place - single], pooling))
        columns += dim
    x[:, columns:] = 0
    return x


def _known(slots: torch.Tensor, sizes: torch.Tensor | int) -> torch.Tensor:
    return torch.where((slots >= 0) & (slots < sizes), slots, 0)


def _pooled(table: torch.Tensor, values: torch.Tensor, offsets: torch.Tensor, pooling: str) -> torch.Tensor:
    first, last = offsets[[0, -1]].tolist()
    rows = table.index_select(0, _known(values[first:last], len(table))).to(torch.promote_types(table.dtype, torch.float32))
    found = torch.segment_reduce(rows, pooling, offsets=offsets - first, axis=0, unsafe=True)
    return torch.where(offsets.diff()[:, None] == 0, 0.0, found)


def check(
    dense: torch.Tensor, slots: torch.Tensor, weights: torch.Tensor, sizes: list[int], dims: list[int],
    bag_slots: torch.Tensor | None, bag_offsets: torch.Tensor | None, pooling: str, width: int, dtype: torch.dtype,
) -> None:  # fmt: skip
    require.tensor(NAME, "dense", dense, (torch.float32, torch.float64), (None, None), contiguous=False)
    require.tensor(NAME, "slots", slots, (torch.int32,), (None, dense.shape[0]), dense, contiguous=False)
    require.tensor(NAME, "weights", weights, FLOATS, (None,), dense)
    _step("dense", dense)
    _step("slots", slots)
    lists = 0
    if bag_slots is not None:
        require.tensor(NAME, "bag_slots", bag_slots, (torch.int32,), (None,), dense)
    if bag_offsets is not None:
        require.tensor(NAME, "bag_offsets", bag_offsets, (torch.int64,), (None, dense.shape[0] + 1), dense, contiguous=False)
        _step("bag_offsets", bag_offsets)
        lists = bag_offsets.shape[0]
    if (bag_slots is None) != (bag_offsets is None):
        raise ValueError(f"{NAME}: argument 'bag_slots' comes with 'bag_offsets' or not at all")
    require.choice(NAME, "pooling", pooling, POOLING)
    require.choice(NAME, "dtype", dtype, FLOATS)
    for name, given in (("sizes", sizes), ("dims", dims)):
        if len(given) != slots.shape[0] + lists or any(number < 1 for number in given):
            raise ValueError(f"{NAME}: argument {name!r} is {given}, expected {slots.shape[0]} + {lists} numbers above 0")
    if weights.shape[0] < (needed := _bases(tuple(sizes), tuple(dims))[1]):
        raise ValueError(f"{NAME}: argument 'weights' has {weights.shape[0]} elements, the tables need {needed}")
    if width % 8 or width < dense.shape[1] + sum(dims):
        least = dense.shape[1] + sum(dims)
        raise ValueError(f"{NAME}: argument 'width' is {width}, expected a multiple of 8, at least {least}")


def _step(name: str, given: torch.Tensor) -> None:
    if given.shape[1] > 1 and given.stride(1) != 1:
        raise ValueError(f"{NAME}: argument {name!r} has strides {given.stride()}, expected 1 within a row")


def refuses(
    dense: torch.Tensor, slots: torch.Tensor, weights: torch.Tensor, sizes: list[int], dims: list[int],
    bag_slots: torch.Tensor | None, bag_offsets: torch.Tensor | None, pooling: str, width: int, dtype: torch.dtype,
) -> str | None:  # fmt: skip
    return "float64" if torch.float64 in (dense.dtype, weights.dtype, dtype) else None


def fake(
    dense: torch.Tensor, slots: torch.Tensor, weights: torch.Tensor, sizes: list[int], dims: list[int],
    bag_slots: torch.Tensor | None, bag_offsets: torch.Tensor | None, pooling: str, width: int, dtype: torch.dtype,
) -> torch.Tensor:  # fmt: skip
    return dense.new_empty((dense.shape[0], width), dtype=dtype)


def fused(
    dense: torch.Tensor, slots: torch.Tensor, weights: torch.Tensor, sizes: list[int], dims: list[int],
    bag_slots: torch.Tensor | None, bag_offsets: torch.Tensor | None, pooling: str, width: int, dtype: torch.dtype,
) -> torch.Tensor:  # fmt: skip
    x = fake(dense, slots, weights, sizes, dims, bag_slots, bag_offsets, pooling, width, dtype)
    rows, columns = dense.shape
    if not rows:
        return x
    used = columns + sum(dims)
    if copied := max(columns, width - used):
        config = pick(NAME, "copy", CONFIGS["copy"], x.device)
        blocks = dict(config.blocks)
        across = cdiv(copied, blocks["BLOCK"])
        grid = (across * cdiv(rows, blocks["ROWS"]),)
        _copy[grid](dense, x, rows, columns, used, dense.stride(0), width // 8, across, **config.options())
    for (listed, block, load), (entries, store) in _plan(x.device, columns, tuple(sizes), tuple(dims), len(slots)).items():
        key = "pool" if listed else "look_up"
        config = pick(NAME, key, CONFIGS[key], x.device)
        grid = (len(entries) * cdiv(rows, dict(config.blocks)["ELEMENTS"] // block),)
        sizing = {"D": block, "LOAD": load, "STORE": store, **config.options()}
        if not listed:
            _look_up[grid](slots, weights, entries, x, rows, len(entries), slots.stride(0), width // 8, **sizing)
        elif bag_slots is not None and bag_offsets is not None:
            stride = bag_offsets.stride(0)
            _pool[grid](
                bag_slots, bag_offsets, weights, entries, x, rows, len(entries), stride, width // 8, POOLING=pooling, **sizing
            )
    return x


@cache
def _plan(
    device: torch.device, columns: int, sizes: tuple[int, ...], dims: tuple[int, ...], single: int
) -> dict[tuple[bool, int, int], tuple[torch.Tensor, int]]:
    """(a list's, columns of a program, divisor of loads) -> entries of like tables [tables, 6], and the divisor of stores.

    An entry: base in eighths, size, row length and columns in `LOAD`s, first column of x in `STORE`s, row of slots or offsets.
    """
    groups: dict[tuple[bool, int, int], list[list[int]]] = {}
    bases, start = _bases(sizes, dims)[0], columns
    for place, (base, size, dim) in enumerate(zip(bases, sizes, dims, strict=True)):
        source = place - single if place >= single else place
        load = gcd(dim, 8)
        for first in range(0, dim, WIDEST):
            wide = min(dim - first, WIDEST)
            group = groups.setdefault((place >= single, max(power_of_2(wide), 4), load), [])
            group.append([(base + first) // 8, size, dim // load, wide // load, start + first, source])
        start += dim
    plan = {}
    for key, group in groups.items():
        store = gcd(8, *(entry[4] for entry in group))
        made = [[*entry[:4], entry[4] // store, entry[5]] for entry in group]
        plan[key] = (torch.tensor(made, dtype=torch.int64).to(device), store)
    return plan


@jit(do_not_specialize=["rows", "used", "eighths", "across"])
def _copy(dense, x, rows, columns, used, stride, eighths, across, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Columns of `dense`, and zeros behind the tables, from column `used` on."""
    row = (tl.program_id(0) // across).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) % across * BLOCK + tl.arange(0, BLOCK)
    width = eighths.to(tl.int64) * 8
    inside, place = (row < rows)[:, None], row[:, None] * width + column[None, :]
    mask = inside & (column < columns)[None, :]
    value = tl.load(dense + row[:, None] * stride + column[None, :], mask=mask, other=0.0)
    tl.store(x + place, value.to(x.dtype.element_ty), mask=mask)
    tl.store(x + place + used, tl.zeros((ROWS, BLOCK), x.dtype.element_ty), mask=inside & (column + used < width)[None, :])


@jit(do_not_specialize=["rows", "tables", "stride", "eighths"], do_not_specialize_on_alignment=["slots"])
def _look_up(
    slots, weights, entries, x, rows, tables, stride, eighths,
    D: tl.constexpr, LOAD: tl.constexpr, STORE: tl.constexpr, ELEMENTS: tl.constexpr,
):  # fmt: skip
    entry = entries + tl.program_id(0) % tables * 6
    table = weights + tl.load(entry) * 8  # the factors tell the compiler what divides these numbers
    size, length, wide = tl.load(entry + 1), tl.load(entry + 2) * LOAD, tl.load(entry + 3) * LOAD
    start, source = tl.load(entry + 4) * STORE, tl.load(entry + 5)
    row = (tl.program_id(0) // tables).to(tl.int64) * (ELEMENTS // D) + tl.arange(0, ELEMENTS // D)
    column = tl.arange(0, D)
    mask = (row < rows)[:, None] & (column < wide)[None, :]
    slot = tl.load(slots + source * stride + row, mask=row < rows, other=0).to(tl.int64)
    slot = tl.where((slot >= 0) & (slot < size), slot, 0)
    value = tl.load(table + slot[:, None] * length + column[None, :], mask=mask, other=0.0)
    place = row[:, None] * (eighths.to(tl.int64) * 8) + start + column[None, :]
    tl.store(x + place, value.to(tl.float32).to(x.dtype.element_ty), mask=mask)


@jit(do_not_specialize=["rows", "tables", "stride", "eighths"], do_not_specialize_on_alignment=["slots", "offsets"])
def _pool(
    slots, offsets, weights, entries, x, rows, tables, stride, eighths,
    D: tl.constexpr, LOAD: tl.constexpr, STORE: tl.constexpr, POOLING: tl.constexpr, ELEMENTS: tl.constexpr,
):  # fmt: skip
    entry = entries + tl.program_id(0) % tables * 6
    table = weights + tl.load(entry) * 8
    size, length, wide = tl.load(entry + 1), tl.load(entry + 2) * LOAD, tl.load(entry + 3) * LOAD
    start, source = tl.load(entry + 4) * STORE, tl.load(entry + 5)
    row = (tl.program_id(0) // tables).to(tl.int64) * (ELEMENTS // D) + tl.arange(0, ELEMENTS // D)
    column = tl.arange(0, D)
    inside, within = row < rows, (column < wide)[None, :]
    first = tl.load(offsets + source * stride + row, mask=inside, other=0)
    count = tl.load(offsets + source * stride + row + 1, mask=inside, other=0) - first
    longest = tl.max(count, 0)
    found = tl.full((ELEMENTS // D, D), float("-inf") if POOLING == "max" else 0.0, tl.float32)
    done = longest * 0
    while done < longest:
        for ahead in tl.static_range(4):  # independent loads, in flight together
            taken = done + ahead < count
            slot = tl.load(slots + first + done + ahead, mask=taken, other=0).to(tl.int64)
            slot = tl.where((slot >= 0) & (slot < size), slot, 0)
            place = slot[:, None] * length + column[None, :]
            mask = taken[:, None] & within
            if POOLING == "max":
                value = tl.load(table + place, mask=mask, other=float("-inf")).to(tl.float32)
                found = tl.where((value > found) | (value != value), value, found)  # a maximum instruction drops NaN
            else:
                found += tl.load(table + place, mask=mask, other=0.0).to(tl.float32)
        done += 4
    if POOLING == "mean":
        found = found / tl.maximum(count, 1).to(tl.float32)[:, None]
    found = tl.where((count > 0)[:, None], found, 0.0)
    place = row[:, None] * (eighths.to(tl.int64) * 8) + start + column[None, :]
    tl.store(x + place, found.to(x.dtype.element_ty), mask=inside[:, None] & within)


op = register(NAME, reference, fused, check, refuses, fake)


def cases() -> list[Case]:
    def case(
        name: str, rows: int, columns: int, single: list[tuple[int, int]], lists: list[tuple[int, int]], pooling: str,
        stored: torch.dtype, dtype: torch.dtype, longest: int = 9, size: str = "small",
    ) -> Case:  # fmt: skip
        def make(draw: torch.Generator, device: torch.device) -> Arguments:
            tables = [*single, *lists]
            weights = packed([torch.randn(*shape, generator=draw).to(stored) for shape in tables])
            slots = [torch.randint(-1, size + 1, (rows,), generator=draw, dtype=torch.int32) for size, _ in single]
            counts = torch.randint(0, longest + 1, (len(lists), rows + 1), generator=draw)  # the first one is skipped
            ends = counts.flatten().cumsum(0).view(len(lists), rows + 1)
            most = int(counts.sum())
            values = torch.randint(-1, min((size for size, _ in lists), default=1) + 1, (most,), generator=draw, dtype=torch.int32)
            return {
                "dense": torch.randn(rows, columns, generator=draw).to(device),
                "slots": (torch.stack(slots) if slots else torch.empty((0, rows), dtype=torch.int32)).to(device),
                "weights": weights.to(device),
                "sizes": [size for size, _ in tables],
                "dims": [dim for _, dim in tables],
                "bag_slots": values.to(device) if lists else None,
                "bag_offsets": ends.to(device) if lists else None,
                "pooling": pooling,
                "width": cdiv(columns + sum(dim for _, dim in tables), 8) * 8,
                "dtype": dtype,
            }

        return Case(name, make, size)  # type: ignore[arg-type]

    single, half, brain = torch.float32, torch.float16, torch.bfloat16
    many = [(1 << shift, 16) for shift in (2, 4, 8, 10, 12, 14, 16, 18, 20, 20, 20, 20, 20)] * 2
    return [
        case("unaligned", 300, 13, [(50, 16)] * 5, [], "mean", single, single),
        case("aligned", 300, 16, [(50, 16), (7, 16)], [(20, 16)], "mean", brain, brain),
        case("odd-widths", 37, 3, [(9, 10), (3, 512)], [], "mean", single, brain),
        case("lists-only", 33, 0, [], [(30, 16), (11, 16)], "sum", single, single),
        case("numbers-only", 65, 32, [], [], "mean", single, brain),
        case("one-row-widened", 1, 8, [(1, 16)], [(2, 16)], "max", half, single),
        case("empty", 0, 2, [(5, 16)], [(5, 16)], "mean", single, single),
        case("criteo-1048576x26", 1 << 20, 16, many, [], "mean", brain, brain, size="large"),
        case("lists-262144x4", 1 << 18, 16, many[:8], [(1 << 20, 64)] * 4, "mean", brain, brain, 30, size="large"),
    ]


def traffic(arguments: Arguments) -> Traffic:
    dense, slots, weights, offsets = (arguments[name] for name in ("dense", "slots", "weights", "bag_offsets"))
    rows, tables = dense.shape[0], list(zip(arguments["sizes"], arguments["dims"], strict=True))
    values = [] if offsets is None else (offsets[:, -1] - offsets[:, 0]).tolist()
    read = [rows] * len(slots) + values
    gathered = sum(min(count, size) * dim for count, (size, dim) in zip(read, tables, strict=True))
    listed = sum(4 * count + 8 * (rows + 1) for count in values)
    x = rows * arguments["width"] * torch.empty((), dtype=arguments["dtype"]).element_size()
    moved = 4 * (dense.numel() + slots.numel()) + weights.element_size() * gathered + listed + x
    return Traffic(moved, sum(count * dim for count, (_, dim) in zip(values, tables[len(slots) :], strict=True)))
