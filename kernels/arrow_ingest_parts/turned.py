"""From columns to rows: tiles that are read along columns, turned round and stored along rows."""

from ..frame.language import jit, tl
from .values import decoded, placed, ruled, scaled


@jit(do_not_specialize=["rows", "first", "last", "stride"])
def turned(
    arena, elements, table, rules, matrix, rows, first, last, stride,
    KIND: tl.constexpr, COLUMNS: tl.constexpr, ROWS: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """`first` to `last`: columns of one type. What stands in a row side by side is stored by one warp, in whole sectors."""
    own = first + tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    c = tl.minimum(own, last - 1).to(tl.int64)  # beyond the last column stand copies of it, which are not stored
    begins = tl.load(table + c * 6)
    start, values_at, value_bit = placed(elements, begins)[:, None], begins[:, None], tl.load(table + c * 6 + 1)[:, None]
    bitmap_at, bit = tl.load(table + c * 6 + 2)[:, None], tl.load(table + c * 6 + 3)[:, None]
    # Columns stand in any order. Still lanes of a warp are to take columns; no store is wide, since nothing here is aligned.
    to = tl.max_contiguous(tl.load(table + c * 6 + 4), COLUMNS)[None, :]
    indicator = tl.max_contiguous(tl.load(table + c * 6 + 5), COLUMNS)[None, :]
    there, noted = (own < last)[None, :], (own < last)[None, :] & (indicator >= 0)
    fill, low, high, mean, inverse = ruled(elements, rules + c[:, None] * 5)
    program = tl.program_id(1).to(tl.int64)
    left = tl.minimum((rows - program * TILES * ROWS + ROWS - 1) // ROWS, TILES)
    for tile in range(left):
        row = (program * TILES + tile) * ROWS + tl.arange(0, ROWS)
        value, valid = decoded(arena, elements, start, values_at, value_bit, bitmap_at, bit, row[None, :], rows, KIND)
        x = scaled(value, valid, fill, low, high, mean, inverse).to(matrix.dtype.element_ty)
        inside, out = (row < rows)[:, None], matrix + row[:, None] * stride
        tl.store(out + to, tl.trans(x), mask=inside & there)
        missing = tl.where(valid, 0.0, 1.0).to(matrix.dtype.element_ty)
        tl.store(out + indicator, tl.trans(missing), mask=inside & noted)
