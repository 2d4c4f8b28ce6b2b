"""Arenas as a lane would build them, with everything that must not be looked at poisoned: for cases and tests of Arrow kernels."""

import torch

from .arrow import BOOL, DTYPES, KINDS

POISON = 0xA5
SLOT = 128  # bytes at whose multiples slots begin


def arena(columns: list[tuple[torch.Tensor, torch.Tensor | None, int]], gap: int = 0) -> tuple[torch.Tensor, list[list[int]]]:
    """Lay (values, valid or None, bit offset) one after the other.

    Returns: uint8 [bytes], full of poison between the slots; for each column the four numbers of a table of places. `gap` bytes
    stand before the first slot.
    """
    slots, places, end = [], [], -(-gap // SLOT) * SLOT
    for values, valid, offset in columns:
        place = [end, offset if values.dtype == torch.bool else 0, -1, 0]
        packed = packed_bits(values, offset) if values.dtype == torch.bool else values.contiguous().view(torch.uint8)
        slots.append((end, packed))
        end += -(-max(len(packed), 1) // SLOT) * SLOT
        if valid is not None:
            place[2:] = [end + offset // 8, offset % 8]
            slots.append((end, packed_bits(valid, offset)))
            end += -(-max(len(slots[-1][1]), 1) // SLOT) * SLOT
        places.append(place)
    laid = torch.empty(end, dtype=torch.uint8)
    laid[-(-gap // SLOT) * SLOT :] = POISON
    for at, packed in slots:
        laid[at : at + len(packed)] = packed
    return laid, places


def packed_bits(given: torch.Tensor, offset: int) -> torch.Tensor:
    """LSB bits from bit `offset` on; the bits around them are ones and zeros in turn."""
    around = torch.arange(offset + len(given) + 16) % 2 == 0
    around[offset : offset + len(given)] = given
    whole = around[: (offset + len(given) + 7) // 8 * 8].view(-1, 8).int()
    return (whole << torch.arange(8)).sum(1).to(torch.uint8)


def drawn(draw: torch.Generator, kind: str, rows: int, nulls: float, offset: int) -> tuple[torch.Tensor, torch.Tensor | None, int]:
    """A column of this type: values around 1, small integers; NaN under the nulls of floats, the largest value under others."""
    dtype = DTYPES[KINDS[kind]]
    if KINDS[kind] == BOOL:
        values = torch.rand(rows, generator=draw) < 0.5
    elif dtype.is_floating_point:
        values = torch.randn(rows, generator=draw, dtype=torch.float64).add(1).to(dtype)
    else:
        values = torch.randint(0, 7, (rows,), generator=draw, dtype=torch.int64).to(dtype)
    if not nulls:
        return values, None, offset
    valid = torch.rand(rows, generator=draw) >= nulls
    if KINDS[kind] != BOOL:
        raw = values.view(getattr(torch, f"int{8 * dtype.itemsize}"))
        raw[~valid] = -1
    return values, valid, offset
