"""Hopper's asynchronous products of a warpgroup, with operands in shared memory behind swizzled descriptors.

A product is executed at the wait that completes it, the latest moment the programming model allows: a missing wait
leaves old accumulators, a buffer that is refilled too early gives an error.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .formats import Array, PTXError
from .matrix import as_numbers, left_fragment, words_of
from .memory import SEVERAL
from .parser import Immediate, Vector
from .registers import WARP, Active
from .table import executes
from .warp import whole_warps

if TYPE_CHECKING:
    from .machine import Block
    from .parser import Instruction

GROUP_SIZE = 4 * WARP
THREAD = np.arange(GROUP_SIZE)
ROW_BYTES = {0: 16, 1: 128, 2: 64, 3: 32}  # descriptor's swizzle mode to the width of a swizzled row
SWIZZLE = {0: 0, 1: 7, 2: 3, 3: 1}  # which of address bits 7..9 are folded into bits 4..6


class Product(NamedTuple):
    ins: Instruction
    active: Active
    left: Array | None  # shared bytes [64, K, element], or None for registers
    right: Array  # shared bytes [N, K, element]


def operand_bytes(descriptor: int, rows: int, depth: int, element: int, transposed: bool) -> Array:
    """Where element (row, k) of an operand tile lies: byte indices [rows, depth, element].

    Core matrices are 8 rows of 16 bytes; `leading` and `stride` are the descriptor's byte offsets between them.
    """
    start, leading, stride = ((descriptor >> shift & 0x3FFF) << 4 for shift in (0, 16, 32))
    mode = descriptor >> 62
    line = ROW_BYTES[mode]
    row, k = np.arange(rows)[:, None], np.arange(depth)[None, :]
    if transposed:
        across = row * element
        offset = across % line + across // line * leading + k % 8 * line + k // 8 * stride
    else:
        along = k * element
        inside = along if mode else along % 16 + along // 16 * leading
        offset = row // 8 * stride + row % 8 * line + inside
    address = start + offset
    address = address ^ (address >> 7 & SWIZZLE[mode]) << 4
    return address[:, :, None] + np.arange(element)


@executes("wgmma")
def warpgroup(block: Block, ins: Instruction, active: Active) -> None:
    groups = whole_warps(active, ins, GROUP_SIZE)
    for threads in active.threads.reshape(groups, GROUP_SIZE):
        one = active if groups == 1 else Active(threads, threads)
        queue = block.products.setdefault(int(threads[0]), [[]])
        if "mma_async" in ins.modifiers:
            queue[-1].append(issue(block, ins, one))
        elif "commit_group" in ins.modifiers:
            queue.append([])
        elif "wait_group" in ins.modifiers:
            left = ins.operands[0].number  # type: ignore[union-attr]
            while len(queue) - 1 > left:
                for product in queue.pop(0):
                    finish(block, product)


def _format(ins: Instruction) -> tuple[int, int, str, int]:
    """N, K, operand type and its bytes."""
    shape = re.search(r"\.m64n(\d+)k(\d+)", ins.text)
    kind = ins.type
    if not shape or ins.modifiers[-3] != "f32" or kind not in ("bf16", "f16", "tf32"):
        raise PTXError(f"not emulated: {ins.text[:80]}")
    return int(shape.group(1)), int(shape.group(2)), kind, 4 if kind == "tf32" else 2


def issue(block: Block, ins: Instruction, active: Active) -> Product:
    columns, depth, _, element = _format(ins)
    in_registers = isinstance(ins.operands[1], Vector)
    flags = [
        op.number for op in ins.operands[6:] if isinstance(op, Immediate)
    ]  # transposition, of 16-bit operands
    flags_left, flags_right = (0, *flags, 0)[:2] if in_registers else (*flags, 0, 0)[:2]
    left = None if in_registers else _tile(block, ins, active, 1, 64, depth, element, bool(flags_left))
    right = _tile(block, ins, active, 2, columns, depth, element, bool(flags_right))
    for index in (left, right):
        if index is not None:
            block.shared.mark_read(index, SEVERAL, ins.text[:80])
            block.shared.being_read[np.unique(index)] += 1
    return Product(ins, active, left, right)


def _tile(
    block: Block,
    ins: Instruction,
    active: Active,
    position: int,
    rows: int,
    depth: int,
    element: int,
    transposed: bool,
) -> Array:
    descriptors = np.unique(block.registers.bits(ins.operands[position], 8, active))
    if len(descriptors) != 1:
        raise PTXError(f"a warpgroup with several descriptors: {ins.text[:80]}")
    index = operand_bytes(int(descriptors[0]), rows, depth, element, transposed)
    if index.min() < 0 or index.max() >= len(block.shared.octets):
        raise PTXError(f"operand outside shared memory: {ins.text[:80]}")
    return index


def finish(block: Block, product: Product) -> None:
    ins, active, left_bytes, right_bytes = product
    kind = ins.type
    if left_bytes is None:
        left = left_fragment(
            as_numbers(words_of(block, ins.registers(1), active, 1), kind), 64, kind, THREAD
        )[0]
    else:
        left = _release(block, left_bytes, kind)
    right = _release(block, right_bytes, kind)
    scale = [op.number for op in ins.operands[4:6]]  # type: ignore[union-attr]
    result = left.astype(np.float64) @ right.T.astype(np.float64) * (scale[0] * scale[1])  # [64, N]
    adds = block.registers.predicate(ins.operands[3], active)
    row = 16 * (THREAD // WARP) + THREAD % WARP // 4
    for i, target in enumerate(ins.registers(0)):
        term = result[row + 8 * (i >> 1 & 1), 8 * (i >> 2) + 2 * (THREAD % 4) + (i & 1)]
        before = np.where(adds, block.registers.read(target, "f32", active), np.float32(0))
        block.registers.write(target, (term + before).astype(np.float32), "f32", active)


def _release(block: Block, index: Array, kind: str) -> Array:
    block.shared.being_read[np.unique(index)] -= 1
    octets = np.ascontiguousarray(block.shared.octets[index])
    return as_numbers(octets.reshape(len(index), -1).view(np.uint32), kind)
