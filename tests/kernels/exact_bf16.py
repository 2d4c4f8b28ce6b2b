"""Triton's interpreter with bfloat16 that rounds as a GPU does.

As shipped (3.6, 3.9) it truncates on the way to bfloat16 and computes on bit patterns otherwise. Here every bfloat16 operation goes
through float32 with round-to-nearest-even. Touches the interpreter's own classes: a new release of Triton may need a new patch, and
`tests/kernels/test_every_kernel.py` would show it.
"""

from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

Handle = interpreter.TensorHandle
_CASTS = ("create_si_to_fp", "create_ui_to_fp", "create_fp_to_si", "create_fp_to_ui", "create_fp_ext", "create_fp_trunc")


def widened(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def narrowed(values: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    nan = np.uint16(0x7FC0) | ((bits >> 16).astype(np.uint16) & np.uint16(0x8000))
    return np.where(np.isnan(values), nan, rounded)


def _is_bf16(handle: Any) -> bool:
    return handle.dtype.scalar == tl.bfloat16


def _values(handle: Any) -> np.ndarray:
    return widened(handle.data) if _is_bf16(handle) else handle.data


def install() -> None:
    builder = interpreter.InterpreterBuilder
    cast, convert, dot, binary, unary = (
        builder.cast_impl, builder.create_fp_to_fp, builder.create_dot, builder.binary_op, builder.unary_op,
    )  # fmt: skip

    def cast_impl(self: Any, given: Any, wanted: Any) -> Any:
        if _is_bf16(given) and wanted.scalar == tl.bfloat16:
            return Handle(given.data, tl.bfloat16)
        if _is_bf16(given):
            return Handle(widened(given.data).astype(interpreter._get_np_dtype(wanted)), wanted.scalar)
        if wanted.scalar == tl.bfloat16:
            return Handle(narrowed(given.data.astype(np.float32)), tl.bfloat16)
        return cast(self, given, wanted)

    def create_fp_to_fp(self: Any, given: Any, wanted: Any, rounding: Any) -> Any:
        if _is_bf16(given) or wanted.scalar == tl.bfloat16:
            return cast_impl(self, given, wanted)
        return convert(self, given, wanted, rounding)

    def create_dot(self: Any, a: Any, b: Any, d: Any, precision: Any, imprecise: Any) -> Any:
        if _is_bf16(a) or _is_bf16(b):
            return Handle(np.matmul(_values(a), _values(b), dtype=d.data.dtype) + d.data, d.dtype.scalar)
        return dot(self, a, b, d, precision, imprecise)

    def binary_op(self: Any, left: Any, right: Any, compute: Any) -> Any:
        if not _is_bf16(left):
            return binary(self, left, right, compute)
        found = compute(_values(left), _values(right))
        return Handle(narrowed(found), tl.bfloat16) if found.dtype == np.float32 else Handle(found, tl.int1)

    def unary_op(self: Any, given: Any, compute: Any) -> Any:
        return Handle(narrowed(compute(_values(given))), tl.bfloat16) if _is_bf16(given) else unary(self, given, compute)

    builder.cast_impl, builder.create_fp_to_fp, builder.create_dot = cast_impl, create_fp_to_fp, create_dot
    builder.binary_op, builder.unary_op = binary_op, unary_op
    for name in _CASTS:
        setattr(builder, name, lambda self, given, wanted: self.cast_impl(given, wanted))
