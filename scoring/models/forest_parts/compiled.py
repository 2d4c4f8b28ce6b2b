"""The one way in which loops over rows and trees are compiled: numba, whose decorators say nothing of types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba

P = ParamSpec("P")
R = TypeVar("R")


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Compiled at its first call for each set of argument types, and kept on disk: beside the source, or in the user's cache.

    The function runs without the GIL. Indices are not checked: whoever calls checks what they come from. Floats are IEEE 754 in the
    order written (no fast-math), so that a result depends on nothing but the arguments; x / 0 is inf or NaN, no exception. What it
    calls in another file is compiled into it, and numba does not see when only that other file changes: keep such pairs in one.
    """
    kind: dict[str, Any] = {"nogil": True, "boundscheck": False, "error_model": "numpy", "fastmath": False}
    try:
        found = numba.njit(cache=True, **kind)(function)
    except RuntimeError:  # no folder that can be written: compiled in every process
        found = numba.njit(cache=False, **kind)(function)
    return cast(Callable[P, R], found)
