"""Arguments of operators, looked at before anything is computed. Errors name the operator and the argument.

Only what costs nothing is checked: shapes, strides, dtypes, devices. Values on a GPU are not read back; what a kernel takes on
trust (ascending offsets, indices in range) stands in its file.
"""

from collections.abc import Sequence

import torch


def tensor(
    operator: str,
    name: str,
    given: torch.Tensor,
    dtypes: Sequence[torch.dtype],
    shape: Sequence[int | None],
    like: torch.Tensor | None = None,
    contiguous: bool = True,
) -> None:
    """`None` in `shape` stands for any length. `like` is the tensor whose device it must share.

    Raises:
        TypeError: another dtype.
        ValueError: another shape, device or layout.
    """
    where = f"{operator}: argument {name!r}"
    if given.dtype not in dtypes:
        raise TypeError(f"{where} is {given.dtype}, expected {' or '.join(str(d) for d in dtypes)}")
    if given.dim() != len(shape) or any(want is not None and have != want for have, want in zip(given.shape, shape, strict=True)):
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise ValueError(f"{where} has shape {tuple(given.shape)}, expected ({wanted})")
    if like is not None and given.device != like.device:
        raise ValueError(f"{where} is on {given.device}, expected {like.device} as the first argument")
    if contiguous and not given.is_contiguous():
        raise ValueError(f"{where} has strides {given.stride()}, expected contiguous rows: call .contiguous()")


def choice(operator: str, name: str, given: object, allowed: Sequence[object]) -> None:
    """Raises: ValueError: not one of `allowed`."""
    if given not in allowed:
        raise ValueError(f"{operator}: argument {name!r} is {given!r}, expected one of {', '.join(repr(a) for a in allowed)}")
