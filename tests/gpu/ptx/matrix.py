"""Tensor-core instructions of one warp: ldmatrix, stmatrix and mma.sync (m16n8, fp32 accumulators)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from .formats import Array, PTXError, truncate_tf32, widen_bf16
from .table import executes
from .transfer import addresses
from .warp import whole_warps

if TYPE_CHECKING:
    from .machine import Block
    from .parser import Instruction, Operand
    from .registers import Active

LANE = np.arange(32)
GROUP, MEMBER = LANE // 4, LANE % 4  # the PTX manual's groupID and threadID_in_group


def as_numbers(words: Array, kind: str) -> Array:
    """32-bit registers [..., r] as fp32 numbers [..., r] for tf32, [..., 2r] for 16-bit types."""
    words = np.ascontiguousarray(words)
    if kind == "tf32":
        return truncate_tf32(words.view(np.float32))
    halves = words.view(np.uint16)
    if kind == "bf16":
        return widen_bf16(halves)
    if kind == "f16":
        return halves.view(np.float16).astype(np.float32)
    raise PTXError(f"a product of .{kind} is not emulated")


def words_of(block: Block, registers: tuple[Operand, ...], active: Active, groups: int) -> Array:
    """[groups, lanes, registers]"""
    columns = [np.broadcast_to(block.registers.bits(r, 4, active), (len(active),)) for r in registers]
    return np.stack(columns, 1).reshape(groups, -1, len(registers))


def left_fragment(values: Array, rows: int, kind: str, lane: Array) -> Array:
    """Operand A [..., rows, K] from the numbers each lane holds: 16 rows a warp, `lane` counts on through the warps."""
    group, member, warp = lane % 32 // 4, lane % 4, lane // 32
    count = values.shape[-1]
    pair = 1 if kind == "tf32" else 2  # neighbouring columns in one register
    matrix = np.zeros((*values.shape[:-2], rows, 2 * count), np.float32)
    for i in range(count):
        register, half = divmod(i, pair)
        row = 16 * warp + group + 8 * (register & 1)
        matrix[..., row, pair * member + half + 4 * pair * (register >> 1)] = values[..., i]
    return matrix


def right_fragment(values: Array, kind: str) -> Array:
    """Operand B [warps, K, 8]."""
    count = values.shape[-1]
    pair = 1 if kind == "tf32" else 2
    matrix = np.zeros((len(values), 4 * count, 8), np.float32)
    for i in range(count):
        register, half = divmod(i, pair)
        matrix[:, pair * MEMBER + half + 4 * pair * register, GROUP] = values[:, :, i]
    return matrix


@executes("mma")
def multiply(block: Block, ins: Instruction, active: Active) -> None:
    warps = whole_warps(active, ins)
    shape = next(re.fullmatch(r"m16n8k(\d+)", m) for m in ins.modifiers if re.fullmatch(r"m\d+n\d+k\d+", m))
    kind, *_ = ins.modifiers[-3:]
    if shape is None or ins.modifiers[-1] != "f32":
        raise PTXError(f"not emulated: {ins.text}")
    left = as_numbers(words_of(block, ins.registers(1), active, warps), kind)
    right = as_numbers(words_of(block, ins.registers(2), active, warps), kind)
    a, b = left_fragment(left, 16, kind, LANE), right_fragment(right, kind)
    if a.shape[-1] != int(shape.group(1)) or b.shape[-2] != a.shape[-1]:
        raise PTXError(f"registers do not match the shape: {ins.text}")
    product = a.astype(np.float64) @ b.astype(np.float64)  # [warps, 16, 8]
    before = words_of(block, ins.registers(3), active, warps).view(np.float32)
    for i, target in enumerate(ins.registers(0)):
        term = product[:, GROUP + 8 * (i >> 1), 2 * MEMBER + (i & 1)]
        block.registers.write(target, (term + before[:, :, i]).astype(np.float32).reshape(-1), "f32", active)


def _row_addresses(
    block: Block, ins: Instruction, active: Active, position: int, count: int
) -> list[tuple[Array, Array]]:
    """For each 8x8 matrix: addresses of its rows over all warps, and the threads that gave them."""
    where = addresses(block, ins.operands[position], active).reshape(-1, 32)
    threads = active.threads.reshape(-1, 32)
    parts = [slice(8 * j, 8 * j + 8) for j in range(count)]
    return [(where[:, part].reshape(-1), threads[:, part].reshape(-1)) for part in parts]


@executes("ldmatrix")
def load_matrix(block: Block, ins: Instruction, active: Active) -> None:
    whole_warps(active, ins)
    targets = ins.registers(0)
    for target, (where, threads) in zip(
        targets, _row_addresses(block, ins, active, 1, len(targets)), strict=True
    ):
        block.count_rows(ins, where, threads)
        rows = block.shared.load(where, 16, threads, ins.text).view(np.uint16).reshape(-1, 8, 8)
        rows = rows.swapaxes(1, 2) if "trans" in ins.modifiers else rows
        words = (
            np.ascontiguousarray(rows).reshape(-1, 8, 8).view(np.uint32)
        )  # [warps, 8, 4]: lane = 4 row + column
        block.registers.write(target, words.reshape(-1), "b32", active)


@executes("stmatrix")
def store_matrix(block: Block, ins: Instruction, active: Active) -> None:
    warps = whole_warps(active, ins)
    words = words_of(block, ins.registers(1), active, warps)
    places = _row_addresses(block, ins, active, 0, words.shape[2])
    for j, (where, threads) in enumerate(places):
        block.count_rows(ins, where, threads)
        rows = np.ascontiguousarray(words[:, :, j]).view(np.uint16).reshape(warps, 8, 8)
        rows = rows.swapaxes(1, 2) if "trans" in ins.modifiers else rows
        octets = np.ascontiguousarray(rows).reshape(-1, 8).view(np.uint8)
        block.shared.store(where, octets, threads, ins.text)
