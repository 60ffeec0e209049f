"""Loads, stores, asynchronous copies and atomics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .formats import UNSIGNED, Array, PTXError, decode, encode, is_signed, width
from .parser import Address, Immediate, Operand, Register
from .table import executes

if TYPE_CHECKING:
    from .machine import Block
    from .parser import Instruction
    from .registers import Active


def addresses(block: Block, operand: Operand, active: Active) -> Array:
    """int64 [active]"""
    if not isinstance(operand, Address):
        raise PTXError(f"not an address: {operand}")
    is_number = operand.base[0].isdigit()
    base: Operand = Immediate(operand.base) if is_number else Register(operand.base)
    array = (
        base.bits(8) if isinstance(base, Immediate) else block.registers.arrays[operand.base][active.select]
    )
    return np.broadcast_to(array.astype(np.int64) + operand.offset, (len(active),))


def is_shared(ins: Instruction) -> bool:
    return any(m.startswith("shared") for m in ins.modifiers)


@executes("ld", "ldu")
def load(block: Block, ins: Instruction, active: Active) -> None:
    targets = ins.registers(0)
    one = width(ins.type)
    size = one * len(targets)
    if "param" in ins.modifiers:
        where = addresses(block, ins.operands[1], active)
        octets = np.broadcast_to(block.parameter(where, size), (len(active), size))
    else:
        where = addresses(block, ins.operands[1], active)
        block.count_access(ins, where, size, active)
        if is_shared(ins):
            octets = block.shared.load(where, size, active.threads, ins.text)
        else:
            octets = block.machine.memory.load(where, size, ins.text)
    values = np.ascontiguousarray(octets).view(UNSIGNED[one])
    for i, target in enumerate(targets):
        block.registers.write(target, decode(values[:, i], _plain(ins.type)), _plain(ins.type), active)


def _plain(kind: str) -> str:
    """Memory moves bits; only integers that are signed are told apart, for the extension into wider registers."""
    return kind if is_signed(kind) else f"b{8 * width(kind)}"


@executes("st")
def store(block: Block, ins: Instruction, active: Active) -> None:
    one = width(ins.type)
    columns = [block.registers.bits(op, one, active) for op in ins.registers(1)]
    octets = np.stack([np.broadcast_to(c, (len(active),)) for c in columns], 1).view(np.uint8)
    where = addresses(block, ins.operands[0], active)
    block.count_access(ins, where, octets.shape[1], active)
    if is_shared(ins):
        block.shared.store(where, octets, active.threads, ins.text)
    else:
        block.machine.memory.store(where, octets, ins.text)


class Copy(NamedTuple):
    """One cp.async instruction of some threads; `group` says to which of its thread's groups each part belongs."""

    threads: Array
    place: Array  # [threads, size] bytes of shared memory
    octets: Array  # [threads, size], what will land
    group: Array
    text: str


@executes("cp")
def copy(block: Block, ins: Instruction, active: Active) -> None:
    if "bulk" in ins.modifiers or "mbarrier" in ins.modifiers:
        raise PTXError(f"bulk copies are not emulated: {ins.text}")
    if "commit_group" in ins.modifiers:
        block.copy_group[active.select] += 1
    elif "wait_group" in ins.modifiers or "wait_all" in ins.modifiers:
        left = ins.operands[0].number if ins.operands else -1  # type: ignore[union-attr]
        land(block, active, left)
    else:
        issue(block, ins, active)


def issue(block: Block, ins: Instruction, active: Active) -> None:
    """Checks everything now; the bytes land at the wait, the latest moment that the programming model allows."""
    size = ins.operands[2].number  # type: ignore[union-attr]
    taken = np.full(len(active), size)
    if len(ins.operands) > 3:
        taken = np.broadcast_to(
            block.registers.read(ins.operands[3], "u32", active).astype(np.int64), taken.shape
        )
    where, origin = (addresses(block, op, active) for op in ins.operands[:2])
    octets = np.zeros((len(active), size), np.uint8)
    for part in np.unique(taken[taken > 0]):
        which = taken == part
        if (origin[which] % size).any():
            raise PTXError(f"misaligned asynchronous copy: {ins.text}")
        octets[which, :part] = block.machine.memory.load(origin[which], int(part), ins.text)
    block.count_access(ins, origin[taken > 0], size, active.only(taken > 0))
    index = block.shared.index(where, size, ins.text)
    block.shared.begin_fill(index, active.warps[:, None], ins.text)
    block.copies.append(Copy(active.threads, index, octets, block.copy_group[active.select].copy(), ins.text))


def land(block: Block, active: Active, left: int) -> None:
    """Completes all but the last `left` groups of each active thread (everything for -1)."""
    waits = np.zeros(block.threads, bool)
    waits[active.select] = True
    still: list[Copy] = []
    for pending in block.copies:
        done = waits[pending.threads]
        if left >= 0:
            done &= pending.group < block.copy_group[pending.threads] - left
        if done.any():
            warp = (pending.threads[done] // 32)[:, None]
            block.shared.end_fill(pending.place[done], pending.octets[done], warp, pending.text)
        if not done.all():
            threads, place, octets, group, text = pending
            still.append(Copy(threads[~done], place[~done], octets[~done], group[~done], text))
    block.copies = still


OPERATIONS: dict[str, Any] = {
    "add": np.add, "min": np.minimum, "max": np.maximum, "exch": lambda old, new: new,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "inc": lambda old, top: np.where(old >= top, 0, old + 1),
}  # fmt: skip


@executes("atom", "red")
def atomic(block: Block, ins: Instruction, active: Active) -> None:
    """Thread after thread, as if by chance in order of thread number."""
    returns = ins.opcode == "atom"
    place, *rest = ins.operands[1:] if returns else ins.operands
    size = width(ins.type)
    where = addresses(block, place, active)
    block.count_access(ins, where, size, active)
    values = [
        np.broadcast_to(block.registers.read(_single(op), ins.type, active), (len(active),)) for op in rest
    ]
    old = np.empty(len(active), UNSIGNED[size])
    for i in range(len(active)):
        octets, index = _cell(block, ins, where[i : i + 1], size)
        old[i] = np.ascontiguousarray(octets[index]).view(UNSIGNED[size])[0, 0]
        new = _combine(ins, decode(old[i : i + 1], ins.type)[0], [v[i] for v in values])
        octets[index] = encode(np.asarray([new]), ins.type)[:, None].view(np.uint8)
    if returns:
        block.registers.write(_single(ins.operands[0]), old, f"b{8 * size}", active)


def _single(operand: Operand) -> Operand:
    """Triton writes one register in braces where PTX also allows a vector."""
    return getattr(operand, "items", (operand,))[0]


def _cell(block: Block, ins: Instruction, where: Array, size: int) -> tuple[Array, Array]:
    if is_shared(ins):
        return block.shared.octets, block.shared.index(where, size, ins.text)
    _, octets, index = next(block.machine.memory.find(where, size, ins.text))
    return octets, index


def _combine(ins: Instruction, old: Any, values: list[Any]) -> Any:
    if "cas" in ins.modifiers:
        return values[1] if old == values[0] else old
    name = next((m for m in ins.modifiers if m in OPERATIONS), None)
    if name is None:
        raise PTXError(f"atomic operation of {ins.text}")
    return OPERATIONS[name](old, values[0])
