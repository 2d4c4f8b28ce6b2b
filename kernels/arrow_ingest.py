"""arrow_ingest: raw Arrow columns to the float matrix of a network, and the counts of a drift summary.

    x = value, or fill where null;   x = low if x < low, high if x > high (NaN stays NaN);   y = (x - mean) * inverse_scale
    counts: valid finite values <= each edge (exact, in the column's own type), nulls, NaN, +inf, -inf; extremes: least and largest

Arrow's columnar format (values, LSB validity bitmaps, any bit offset; arrow.apache.org/docs/format/Columnar.html) is read as it is.
float32 columns are computed in float32, all others in float64 and rounded last, so that large integers and timestamps keep what
the mean leaves of them.

Floor: bytes = rows * columns * (width of the value + 1/8 for a bitmap + width of the output), flops = 2 a value and one comparison
an edge; HBM-bound. From the host, the copy over PCIe takes some forty times as long: this only has to hide behind it.
Rows are made of tiles that are turned round: values that are stored one by one, 4 bytes into each row, ran at a tenth of HBM on an
H200. Counts are then taken by a second kernel, which stores nothing: a window that a lane sends is still in L2. Its programs, and
those of a matrix by column, take one column, so that all about it is a scalar. One launch for each type of column. Lanes count in
fields of 8 bits of two words, summed once in a program and added by integer atomics; extremes come from one pair for each program:
no order matters. The tiled kernel has 4 values in a thread; with 8 some types spill.
On trust: places in the arena lie inside it, values and bitmaps start at multiples of 128 bytes and their slots are padded to such,
edges of a column ascend.
"""

import math
import struct

import torch

from .arrow_ingest_parts.turned import turned
from .arrow_ingest_parts.values import add, decoded, field, placed, ruled, scaled
from .frame import check as require
from .frame.arrow import BOOL, DTYPES, FLOAT32, FLOAT64, KINDS, check_buffers, column, groups, view
from .frame.arrow_cases import arena, drawn
from .frame.case import Arguments, Case, Tolerance, Traffic
from .frame.language import cdiv, jit, tl
from .frame.operator import register
from .frame.tuning import Config, pick

NAME = "arrow_ingest"
COLUMN, INDICATOR = 4, 5  # of the table, after the places
FACTS = 4  # counted beside the edges: null, NaN, +inf, -inf
TOLERANCES = {
    torch.float32: Tolerance(2e-6, 1e-6),
    torch.bfloat16: Tolerance(1e-2, 8e-3),
    torch.float64: Tolerance(0.0),  # extremes
}
INSTRUCTIONS = ("wide_loads",)
MAX_EDGES = 10  # 16 fields: bins between the edges, facts, and one for rows beyond the end
CONFIGS = {
    "rows": (  # where a program takes one column, that stores its values and counts them in one pass
        Config((("COLUMNS", 32), ("ROWS", 32), ("TILES", 8)), 8),
        Config((("COLUMNS", 16), ("ROWS", 64), ("TILES", 8)), 8),
        Config((("COLUMNS", 1), ("ROWS", 1), ("TILES", 1))),
    ),
    "columns": (
        Config((("ROWS", 512), ("TILES", 8))),
        Config((("ROWS", 1024), ("TILES", 8)), 8),
        Config((("ROWS", 512), ("TILES", 32))),
    ),
}


def reference(
    buffers: list[torch.Tensor], table: torch.Tensor, kinds: list[int], rules: torch.Tensor, edges: torch.Tensor | None,
    rows: int, width: int, by_column: bool, dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Columns of an arena, or of two buffers each, to a matrix with what was counted on the way.

    Args:
        buffers: uint8 [bytes]; one arena that `table` points into, or values and bitmap of each column.
        table: int64 [C, 6]: byte of the first value, its bit (booleans), byte of the bitmap or -1 if nothing is null, bit of the
            first row in it, column of the matrix, column of the missing indicator or -1.
        kinds: type of each column, a place in DTYPES; columns of one type stand together.
        rules: float64 [C, 5]: fill, low, high, mean, inverse_scale.
        edges: None, or int64 [C, E]: the bits of float64 for floating columns, floor(edge) for others. Values of
            uint64 beyond int64 count as the negative ones that their bits are there.

    Returns:
        matrix [rows, width], or [width, rows] by column, 0 where nobody writes; counts int64 [C, E + 4] (nothing: [0, 0]);
        extremes float64 [C, 2], least and largest valid finite value, +inf and -inf if there is none (nothing: [0, 2]).
    """
    columns = torch.empty((width, rows), dtype=dtype, device=table.device)
    if width > len(kinds):  # padding, and indicators of columns without nulls
        columns.zero_()
    counts, extremes = _nothing(table, edges)
    fills = _filled(kinds, rules, dtype)
    for c, (place, rule) in enumerate(zip(table.tolist(), rules.tolist(), strict=True)):
        values, mask = column(buffers, place, c, kinds[c], rows)
        out = columns[place[COLUMN]]
        if values.dtype == dtype == torch.float32:
            _scale(values, rule, out)
        else:
            wide = _precision(kinds[c], dtype)
            out.copy_(_scale(values.to(wide), rule, torch.empty_like(values, dtype=wide)))
        if mask is not None:
            _put(out, mask, fills[c])
        if place[INDICATOR] >= 0 and mask is not None:
            columns[place[INDICATOR]] = mask + 1
        if edges is not None:
            _count(values, mask, edges[c], kinds[c], counts[c], extremes[c])
    return columns if by_column else columns.t().contiguous(), counts, extremes


def _scale(values: torch.Tensor, rule: list[float], out: torch.Tensor) -> torch.Tensor:
    """Clamp keeps NaN. Every step is a pass over memory in cache; what changes nothing is left out."""
    _, low, high, mean, inverse = rule
    if low > -math.inf or high < math.inf:
        values = torch.clamp(values, low, high, out=out)
    torch.sub(values, mean, out=out)
    return out.mul_(inverse) if inverse != 1.0 else out


def _filled(kinds: list[int], rules: torch.Tensor, dtype: torch.dtype) -> list[float]:
    """What a null becomes in each column: its fill by the arithmetic of its values."""
    fill, low, high, mean, inverse = rules.cpu().unbind(1)
    narrow, wide = (
        ((torch.clamp(fill.to(t), low.to(t), high.to(t)) - mean.to(t)) * inverse.to(t)).to(dtype).tolist()
        for t in (torch.float32, torch.float64)
    )
    return [(narrow if _precision(kind, dtype) == torch.float32 else wide)[c] for c, kind in enumerate(kinds)]


def _precision(kind: int, dtype: torch.dtype) -> torch.dtype:
    """In which a column is computed."""
    return torch.float32 if kind == FLOAT32 and dtype != torch.float64 else torch.float64


def _put(out: torch.Tensor, mask: torch.Tensor, filled: float) -> None:
    """Into the null slots: ((y ^ f) & mask) ^ f, steady whatever is null, an eighth of the time of torch.where."""
    if out.dtype != torch.float32:
        out.masked_fill_(mask == 0, filled)
        return
    bits, pattern = out.view(torch.int32), struct.unpack("<i", struct.pack("<f", filled))[0]
    if pattern:
        bits.bitwise_xor_(pattern).bitwise_and_(mask).bitwise_xor_(pattern)
    else:
        bits.bitwise_and_(mask)


def _count(
    values: torch.Tensor, mask: torch.Tensor | None, edges: torch.Tensor, kind: int, counts: torch.Tensor, extremes: torch.Tensor
) -> None:
    floating = kind in (FLOAT32, FLOAT64)
    x = values if floating else values.long()
    valid = torch.ones_like(x, dtype=torch.bool) if mask is None else mask.bool()
    finite = valid & x.isfinite() if floating else valid
    for place, edge in enumerate((edges.view(torch.float64) if floating else edges).tolist()):
        counts[place] = (finite & (x <= edge)).sum()
    counts[-FACTS] = (~valid).sum()
    if floating:
        counts[1 - FACTS], counts[2 - FACTS] = (valid & x.isnan()).sum(), (valid & (x == math.inf)).sum()
        counts[3 - FACTS] = (valid & (x == -math.inf)).sum()
    if finite.any():
        kept = x[finite].double()
        extremes[0], extremes[1] = kept.min(), kept.max()


def check(
    buffers: list[torch.Tensor], table: torch.Tensor, kinds: list[int], rules: torch.Tensor, edges: torch.Tensor | None,
    rows: int, width: int, by_column: bool, dtype: torch.dtype,
) -> None:  # fmt: skip
    check_buffers(NAME, buffers, table, kinds, 6)
    require.tensor(NAME, "rules", rules, (torch.float64,), (len(kinds), 5), table)
    require.choice(NAME, "dtype", dtype, (torch.float32, torch.bfloat16, torch.float64))
    if edges is not None:
        require.tensor(NAME, "edges", edges, (torch.int64,), (len(kinds), None), table)
    if width < len(kinds) or rows < 0:
        raise ValueError(f"{NAME}: argument 'width' is {width} and 'rows' {rows}, expected at least {len(kinds)} and 0")


def refuses(
    buffers: list[torch.Tensor], table: torch.Tensor, kinds: list[int], rules: torch.Tensor, edges: torch.Tensor | None,
    rows: int, width: int, by_column: bool, dtype: torch.dtype,
) -> str | None:  # fmt: skip
    if len(buffers) != 1:
        return "columns lie in buffers of their own, not in one arena"
    if buffers[0].numel() % 8:
        return f"the arena has {buffers[0].numel()} bytes, no multiple of 8"
    if edges is not None and edges.shape[1] > MAX_EDGES:
        return f"{edges.shape[1]} edges do not fit in 16 fields (limit {MAX_EDGES})"
    return "float64 is for references" if dtype == torch.float64 else None


def fake(
    buffers: list[torch.Tensor], table: torch.Tensor, kinds: list[int], rules: torch.Tensor, edges: torch.Tensor | None,
    rows: int, width: int, by_column: bool, dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    matrix = table.new_empty((width, rows) if by_column else (rows, width), dtype=dtype)
    return matrix, *_nothing(table, edges)


def _nothing(table: torch.Tensor, edges: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Counts and extremes of no rows."""
    shape = (0, 0) if edges is None else (edges.shape[0], edges.shape[1] + FACTS)
    extremes = table.new_full((shape[0], 2), math.inf, dtype=torch.float64)
    extremes[:, 1] = -math.inf
    return table.new_zeros(shape), extremes


def fused(
    buffers: list[torch.Tensor], table: torch.Tensor, kinds: list[int], rules: torch.Tensor, edges: torch.Tensor | None,
    rows: int, width: int, by_column: bool, dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    matrix, counts, extremes = fake(buffers, table, kinds, rules, edges, rows, width, by_column, dtype)
    if width > len(kinds):  # padding, and indicators of columns without nulls
        (matrix if by_column else matrix.t()).zero_()
    blocks = pick(NAME, "rows", CONFIGS["rows"], table.device)
    wide = dict(blocks.blocks)["COLUMNS"]
    alone = by_column or wide == 1
    config = pick(NAME, "columns", CONFIGS["columns"], table.device)
    programs, columns = cdiv(rows, _rows_of(config)), len(kinds)
    pairs = table.new_empty((0 if edges is None else programs, columns, 2), dtype=torch.float64)
    strides = (1, rows) if by_column else (width, 1)
    for kind, first, count in groups(kinds) if rows else ():
        given = buffers[0], view(buffers[0], kind), table, rules
        told = "bool" if kind == BOOL else "float" if kind in (FLOAT32, FLOAT64) else "integer"
        if not alone:
            grid = cdiv(count, wide), cdiv(rows, _rows_of(blocks))
            turned[grid](*given, matrix, rows, first, first + count, width, KIND=told, **blocks.options())
        if alone or edges is not None:
            _kernel[count, programs](
                *given, table if edges is None else edges, matrix, counts, pairs, rows, first, columns, *strides,
                KIND=told, EDGES=-1 if edges is None else edges.shape[1], STORE=alone, **config.options(),
            )  # fmt: skip
    if edges is not None and programs:
        extremes = torch.stack((pairs[:, :, 0].amin(0), pairs[:, :, 1].amax(0)), 1)
    return matrix, counts, extremes


def _rows_of(config: Config) -> int:
    """Of a program."""
    blocks = dict(config.blocks)
    return blocks["ROWS"] * blocks["TILES"]


@jit(do_not_specialize=["rows", "first", "columns", "row_stride", "column_stride"])
def _kernel(
    arena, elements, table, rules, edges, matrix, counts, pairs, rows, first, columns, row_stride, column_stride,
    KIND: tl.constexpr, EDGES: tl.constexpr, STORE: tl.constexpr, ROWS: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    c = (first + tl.program_id(0)).to(tl.int64)
    program = tl.program_id(1).to(tl.int64)
    values_at, value_bit = tl.load(table + c * 6), tl.load(table + c * 6 + 1)
    start = placed(elements, values_at)
    bitmap_at, bit = tl.load(table + c * 6 + 2), tl.load(table + c * 6 + 3)
    to = matrix + tl.load(table + c * 6 + 4) * column_stride
    indicator = tl.load(table + c * 6 + 5)
    noted = tl.where(indicator >= 0, rows, 0).to(tl.int64)
    fill, low, high, mean, inverse = ruled(elements, rules + c * 5)
    wide = fill.dtype
    fields, more = tl.zeros((ROWS,), tl.int64), tl.zeros((ROWS,), tl.int64)
    least, largest = tl.full((ROWS,), float("inf"), wide), tl.full((ROWS,), float("-inf"), wide)
    left = tl.minimum((rows - program * TILES * ROWS + ROWS - 1) // ROWS, TILES)
    for tile in range(left):
        row = (program * TILES + tile) * ROWS + tl.arange(0, ROWS)
        mask = row < rows
        value, valid = decoded(arena, elements, start, values_at, value_bit, bitmap_at, bit, row, rows, KIND)
        if STORE:
            x = scaled(value, valid, fill, low, high, mean, inverse)
            tl.store(to + row * row_stride, x.to(matrix.dtype.element_ty), mask=mask)
            missing = tl.where(valid, 0.0, 1.0).to(matrix.dtype.element_ty)
            tl.store(matrix + indicator * column_stride + row * row_stride, missing, mask=row < noted)
        if EDGES >= 0:
            bin = tl.where(mask, field(value, valid, edges + c * EDGES, KIND, EDGES), 15)
            one = tl.full((ROWS,), 1, tl.int64) << ((bin & 7) * 8).to(tl.int64)
            fields += tl.where(bin < 8, one, 0)
            more += tl.where(bin < 8, 0, one)
            least = tl.minimum(least, tl.where(bin <= EDGES, value.to(wide), float("inf")))
            largest = tl.maximum(largest, tl.where(bin <= EDGES, value.to(wide), float("-inf")))
    if EDGES >= 0:
        add(counts + c * (EDGES + 4), fields, more, EDGES)
        pair = pairs + (program * columns + c) * 2
        tl.store(pair, tl.min(least, 0).to(tl.float64))
        tl.store(pair + 1, tl.max(largest, 0).to(tl.float64))


op = register(NAME, reference, fused, check, refuses, fake)


def cases() -> list[Case]:
    mixed = ["float32", "float32", "float64", "int8", "int32", "int64", "uint8", "bool"]
    small = [
        case("mixed", mixed, 300, edges=7),
        case("bfloat16", ["float32", "bool", "int64"], 1030, dtype=torch.bfloat16),
        case("by-column", ["float32", "float64", "bool"], 300, edges=7, by_column=True),
        case("long", ["float32"], 4997, edges=7),
        case("unsigned", ["uint64"], 70),
        case("one-row", ["float32", "int64"], 1, edges=7),
        case("empty", ["float32", "int64"], 0, edges=7),
        case("all-null", ["float64", "int32"], 130, edges=7, nulls=1.0),
    ]
    large = [case(f"{1 << 20}x64-{name}", kinds, 1 << 20, edges=7, size="large") for name, kinds in (
        ("float32", ["float32"] * 64),
        ("mixed", ["float32"] * 24 + ["float64"] * 8 + ["int8"] * 8 + ["int32"] * 16 + ["int64"] * 8),
    )]  # fmt: skip
    return small + large


def case(
    name: str, kinds: list[str], rows: int, edges: int = 0, nulls: float = 0.2, by_column: bool = False,
    dtype: torch.dtype = torch.float32, size: str = "small",
) -> Case:  # fmt: skip
    """Every other column has nulls, every third an indicator; bit offsets differ; columns stand in the matrix in reverse."""

    def make(draw: torch.Generator, device: torch.device) -> Arguments:
        given = [drawn(draw, kind, rows, nulls if c % 2 == 0 else 0.0, 3 * c) for c, kind in enumerate(kinds)]
        laid, places = arena(given)
        noted = [c for c in range(len(kinds)) if c % 3 == 0]
        outputs = [[len(kinds) - 1 - c, len(kinds) + noted.index(c) if c in noted else -1] for c in range(len(kinds))]
        table = torch.tensor([[*place, *out] for place, out in zip(places, outputs, strict=True)], dtype=torch.int64)
        rules = torch.tensor([[0.5, -1.5, 4.25, 0.5 * (c % 3), 1.0 + 0.25 * (c % 4)] for c in range(len(kinds))]).double()
        floats = torch.tensor([[e - edges / 2 + 0.125 for e in range(edges)]], dtype=torch.float64).view(torch.int64)
        limits = torch.cat([floats if k.startswith("float") else torch.arange(edges)[None] for k in kinds]) if edges else None
        return {
            "buffers": [laid.to(device)], "table": table.to(device), "kinds": [KINDS[kind] for kind in kinds],
            "rules": rules.to(device), "edges": None if limits is None else limits.to(device), "rows": rows,
            "width": -(-(len(kinds) + len(noted)) // 8) * 8, "by_column": by_column, "dtype": dtype,
        }  # fmt: skip

    return Case(name, make, size)  # type: ignore[arg-type]


def traffic(arguments: Arguments) -> Traffic:
    rows, out = arguments["rows"], arguments["dtype"].itemsize
    nulls = int((arguments["table"][:, 2] >= 0).sum())
    values = sum(DTYPES[kind].itemsize for kind in arguments["kinds"])
    edges = 0 if arguments["edges"] is None else arguments["edges"].shape[1]
    return Traffic(rows * (values + arguments["width"] * out) + nulls * rows // 8, rows * len(arguments["kinds"]) * (2 + edges))
