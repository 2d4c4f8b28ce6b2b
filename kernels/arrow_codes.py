"""arrow_codes: dictionary indices and integer categories of Arrow columns to the slots of embedding tables.

    slot = lookup[clip(value - below, 0, len(lookup) - 1)], or the value itself where there is no lookup;   0, "unknown", where null

A dictionary is renumbered by a lookup made for its batch. Integers whose vocabulary lies close together have one made with the
model, with 0 at both ends, so that what is clipped is unknown. A difference that wraps around in 64 bits is clipped too.

Floor: bytes = rows * (width of the value + 1/8 for a bitmap + 4) a column, lookups from cache; flops 0; HBM-bound.
One launch a column: each has pointers, type and lookup of its own. On an H200 the 21 us of a launch on the host bind, at 4 million
rows as at 65 thousand; a lane has a few such columns in a window that takes 19 ms. On trust: a lookup holds slots.
"""

import torch

from .frame import check as require
from .frame.arrow import bits
from .frame.arrow_cases import drawn, packed_bits
from .frame.case import Arguments, Case, Tolerances, Traffic
from .frame.language import cdiv, jit, tl
from .frame.operator import register
from .frame.tuning import Config, pick

NAME = "arrow_codes"
INTEGERS = (
    torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32, torch.uint64,
)  # fmt: skip
TOLERANCES: Tolerances = {}  # slots are integers, and equal
INSTRUCTIONS = ()  # masks at the end of a column keep loads at the width of a value: 128 bytes a warp, and behind a copy anyway
CONFIGS = {"any": (Config((("ROWS", 1024),)),)}


def reference(
    values: list[torch.Tensor], bitmaps: list[torch.Tensor], offsets: list[int], below: list[int], lookups: list[torch.Tensor]
) -> torch.Tensor:
    """Per column: `values` integers [rows]; `bitmaps` uint8 [bytes], empty if nothing is null, with the first row at bit `offsets`;
    `below` the value that stands at place 0 of `lookups`, int32 [places], empty for none. Returns slots int32 [columns, rows].
    """
    rows = len(values[0])
    slots = torch.empty((len(values), rows), dtype=torch.int32, device=values[0].device)
    for out, given, bitmap, offset, low, lookup in zip(slots, values, bitmaps, offsets, below, lookups, strict=True):
        if len(lookup):
            torch.index_select(lookup, 0, _places(given, low, len(lookup)), out=out)
        else:
            out.copy_(given)
        if len(bitmap):
            out.bitwise_and_(bits(bitmap, 0, offset, rows))
    return slots


def _places(given: torch.Tensor, below: int, places: int) -> torch.Tensor:
    """clip(given - below, 0, places - 1). Clipped first, a difference of 32 bits cannot wrap, and takes half the memory."""
    if given.dtype == torch.int32 and below >= -(2**31) and below + places - 1 < 2**31:
        return given.clamp(below, below + places - 1).sub_(below)
    return (given.long() - below).clamp_(0, places - 1)


def check(
    values: list[torch.Tensor], bitmaps: list[torch.Tensor], offsets: list[int], below: list[int], lookups: list[torch.Tensor]
) -> None:
    counts = [len(given) for given in (values, bitmaps, offsets, below, lookups)]
    if len(set(counts)) != 1 or not values:
        raise ValueError(f"{NAME}: arguments describe {counts} columns, expected the same number of each, and one at least")
    rows = len(values[0])
    for column, (given, bitmap, offset, lookup) in enumerate(zip(values, bitmaps, offsets, lookups, strict=True)):
        require.tensor(NAME, f"values[{column}]", given, INTEGERS, (rows,), values[0])
        require.tensor(NAME, f"bitmaps[{column}]", bitmap, (torch.uint8,), (None,), values[0])
        require.tensor(NAME, f"lookups[{column}]", lookup, (torch.int32,), (None,), values[0])
        if len(bitmap) and 8 * len(bitmap) < offset + rows:
            raise ValueError(f"{NAME}: argument 'bitmaps[{column}]' has {len(bitmap)} bytes, too few for {rows} rows from {offset}")


def refuses(
    values: list[torch.Tensor], bitmaps: list[torch.Tensor], offsets: list[int], below: list[int], lookups: list[torch.Tensor]
) -> str | None:
    return None


def fake(
    values: list[torch.Tensor], bitmaps: list[torch.Tensor], offsets: list[int], below: list[int], lookups: list[torch.Tensor]
) -> torch.Tensor:
    return values[0].new_empty((len(values), values[0].shape[0]), dtype=torch.int32)


def fused(
    values: list[torch.Tensor], bitmaps: list[torch.Tensor], offsets: list[int], below: list[int], lookups: list[torch.Tensor]
) -> torch.Tensor:
    slots = fake(values, bitmaps, offsets, below, lookups)
    config, rows = pick(NAME, "any", CONFIGS["any"], slots.device), slots.shape[1]
    grid = (cdiv(rows, dict(config.blocks)["ROWS"]),)
    for out, given, bitmap, offset, low, lookup in zip(slots, values, bitmaps, offsets, below, lookups, strict=True):
        if rows:
            _kernel[grid](
                given, bitmap if len(bitmap) else out, lookup if len(lookup) else out, out, rows, offset, low, len(lookup),
                NULLS=len(bitmap) > 0, LOOKUP=len(lookup) > 0, **config.options(),
            )  # fmt: skip
    return slots


@jit(do_not_specialize=["rows", "offset", "below", "places"])
def _kernel(
    values, bitmap, lookup, slots, rows, offset, below, places,
    NULLS: tl.constexpr, LOOKUP: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    mask = row < rows
    value = tl.load(values + row, mask=mask, other=0).to(tl.int64)
    if LOOKUP:
        place = tl.minimum(tl.maximum(value - below, 0), places - 1)
        value = tl.load(lookup + place, mask=mask, other=0).to(tl.int64)
    if NULLS:
        byte = tl.load(bitmap + ((offset + row) >> 3), mask=mask, other=0).to(tl.int32)
        value = tl.where(((byte >> ((offset + row) & 7).to(tl.int32)) & 1) != 0, value, 0)
    tl.store(slots + row, value.to(tl.int32), mask=mask)


op = register(NAME, reference, fused, check, refuses, fake)


def cases() -> list[Case]:
    small = [
        case("types", ["int8", "int16", "uint64", "uint8", "int64", "uint32"], 300),
        case("dictionaries", ["int32", "int8"], 2100),
        case("one-row", ["int32", "int64"], 1),
        case("empty", ["int16"], 0),
    ]
    return [*small, case(f"{1 << 22}x26-int32", ["int32"] * 26, 1 << 22, size="large")]


def case(name: str, kinds: list[str], rows: int, size: str = "small") -> Case:
    """Every other column has nulls, and every third none but slots ready made."""

    def make(draw: torch.Generator, device: torch.device) -> Arguments:
        columns = [drawn(draw, kind, rows, 0.2 if c % 2 == 0 else 0.0, 5 * c) for c, kind in enumerate(kinds)]
        packed = [torch.empty(0, dtype=torch.uint8) if valid is None else packed_bits(valid, at) for _, valid, at in columns]
        lookups = [torch.arange(6 if c % 3 else 0, dtype=torch.int32) for c in range(len(kinds))]
        return {
            "values": [values.to(device) for values, _, _ in columns], "bitmaps": [p.to(device) for p in packed],
            "offsets": [at for _, _, at in columns], "below": [c % 4 for c in range(len(kinds))],
            "lookups": [lookup.to(device) for lookup in lookups],
        }  # fmt: skip

    return Case(name, make, size)  # type: ignore[arg-type]


def traffic(arguments: Arguments) -> Traffic:
    rows = len(arguments["values"][0])
    values = sum(given.element_size() for given in arguments["values"])
    bitmaps = sum(len(bitmap) for bitmap in arguments["bitmaps"])
    return Traffic(rows * (values + 4 * len(arguments["values"])) + bitmaps)
