"""What the lanes of a warp do together: shuffles, votes, reductions, and the no-ops of a strongly ordered machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .formats import Array, PTXError
from .registers import WARP
from .table import executes

if TYPE_CHECKING:
    from .machine import Block
    from .parser import Instruction
    from .registers import Active


def whole_warps(active: Active, ins: Instruction, size: int = WARP) -> int:
    """How many warps (or warpgroups of 128) take part; PTXError if one is not whole."""
    groups = active.threads.reshape(-1, size) if len(active) % size == 0 else None
    if groups is None or (groups[:, 0] % size).any() or (groups != groups[:, :1] + np.arange(size)).any():
        raise PTXError(f"not by whole groups of {size} threads: {ins.text[:80]}")
    return len(groups)


def lane_masks(active: Active, chosen: Array) -> Array:
    """Per active thread, the bits of its warp's lanes that are chosen."""
    bits = np.where(chosen, np.uint64(1) << (active.threads % WARP).astype(np.uint64), np.uint64(0))
    warps, inverse = np.unique(active.warps, return_inverse=True)
    totals = np.zeros(len(warps), np.uint64)
    np.bitwise_or.at(totals, inverse, bits)
    return totals[inverse].astype(np.uint32)


TOGETHER = ("shfl", "vote", "redux", "match", "elect", "bar", "barrier")  # a `bar` only with .warp


def missing(block: Block, ins: Instruction, active: Active) -> Array:
    """Per active thread: does its mask name a lane that is not here yet?"""
    if ins.opcode in ("bar", "barrier") and "warp" not in ins.modifiers:
        return np.zeros(len(active), bool)
    mask = np.broadcast_to(block.registers.read(ins.operands[-1], "u32", active), (len(active),))
    here = lane_masks(active, np.ones(len(active), bool))
    return (mask & block.existing[active.warps] & ~here) != 0


def check_members(block: Block, ins: Instruction, active: Active) -> None:
    """Every lane named in the membership mask must arrive together, and no other."""
    mask = block.registers.read(ins.operands[-1], "u32", active)
    arrived = lane_masks(active, np.ones(len(active), bool))
    if (mask & block.existing[active.warps] != arrived).any():
        raise PTXError(f"lanes {int(arrived.flat[0]):#x} arrived, another mask was named: {ins.text}")


@executes("shfl")
def shuffle(block: Block, ins: Instruction, active: Active) -> None:
    check_members(block, ins, active)
    values = np.zeros(block.threads, np.uint32)
    values[active.select] = block.registers.read(ins.operands[1], "b32", active)
    lane = active.threads % WARP
    by = block.registers.read(ins.operands[2], "u32", active).astype(np.int64) & 31
    control = block.registers.read(ins.operands[3], "u32", active).astype(np.int64)
    segment, clamp = (control >> 8) & 31, control & 31
    lowest, highest = lane & segment, (lane & segment) | (clamp & ~segment)
    mode = ins.modifiers[1]
    origin = {"up": lane - by, "down": lane + by, "bfly": lane ^ by, "idx": lowest | (by & ~segment)}[mode]
    inside = origin >= highest if mode == "up" else origin <= highest
    thread = active.threads - lane + np.where(inside, origin, lane)
    targets = ins.registers(0)
    block.registers.write(targets[0], values[thread], "b32", active)
    if len(targets) > 1:
        block.registers.write(targets[1], inside, "pred", active)


@executes("vote")
def vote(block: Block, ins: Instruction, active: Active) -> None:
    check_members(block, ins, active)
    chosen = block.registers.predicate(ins.operands[1], active)
    mask, everyone = lane_masks(active, chosen), lane_masks(active, np.ones(len(active), bool))
    how = ins.modifiers[1]
    if how == "ballot":
        block.registers.write(ins.operands[0], mask, "b32", active)
        return
    result = {"any": mask != 0, "all": mask == everyone, "uni": (mask == 0) | (mask == everyone)}[how]
    block.registers.write(ins.operands[0], result, "pred", active)


@executes("activemask")
def active_mask(block: Block, ins: Instruction, active: Active) -> None:
    block.registers.write(ins.operands[0], lane_masks(active, np.ones(len(active), bool)), "b32", active)


REDUCTIONS: dict[str, Any] = {
    "add": np.add, "min": np.minimum, "max": np.maximum,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
}  # fmt: skip


@executes("redux")
def reduce_warp(block: Block, ins: Instruction, active: Active) -> None:
    check_members(block, ins, active)
    values = np.broadcast_to(block.registers.read(ins.operands[1], ins.type, active), (len(active),))
    operation = REDUCTIONS[next(m for m in ins.modifiers if m in REDUCTIONS)]
    warps, start, inverse = np.unique(active.warps, return_index=True, return_inverse=True)
    totals = operation.reduceat(values, start)[: len(warps)]
    block.registers.write(ins.operands[0], totals[inverse], ins.type, active)


@executes("elect")
def elect(block: Block, ins: Instruction, active: Active) -> None:
    """The lowest lane of each warp wins."""
    check_members(block, ins, active)
    _, start, inverse = np.unique(active.warps, return_index=True, return_inverse=True)
    leader = active.threads[start][inverse]
    target, flag = ins.registers(0)
    block.registers.write(target, (leader % WARP).astype(np.uint32), "b32", active)
    block.registers.write(flag, leader == active.threads, "pred", active)


@executes(
    "fence", "membar", "prefetch", "griddepcontrol", "nanosleep", "createpolicy", "applypriority", "discard"
)
def nothing(block: Block, ins: Instruction, active: Active) -> None:
    """Memory here is always in order, and hints change nothing."""
