"""Arrow buffers as tensors: which types there are, and a column's values and validity out of an arena or of buffers as they lie."""

from functools import cache

import torch

DTYPES = (
    torch.bool, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.float32, torch.float64,
)  # fmt: skip
KINDS = {str(dtype)[6:]: kind for kind, dtype in enumerate(DTYPES)}  # "int8" -> 1
BOOL, FLOAT32, FLOAT64 = KINDS["bool"], KINDS["float32"], KINDS["float64"]
VALUES, VALUE_BIT, BITMAP, BIT = range(4)  # columns of a table of places: byte, bit (of booleans), byte or -1, bit


def check_buffers(name: str, buffers: list[torch.Tensor], table: torch.Tensor, kinds: list[int], columns: int) -> None:
    """Raises: TypeError, ValueError: not an arena or two buffers a column, a table of other shape, a kind that is not known."""
    if len(buffers) not in (1, 2 * len(kinds)):
        raise ValueError(f"{name}: argument 'buffers' has {len(buffers)} tensors, expected 1 (an arena) or 2 for each column")
    for buffer in buffers:
        if buffer.dtype != torch.uint8 or buffer.dim() != 1:
            raise TypeError(f"{name}: argument 'buffers' holds {buffer.dtype} {tuple(buffer.shape)}, expected uint8 (bytes,)")
    if table.dtype != torch.int64 or table.shape != (len(kinds), columns) or not table.is_contiguous():
        raise TypeError(
            f"{name}: argument 'table' is {table.dtype} {tuple(table.shape)}, expected contiguous int64 ({len(kinds)}, {columns})"
        )
    if unknown := [kind for kind in kinds if not 0 <= kind < len(DTYPES)]:
        raise ValueError(f"{name}: argument 'kinds' holds {unknown[0]}, expected 0 to {len(DTYPES) - 1}")


def groups(kinds: list[int]) -> list[tuple[int, int, int]]:
    """(kind, first column, columns) for each run of one kind."""
    found: list[tuple[int, int, int]] = []
    for place, kind in enumerate(kinds):
        if found and found[-1][0] == kind:
            found[-1] = (kind, found[-1][1], found[-1][2] + 1)
        else:
            found.append((kind, place, 1))
    return found


def column(buffers: list[torch.Tensor], place: list[int], c: int, kind: int, rows: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Values [rows] in their own dtype (booleans as int32), and an int32 mask [rows]: -1 valid, 0 null; None: no nulls."""
    values, bitmap = (buffers[0], buffers[0]) if len(buffers) == 1 else (buffers[2 * c], buffers[2 * c + 1])
    mask = None if place[BITMAP] < 0 else bits(bitmap, place[BITMAP], place[BIT], rows)
    if kind == BOOL:
        return bits(values, place[VALUES], place[VALUE_BIT], rows).neg(), mask
    size = DTYPES[kind].itemsize
    return values[place[VALUES] : place[VALUES] + rows * size].view(DTYPES[kind]), mask


def bits(buffer: torch.Tensor, byte: int, bit: int, rows: int) -> torch.Tensor:
    """LSB bits to int32 [rows]: -1 for 1, 0 for 0. A table row gives eight at once (0.5 ns a bit; shifts and masks take 3)."""
    packed = buffer[byte : byte + (bit + rows + 7) // 8]
    return _octets(buffer.device).index_select(0, packed.int()).view(-1)[bit : bit + rows]


@cache
def _octets(device: torch.device) -> torch.Tensor:
    return -((torch.arange(256)[:, None] >> torch.arange(8)) & 1).int().to(device)


def view(arena: torch.Tensor, kind: int) -> torch.Tensor:
    """The arena as elements of a type, so that a kernel's pointer has it; booleans stay bytes."""
    return arena if kind == BOOL else arena.view(DTYPES[kind])
