"""What a value of an Arrow column is: decoded, put on the scale of a network, and the bin that it is counted in."""

from ..frame.language import jit, tl


@jit
def placed(elements, values_at):
    """Where a column begins among the elements of its type: slots begin at 128 bytes."""
    return tl.multiple_of(values_at // (elements.dtype.element_ty.primitive_bitwidth // 8), 16)


@jit
def along(bit):
    """The byte of each bit. Of several columns, lanes of a warp are to take neighbouring rows, not columns: that is all that the
    hint does, since a load as wide as it says would have to be aligned, too.
    """
    byte = bit >> 3
    if len(byte.shape) == 2:
        byte = tl.max_contiguous(byte, (1, 8))
    return byte


@jit
def decoded(arena, elements, start, values_at, value_bit, bitmap_at, bit, row, rows, KIND: tl.constexpr):
    """Values of these rows, and whether they are valid; of one column, or of several one below the other."""
    known = tl.where(bitmap_at >= 0, rows, 0).to(tl.int64)
    whole = row // 16 * 16  # slots are padded: masks in steps of 16 keep loads wide
    if KIND == "bool":
        byte = tl.load(arena + values_at + along(value_bit + row), mask=whole < rows, other=0).to(tl.int32)
        value = (byte >> ((value_bit + row) & 7).to(tl.int32)) & 1
    else:
        value = tl.load(elements + start + row, mask=whole < rows, other=0)
    byte = tl.load(arena + bitmap_at + along(bit + row), mask=whole < known, other=255).to(tl.int32)
    return value, ((byte >> ((bit + row) & 7).to(tl.int32)) & 1) != 0


@jit
def ruled(elements, rules):
    """fill, low, high, mean and inverse_scale of a column, or of each: float32 stays float32, all else is float64."""
    wide = tl.float32 if elements.dtype.element_ty == tl.float32 else tl.float64
    fill, low, high = tl.load(rules).to(wide), tl.load(rules + 1).to(wide), tl.load(rules + 2).to(wide)
    return fill, low, high, tl.load(rules + 3).to(wide), tl.load(rules + 4).to(wide)


@jit
def scaled(value, valid, fill, low, high, mean, inverse):
    x = tl.where(valid, value.to(fill.dtype), fill)
    x = tl.where(x < low, low, x)  # comparisons keep NaN; min and max would drop it
    x = tl.where(x > high, high, x)
    return (x - mean) * inverse


@jit
def field(value, valid, edges, KIND: tl.constexpr, EDGES: tl.constexpr):
    """0 to EDGES: how many edges lie below; then null, NaN, +inf, -inf."""
    found = tl.zeros_like(valid.to(tl.int32))
    for e in tl.static_range(EDGES):
        edge = tl.load(edges + e)
        if KIND == "float":
            found += (value > edge.to(tl.float64, bitcast=True).to(value.dtype)).to(tl.int32)
        else:
            found += (value.to(tl.int64) > edge).to(tl.int32)
    if KIND == "float":
        found = tl.where(value != value, EDGES + 2, found)
        found = tl.where(value == float("inf"), EDGES + 3, found)
        found = tl.where(value == float("-inf"), EDGES + 4, found)
    return tl.where(valid, found, EDGES + 1)


@jit
def add(counts, fields, more, EDGES: tl.constexpr):
    """Sum the lanes' fields of 8 bits, every second one at a time in fields of 16, and add them to the counts of the column."""
    low, high = tl.sum(fields & 0x00FF00FF00FF00FF, 0), tl.sum((fields >> 8) & 0x00FF00FF00FF00FF, 0)
    low_more, high_more = tl.sum(more & 0x00FF00FF00FF00FF, 0), tl.sum((more >> 8) & 0x00FF00FF00FF00FF, 0)
    below = low * 0
    for k in tl.static_range(EDGES + 5):
        even, odd = (low, high) if k < 8 else (low_more, high_more)
        found = ((even if k % 2 == 0 else odd) >> (k % 8 // 2 * 16)) & 0xFFFF
        if k < EDGES:
            below += found
            tl.atomic_add(counts + k, below, sem="relaxed")
        if k > EDGES:
            tl.atomic_add(counts + k - 1, found, sem="relaxed")
