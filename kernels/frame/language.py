"""Triton where it is installed; else stand-ins, so that references can be imported beside a CPU build of torch.

Kernel files take `jit`, `tl` and `cdiv` from here. Without Triton a kernel cannot be launched, and says so.
"""

import os
from typing import Any

os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # the default of 3.9 and before, said aloud: 3.10 turns it
try:
    import triton
    import triton.language as tl
except ImportError:
    triton = None

    class tl:  # type: ignore[no-redef]  # noqa: N801 - stands for a module
        """What signatures of kernels mention; bodies are never run."""

        constexpr = int


def jit(*given: Any, **options: Any) -> Any:
    """`triton.jit`, with its options or without. Name counts of rows in `do_not_specialize`: 1 would become a constant (and crash
    what casts it), and a multiple of 16 would be compiled again in the middle of a run.
    """
    if triton is not None:
        return triton.jit(*given, **options)
    return _absent(given[0]) if given else _absent


def _absent(function: Any) -> Any:
    class Absent:
        def __getitem__(self, grid: Any) -> Any:
            raise RuntimeError(f"Kernel {function.__name__} needs Triton, which is not installed")

    return Absent()


def cdiv(count: int, size: int) -> int:
    """How many blocks of `size` cover `count`."""
    return -(-count // size)


def power_of_2(count: int) -> int:
    """The least power of two that is not below `count`; 1 for 0."""
    return 1 << max(count - 1, 0).bit_length()
