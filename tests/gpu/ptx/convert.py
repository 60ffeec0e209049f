"""cvt: between widths, signs, integers and floats, with PTX's rounding and saturation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .formats import SIGNED, UNSIGNED, Array, PTXError, flush, is_float, is_signed, round_tf32, width
from .table import executes

if TYPE_CHECKING:
    from .machine import Block
    from .parser import Instruction
    from .registers import Active

TO_INTEGER: dict[str, Callable[..., Any]] = {"rzi": np.trunc, "rni": np.rint, "rmi": np.floor, "rpi": np.ceil}
TO_FLOAT = ("rn", "rna", "rz")


@executes("cvt")
def convert(block: Block, ins: Instruction, active: Active) -> None:
    target, origin = ins.modifiers[-2:]
    if target in ("bf16x2", "f16x2") and origin == "f32":
        high, low = (_source(block, ins, active, op, origin) for op in (ins.operands[1], ins.operands[2]))
        pair = np.stack(np.broadcast_arrays(low, high), -1)
        block.registers.write(ins.operands[0], _relu(ins, pair), target, active)
        return
    values = _source(block, ins, active, ins.operands[1], origin)
    if target == "tf32":
        block.registers.write(ins.operands[0], round_tf32(values), "b32", active)
        return
    if "sat" in ins.modifiers and is_float(target):
        values = np.nan_to_num(np.clip(values, 0, 1))
    block.registers.write(ins.operands[0], _relu(ins, _cast(ins, values, target)), target, active)


def _source(block: Block, ins: Instruction, active: Active, operand: Any, kind: str) -> Array:
    values = block.registers.read(operand, kind, active)
    return flush(values) if "ftz" in ins.modifiers and values.dtype == np.float32 else values


def _relu(ins: Instruction, values: Array) -> Array:
    return np.maximum(values, 0) if "relu" in ins.modifiers else values


def _cast(ins: Instruction, values: Array, target: str) -> Array:
    rounding = next((TO_INTEGER[m] for m in ins.modifiers if m in TO_INTEGER), None)
    if is_float(target):
        if values.dtype.kind == "f" and rounding:
            return rounding(values)
        if "rz" in ins.modifiers:
            raise PTXError(f"rounding towards zero is not emulated: {ins.text}")
        return (
            values
            if target == "bf16"
            else values.astype({2: np.float16, 4: np.float32, 8: np.float64}[width(target)])
        )
    dtype = (SIGNED if is_signed(target) else UNSIGNED)[width(target)]
    if values.dtype.kind == "f":
        if rounding is None:
            raise PTXError(f"float to integer without rounding: {ins.text}")
        return _saturate(rounding(values), dtype)
    if "sat" in ins.modifiers:
        limits = np.iinfo(dtype)
        return np.clip(values.astype(object), limits.min, limits.max).astype(dtype)
    return values.astype(dtype)


def _saturate(values: Array, dtype: Any) -> Array:
    """Out of range goes to the nearest end; NaN to 0."""
    limits = np.iinfo(dtype)
    wide = np.nan_to_num(
        values.astype(np.longdouble), nan=0.0, posinf=float(limits.max), neginf=float(limits.min)
    )
    return np.clip(wide, np.longdouble(limits.min), np.longdouble(limits.max)).astype(dtype)
