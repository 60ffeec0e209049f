"""PTX types as NumPy types: register bits to numbers and back, with the floats that NumPy lacks (bf16, tf32)."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
UNSIGNED: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
SIGNED: dict[int, Any] = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}
FLOAT: dict[int, Any] = {2: np.float16, 4: np.float32, 8: np.float64}
TYPE = re.compile(r"([subf]|bf|tf)(8|16|32|64)(x2)?$")


class PTXError(Exception):
    """The program did what no correct program does, or what this emulator does not know."""


def width(kind: str) -> int:
    """Bytes of a PTX type such as `f32` or `bf16x2`."""
    found = TYPE.match(kind)
    if not found:
        raise PTXError(f"unknown type .{kind}")
    return int(found.group(2)) // 8 * (2 if found.group(3) else 1)


def is_signed(kind: str) -> bool:
    return kind.startswith("s")


def is_float(kind: str) -> bool:
    return kind.startswith(("f", "bf"))


def widen_bf16(bits: Array) -> Array:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def round_bf16(values: Array) -> Array:
    """fp32 to bf16 bits, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.where(np.isnan(values), np.uint32(0x7FFF), rounded).astype(np.uint16)


def round_tf32(values: Array) -> Array:
    """fp32 to tf32 bits as `cvt.rna` does: 10 bits of mantissa, ties away from zero."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)


def truncate_tf32(values: Array) -> Array:
    """What a tensor core sees of an fp32 register: the low 13 bits are ignored."""
    return (np.ascontiguousarray(values).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def decode(bits: Array, kind: str) -> Array:
    """Unsigned register bits [n] as numbers [n], or [n, 2] for packed types."""
    found = TYPE.match(kind)
    if not found:
        raise PTXError(f"unknown type .{kind}")
    family, size, packed = found.group(1), int(found.group(2)) // 8, found.group(3)
    if packed:
        bits = np.ascontiguousarray(bits)[..., None].view(UNSIGNED[size])
    if family == "bf":
        return widen_bf16(bits)
    if family == "f":
        return bits.view(FLOAT[size])
    return bits.view(SIGNED[size]) if family == "s" else bits


def encode(values: Array, kind: str) -> Array:
    """Numbers to unsigned register bits: the inverse of `decode`, rounding to nearest even."""
    found = TYPE.match(kind)
    if not found:
        raise PTXError(f"unknown type .{kind}")
    family, size, packed = found.group(1), int(found.group(2)) // 8, found.group(3)
    if family == "bf":
        bits = round_bf16(np.asarray(values, np.float32))
    elif family == "f":
        bits = np.ascontiguousarray(values, FLOAT[size]).view(UNSIGNED[size])
    else:
        target = SIGNED[size] if family == "s" else UNSIGNED[size]
        bits = np.asarray(values).astype(target, copy=False).view(UNSIGNED[size])
    return np.ascontiguousarray(bits).view(UNSIGNED[2 * size])[..., 0] if packed else bits


def flush(values: Array) -> Array:
    """.ftz: subnormal fp32 numbers become zero of the same sign."""
    tiny = np.abs(values) < np.finfo(np.float32).tiny
    return np.where(tiny, np.copysign(np.zeros_like(values), values), values)
