"""Bits: counts, shifts, fields, bytes and logic of three inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .formats import Array, PTXError, is_signed, width
from .table import executes

if TYPE_CHECKING:
    from .machine import Block
    from .parser import Instruction
    from .registers import Active


def count_bits(a: Array) -> Array:
    octets = np.ascontiguousarray(np.broadcast_to(a, a.shape or (1,)))[:, None].view(np.uint8)
    return np.unpackbits(octets, axis=1).sum(1).astype(np.uint32)


def leading_zeros(a: Array) -> Array:
    size = 8 * a.itemsize
    exponent = np.frexp(a.astype(np.longdouble))[1]  # a = m 2^e with m in [½, 1): e is the bit length
    return (size - exponent).astype(np.uint32)


@executes("popc", "clz")
def bit_count(block: Block, ins: Instruction, active: Active) -> None:
    bits = block.registers.read(ins.operands[1], ins.type, active)
    counted = count_bits(bits) if ins.opcode == "popc" else leading_zeros(bits)
    block.registers.write(ins.operands[0], counted, "u32", active)


@executes("bfind")
def find_bit(block: Block, ins: Instruction, active: Active) -> None:
    """The place of the highest bit that is set or, for .shiftamt, how far it is from the top; all ones for none."""
    if ins.type not in ("u32", "u64"):
        raise PTXError(f"signed numbers are not emulated: {ins.text}")
    value = block.registers.read(ins.operands[1], ins.type, active)
    above = leading_zeros(value)
    place = above if "shiftamt" in ins.modifiers else np.uint32(8 * value.itemsize - 1) - above
    block.registers.write(ins.operands[0], np.where(value == 0, np.uint32(0xFFFFFFFF), place), "u32", active)


@executes("brev")
def reverse_bits(block: Block, ins: Instruction, active: Active) -> None:
    value = block.registers.read(ins.operands[1], ins.type, active)
    octets = np.ascontiguousarray(np.broadcast_to(value, (len(active),)))[:, None].view(np.uint8)
    turned = np.packbits(np.unpackbits(octets, axis=1, bitorder="little"), axis=1, bitorder="big")[:, ::-1]
    block.registers.write(
        ins.operands[0], np.ascontiguousarray(turned).view(value.dtype)[:, 0], ins.type, active
    )


@executes("shl", "shr")
def shift(block: Block, ins: Instruction, active: Active) -> None:
    value = block.registers.read(ins.operands[1], ins.type, active)
    by = block.registers.read(ins.operands[2], "u32", active)
    size = 8 * value.itemsize
    clamped = np.minimum(by, np.uint32(size - 1)).astype(value.dtype)
    if ins.opcode == "shl":
        shifted = value << clamped
    else:
        shifted = value >> clamped
    if ins.opcode == "shl" or value.dtype.kind == "u":
        shifted = np.where(by >= size, value.dtype.type(0), shifted)
    block.registers.write(ins.operands[0], shifted, ins.type, active)


@executes("shf")
def funnel_shift(block: Block, ins: Instruction, active: Active) -> None:
    low, high, by = (block.registers.read(op, "u32", active).astype(np.uint64) for op in ins.operands[1:4])
    by = by & np.uint64(31) if "wrap" in ins.modifiers else np.minimum(by, np.uint64(32))
    pair = (high << np.uint64(32)) | low
    shifted = (pair << by) >> np.uint64(32) if ins.modifiers[0] == "l" else pair >> by
    block.registers.write(ins.operands[0], shifted.astype(np.uint32), "b32", active)


@executes("lop3")
def any_logic(block: Block, ins: Instruction, active: Active) -> None:
    """Bit i of the immediate is the result where the three inputs read i as a binary number."""
    a, b, c = (block.registers.read(op, "b32", active) for op in ins.operands[1:4])
    truth = int(ins.operands[4].number)  # type: ignore[union-attr]
    result = np.zeros(len(active), np.uint32)
    for row in range(8):
        if truth >> row & 1:
            terms = (a if row & 4 else ~a), (b if row & 2 else ~b), (c if row & 1 else ~c)
            result |= terms[0] & terms[1] & terms[2]
    block.registers.write(ins.operands[0], result, "b32", active)


@executes("bfe")
def extract_field(block: Block, ins: Instruction, active: Active) -> None:
    value = block.registers.read(ins.operands[1], f"u{8 * width(ins.type)}", active).astype(np.uint64)
    start, length = (
        block.registers.read(op, "u32", active).astype(np.uint64) & np.uint64(255) for op in ins.operands[2:4]
    )
    size = np.uint64(8 * width(ins.type))
    length = np.minimum(length, size)
    field = np.where(start >= size, np.uint64(0), value >> np.minimum(start, np.uint64(63))) & _ones(length)
    if is_signed(ins.type):
        top = np.minimum(start + length - np.uint64(1), size - np.uint64(1))
        negative = ((value >> top) & np.uint64(1)).astype(bool) & (length > 0)
        field = np.where(negative, field | ~_ones(length), field)
    block.registers.write(ins.operands[0], field.view(np.int64), ins.type, active)


@executes("bfi")
def insert_field(block: Block, ins: Instruction, active: Active) -> None:
    value, base = (block.registers.read(op, ins.type, active).astype(np.uint64) for op in ins.operands[1:3])
    start, length = (
        block.registers.read(op, "u32", active).astype(np.uint64) & np.uint64(255) for op in ins.operands[3:5]
    )
    mask = _ones(length) << np.minimum(start, np.uint64(63))
    block.registers.write(ins.operands[0], (base & ~mask) | ((value << start) & mask), ins.type, active)


def _ones(length: Array) -> Array:
    short = (np.uint64(1) << np.minimum(length, np.uint64(63))) - np.uint64(1)
    return np.where(length >= 64, ~np.uint64(0), short)


@executes("prmt")
def permute_bytes(block: Block, ins: Instruction, active: Active) -> None:
    """Result byte i is byte (selector >> 4i) & 7 of the pair, or its sign where bit 3 is set."""
    low, high, selector = (
        block.registers.read(op, "u32", active).astype(np.uint64) for op in ins.operands[1:4]
    )
    pair = low | (high << np.uint64(32))
    result = np.zeros(len(active), np.uint64)
    for i in range(4):
        chosen = (selector >> np.uint64(4 * i)) & np.uint64(15)
        octet = (pair >> ((chosen & np.uint64(7)) * np.uint64(8))) & np.uint64(255)
        sign = np.where(octet & np.uint64(128), np.uint64(255), np.uint64(0))
        result |= np.where(chosen & np.uint64(8), sign, octet) << np.uint64(8 * i)
    block.registers.write(ins.operands[0], result.astype(np.uint32), "b32", active)
