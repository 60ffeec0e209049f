"""The registers of a block: one array over its threads for each name, special registers among them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .formats import SIGNED, UNSIGNED, Array, PTXError, decode, encode, is_signed, width
from .parser import Immediate, Kernel, Operand, Register

WARP = 32
UNSET = 0xFF  # every byte of a register nobody wrote: NaN as a float


class Active(NamedTuple):
    """The threads an instruction acts on: `select` indexes register arrays, `threads` numbers them."""

    select: slice | Array
    threads: Array

    def __len__(self) -> int:
        return len(self.threads)

    @property
    def warps(self) -> Array:
        return self.threads // WARP

    def only(self, mask: Array) -> Active:
        if mask.all():
            return self
        threads = self.threads[mask]
        return Active(threads, threads)


Size = tuple[int, int, int]


def special_registers(block: Size, grid: Size, threads: Size) -> dict[str, Array]:
    number = np.arange(threads[0] * threads[1] * threads[2], dtype=np.uint32)
    x, xy = threads[0], threads[0] * threads[1]
    values: dict[str, Array] = {
        "%tid.x": number % x,
        "%tid.y": number // x % threads[1],
        "%tid.z": number // xy,
        "%laneid": number % WARP,
        "%warpid": number // WARP,
    }
    for i, axis in enumerate("xyz"):
        values[f"%ctaid.{axis}"] = np.full_like(number, block[i])
        values[f"%nctaid.{axis}"] = np.full_like(number, grid[i])
        values[f"%ntid.{axis}"] = np.full_like(number, threads[i])
    return {name: value.astype(np.uint32) for name, value in values.items()}


class Registers:
    def __init__(self, kernel: Kernel, count: int, fixed: dict[str, Array]) -> None:
        """`fixed`: what the program reads and never writes (special registers, shared addresses)."""
        self.arrays = {name: self._empty(kind, count) for name, kind in kernel.registers.items()}
        self.arrays.update(fixed)
        self.fixed = frozenset(fixed)

    @staticmethod
    def _empty(kind: str, count: int) -> Array:
        if kind == "pred":
            return np.zeros(count, np.bool_)
        return np.full(count * width(kind), UNSET, np.uint8).view(UNSIGNED[width(kind)])

    def bits(self, operand: Operand, size: int, active: Active) -> Array:
        """Unsigned bits [active], or a scalar array for a constant. A wider register is truncated."""
        if isinstance(operand, Immediate):
            return operand.bits(size)
        array = self._array(operand)[active.select]
        if array.dtype == np.bool_:
            raise PTXError(f"predicate {operand} read as a number")
        return array if array.itemsize == size else array.astype(UNSIGNED[size])

    def read(self, operand: Operand, kind: str, active: Active) -> Array:
        """Numbers of the PTX type; booleans for `pred`."""
        if kind == "pred":
            return self.predicate(operand, active)
        return decode(self.bits(operand, width(kind), active), kind)

    def predicate(self, operand: Operand, active: Active) -> Array:
        if isinstance(operand, Immediate):
            return np.full(len(active), operand.number != 0)
        array = self._array(operand)[active.select]
        return ~array if isinstance(operand, Register) and operand.negated else array

    def write(self, operand: Operand, values: Array, kind: str, active: Active) -> None:
        """Stores numbers of the type; a wider register is sign- or zero-extended."""
        if not isinstance(operand, Register) or operand.name in self.fixed:
            raise PTXError(f"write to {operand}")
        if operand.name == "_":
            return
        target = self._array(operand)
        if target.dtype == np.bool_:
            target[active.select] = values
            return
        bits = encode(values, kind)
        if bits.itemsize < target.itemsize and is_signed(kind):
            bits = bits.view(SIGNED[bits.itemsize]).astype(SIGNED[target.itemsize]).view(target.dtype)
        target[active.select] = bits

    def _array(self, operand: Operand) -> Array:
        try:
            return self.arrays[operand.name]  # type: ignore[union-attr]
        except (AttributeError, KeyError):
            raise PTXError(f"no register {operand}") from None
