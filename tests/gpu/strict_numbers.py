"""Arithmetic of the strict interpreter: bfloat16, casts, matrix products, reductions and overflow as on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import triton.language as tl
import triton.runtime.interpreter as interpreter
from triton._C.libtriton import ir

from .strict_memory import StrictError

Handle = interpreter.TensorHandle
BF16_NAN = np.uint16(0x7FC0)
CHUNK = 8  # products that a matrix unit adds before it rounds to fp32


def widen(bits: np.ndarray) -> np.ndarray:
    """bfloat16 bits to fp32."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def narrow(values: np.ndarray) -> np.ndarray:
    """fp32 to bfloat16 bits, to nearest even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(values), BF16_NAN, rounded.astype(np.uint16)).reshape(np.shape(values))


def truncate_tf32(values: np.ndarray) -> np.ndarray:
    """What a tensor core sees of fp32 that no instruction rounded: 10 bits of mantissa, the others dropped."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return np.where(np.isfinite(values), (bits & np.uint32(0xFFFFE000)).view(np.float32), values)


def is_bf16(handle: Any) -> bool:
    return handle.dtype.scalar == tl.bfloat16 and handle.data.dtype == np.uint16


def in_fp32(original: Callable[..., Any]) -> Callable[..., Any]:
    """An elementwise builder method, with bfloat16 operands computed in fp32 and rounded once."""

    def method(self: Any, *operands: Any) -> Any:
        handles = [o for o in operands if isinstance(o, Handle)]
        if not any(map(is_bf16, handles)):
            return original(self, *operands)
        wide = [
            Handle(widen(o.data), tl.float32) if isinstance(o, Handle) and is_bf16(o) else o for o in operands
        ]
        result = original(self, *wide)
        if result.data.dtype == np.bool_:
            return Handle(result.data, tl.int1)
        return Handle(narrow(result.data), tl.bfloat16)

    return method


def contracted(original: Callable[..., Any], wanted: Callable[[], bool]) -> Callable[..., Any]:
    """binary_op with a sum of a product rounded once, where `wanted`: compilers make a fused multiply-add of it."""

    def binary_op(self: Any, lhs: Any, rhs: Any, op: Any) -> Any:
        kind = lhs.data.dtype
        if kind not in (np.float32, np.float64):
            return original(self, lhs, rhs, op)
        if op in (np.add, np.subtract) and rhs.data.dtype == kind and wanted():
            sign = kind.type(-1 if op is np.subtract else 1)
            if (factors := lhs.attr.get("product")) is not None:
                return Handle(_fma(factors[0], factors[1], sign * rhs.data), lhs.dtype.scalar)
            if (factors := rhs.attr.get("product")) is not None:
                return Handle(_fma(sign * factors[0], factors[1], lhs.data), lhs.dtype.scalar)
        result = original(self, lhs, rhs, op)
        if op is np.multiply:
            result.attr["product"] = (lhs.data, rhs.data)
        return result

    return binary_op


def _fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    fma = interpreter._interpreter.fma_fp64 if c.dtype == np.float64 else interpreter._interpreter.fma_fp32
    return fma(*np.broadcast_arrays(a, b, c))


def cast(original: Callable[..., Any]) -> Callable[..., Any]:
    def cast_impl(self: Any, source: Any, target: Any) -> Any:
        from_bf16, to_bf16 = is_bf16(source), target.scalar == tl.bfloat16
        if not from_bf16 and not to_bf16:
            return original(self, source, target)
        data = widen(source.data) if from_bf16 else source.data
        if to_bf16:
            return Handle(narrow(data.astype(np.float32)), tl.bfloat16)
        return Handle(data.astype(interpreter._get_np_dtype(target)), target.scalar)

    return cast_impl


def float_cast(original: Callable[..., Any]) -> Callable[..., Any]:
    def create_fp_to_fp(self: Any, source: Any, target: Any, rounding: Any) -> Any:
        narrow_types = {source.dtype.scalar.primitive_bitwidth, target.scalar.primitive_bitwidth}
        if 8 in narrow_types or rounding == ir.ROUNDING_MODE.RTZ:
            return original(self, source, target, rounding)
        return self.cast_impl(source, target)

    return create_fp_to_fp


def product(a: np.ndarray, b: np.ndarray, total: np.ndarray) -> np.ndarray:
    """a @ b + total with exact products, the sum rounded to fp32 after every CHUNK of them.

    In float64 in between: the same two rows give the same bits wherever in the tile they stand.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    for k in range(0, a.shape[-1], CHUNK):
        total = (np.matmul(a[..., k : k + CHUNK], b[..., k : k + CHUNK, :]) + total).astype(np.float32)
    return total


def dot(original: Callable[..., Any]) -> Callable[..., Any]:
    def create_dot(
        self: Any, a: Any, b: Any, c: Any, input_precision: Any, max_num_imprecise_acc: Any
    ) -> Any:
        kind = a.dtype.scalar
        if c.data.dtype != np.float32 or kind not in (tl.float32, tl.float16, tl.bfloat16):
            return original(self, a, b, c, input_precision, max_num_imprecise_acc)
        x, y = (widen(h.data) if kind == tl.bfloat16 else h.data for h in (a, b))
        if kind != tl.float32 or input_precision == ir.INPUT_PRECISION.IEEE:
            return Handle(product(x, y, c.data), tl.float32)
        large_x, large_y = truncate_tf32(x), truncate_tf32(y)
        if input_precision == ir.INPUT_PRECISION.TF32:
            return Handle(product(large_x, large_y, c.data), tl.float32)
        if input_precision != ir.INPUT_PRECISION.TF32x3:
            raise StrictError(f"no emulation of input_precision {input_precision}")
        small_x, small_y = truncate_tf32(x - large_x), truncate_tf32(y - large_y)
        mixed = product(small_x, large_y, np.zeros_like(c.data))
        mixed = product(large_x, small_y, mixed)
        mixed = np.where(np.isnan(mixed), np.float32(0), mixed)  # inf − inf in the small parts, as compiled
        return Handle(product(large_x, large_y, c.data + mixed), tl.float32)

    return create_dot


def check_overflow(lhs: Any, rhs: Any, operation: Callable[..., Any]) -> None:
    """Signed integers narrower than 64 bits, where the operation asks for the check (the operators + − × do)."""
    kind = lhs.type.scalar
    if not kind.is_int_signed() or not 8 <= kind.int_bitwidth < 64:
        return
    a, b = lhs.handle.data, rhs.handle.data
    ends_a, ends_b = (int(a.min()), int(a.max())), (int(b.min()), int(b.max()))
    function = {"add": np.add, "sub": np.subtract, "mul": np.multiply}[operation.__name__]
    corners = [int(function(np.int64(p), np.int64(q))) for p in ends_a for q in ends_b]
    limit = 1 << (kind.int_bitwidth - 1)
    if min(corners) >= -limit and max(corners) < limit:
        return
    exact = function(a.astype(np.int64), b.astype(np.int64))
    if exact.min() < -limit or exact.max() >= limit:
        raise StrictError(f"signed {kind} overflow in {operation.__name__}")


def poison(shape: tuple[int, ...], kind: Any) -> Any:
    """What masked-off lanes of a load hold when it names no `other`: anything, so the worst."""
    dtype = interpreter._get_np_dtype(kind)
    if dtype.kind == "f":
        worst: Any = np.nan
    elif kind == tl.bfloat16:
        worst = BF16_NAN
    else:
        worst = True if dtype == np.bool_ else np.iinfo(dtype).max
    return Handle(np.full(shape, worst, dtype), kind)
