"""What happens to a tile of whole rows within the kernel: loads and stores, activation and confidence, the best."""

from ..frame.language import jit, tl

LEAST = tl.constexpr(-(2**31))  # key of what cannot be chosen; that of NaN is one above, those of numbers follow


@jit
def load(source, mask, full, WIDTH: tl.constexpr):
    """Rows of one column touch, but a mask of rows is not aligned: with it, loads would be of one element."""
    if WIDTH == 1:
        x = tl.load(source) if full else tl.load(source, mask=mask, other=0.0)
    else:
        x = tl.load(source, mask=mask, other=0.0)
    return x


@jit
def store(target, value, mask, full, WIDTH: tl.constexpr):
    if WIDTH == 1:
        if full:
            tl.store(target, value)
        else:
            tl.store(target, value, mask=mask)
    else:
        tl.store(target, value, mask=mask)


@jit
def activate(z, inside, ACTIVATION: tl.constexpr):
    """Scores; margin of one sigmoid; entropy. Margin and entropy that nobody asked for mean nothing."""
    if ACTIVATION == "softmax":
        z = tl.where(inside[None, :], z, float("-inf"))
        d = z - tl.max(z, 1)[:, None]
        e = tl.exp(d)
        s = tl.sum(e, 1)
        p = e / s[:, None]
        entropy = tl.log(s) - tl.sum(e * tl.where(e > 0, d, 0.0), 1) / s  # e = 0 where d = -inf, and their product would be NaN
        margin = entropy
    elif ACTIVATION == "sigmoid":
        p = 1 / (1 + tl.exp(-z))
        e = tl.exp(-tl.abs(z))
        entropy = tl.sum(tl.log(1 + e) + e * tl.where(e > 0, tl.abs(z), 0.0) / (1 + e), 1)
        margin = tl.sum(tl.abs(2 * p - 1), 1)
    else:
        p = z
        entropy = tl.max(z, 1)
        margin = entropy
    return p, margin, entropy


@jit
def choose(p, inside, best, places, there, TOP: tl.constexpr, PASSES: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr):
    """Stores the best, and returns what the first has more than the second (which is 0 where there is none)."""
    bits = (p + 0.0).to(tl.int32, bitcast=True)
    key = tl.where(p == p, bits ^ ((bits >> 31) & 0x7FFFFFFF), LEAST + 1)  # the bits of negative floats sort the other way
    key = tl.where(inside[None, :], key, LEAST)
    margin = there.to(tl.float32)
    for place in range(PASSES):
        most, at = tl.max(key, 1, return_indices=True)
        key = tl.where(tl.arange(0, COLUMNS)[None, :] == at[:, None], LEAST, key)
        value = tl.where(most > LEAST + 1, (most ^ ((most >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True), float("nan"))
        tl.store(best + place, value, mask=there & (place < TOP))
        tl.store(places + place, at, mask=there & (place < TOP))
        margin = tl.where(place == 0, value, tl.where((place == 1) & (WIDTH > 1), margin - value, margin))
    return margin
