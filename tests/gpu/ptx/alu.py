"""Arithmetic and comparison, one thread at a time in meaning, all active threads at once here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .formats import SIGNED, UNSIGNED, Array, PTXError, flush, is_float, is_signed, width
from .table import HANDLERS, Handler, executes

if TYPE_CHECKING:
    from .machine import Block
    from .parser import Instruction
    from .registers import Active


def sources(block: Block, ins: Instruction, active: Active, count: int) -> list[Array]:
    values = [block.registers.read(op, ins.type, active) for op in ins.operands[1 : 1 + count]]
    return [flush(v) for v in values] if "ftz" in ins.modifiers else values


def store(block: Block, ins: Instruction, active: Active, values: Array) -> None:
    if "sat" in ins.modifiers and is_float(ins.type):
        values = np.nan_to_num(np.clip(values, 0, 1))
    if "ftz" in ins.modifiers:
        values = flush(values)
    block.registers.write(ins.operands[0], values, ins.type, active)


def elementwise(function: Callable[..., Any], count: int) -> Handler:
    def run(block: Block, ins: Instruction, active: Active) -> None:
        store(block, ins, active, function(*sources(block, ins, active, count)))

    return run


def rounded(values: Array, target: Any, modifiers: tuple[str, ...]) -> Array:
    """More precise numbers to the target's type: to nearest, or as .rm, .rp or .rz say."""
    nearest = values.astype(target)
    wide = nearest.astype(values.dtype)
    down, up = np.nextafter(nearest, target(-np.inf)), np.nextafter(nearest, target(np.inf))
    below, above = np.where(wide > values, down, nearest), np.where(wide < values, up, nearest)
    if "rm" in modifiers:
        return below
    if "rp" in modifiers:
        return above
    return np.where(values > 0, below, above) if "rz" in modifiers else nearest


def divide(a: Array, b: Array) -> Array:
    """Integers divide towards zero; by zero they give all ones, as the hardware does."""
    if a.dtype.kind == "f":
        return a / b
    quotient = (a - np.fmod(a, b)) // b
    return np.where(b == 0, a.dtype.type(-1 if a.dtype.kind == "i" else np.iinfo(a.dtype).max), quotient)


UNARY: dict[str, Callable[..., Any]] = {
    "not": np.invert, "neg": np.negative, "abs": np.abs, "sqrt": np.sqrt, "ex2": np.exp2, "lg2": np.log2,
    "rsqrt": lambda a: 1 / np.sqrt(a), "rcp": lambda a: 1 / a, "sin": np.sin, "cos": np.cos, "tanh": np.tanh,
}  # fmt: skip
BINARY: dict[str, Callable[..., Any]] = {
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "div": divide, "rem": np.fmod, "copysign": lambda sign, a: np.copysign(a, sign),
}  # fmt: skip
HANDLERS.update({opcode: elementwise(function, 1) for opcode, function in UNARY.items()})
HANDLERS.update({opcode: elementwise(function, 2) for opcode, function in BINARY.items()})


@executes("add", "sub")
def add(block: Block, ins: Instruction, active: Active) -> None:
    """In fp64 for fp32 operands that are to be rounded in a direction."""
    function = np.add if ins.opcode == "add" else np.subtract
    values = sources(block, ins, active, 2)
    if {"rm", "rp", "rz"} & set(ins.modifiers):
        if ins.type != "f32":
            raise PTXError(f"this rounding is not emulated: {ins.text}")
        store(
            block,
            ins,
            active,
            rounded(function(*(v.astype(np.float64) for v in values)), np.float32, ins.modifiers),
        )
    else:
        store(block, ins, active, function(*values))


@executes("min", "max")
def extremum(block: Block, ins: Instruction, active: Active) -> None:
    """Without .NaN the number wins over NaN; three operands where the target has them."""
    functions = {"min": (np.fmin, np.minimum), "max": (np.fmax, np.maximum)}
    function = functions[ins.opcode]["NaN" in ins.modifiers]
    first, *rest = sources(block, ins, active, len(ins.operands) - 1)
    for value in rest:
        first = function(first, value)
    store(block, ins, active, first)


@executes("mul", "mad")
def multiply(block: Block, ins: Instruction, active: Active) -> None:
    """.lo keeps the low half of an integer product, .hi the high half, .wide both."""
    kind, registers = ins.type, block.registers
    if is_float(kind):
        if ins.opcode == "mad":
            return fused(block, ins, active)
        a, b = sources(block, ins, active, 2)
        return store(block, ins, active, a * b)
    double = f"{kind[0]}{16 * width(kind)}"
    a, b = sources(block, ins, active, 2)
    result_kind = double if "wide" in ins.modifiers else kind
    if "wide" in ins.modifiers:
        product = a.astype(_integer(double)) * b.astype(_integer(double))
    elif "hi" in ins.modifiers:
        product = high_half(a, b)
    else:
        product = a * b
    if ins.opcode == "mad":
        product = product + registers.read(ins.operands[3], result_kind, active)
    return registers.write(ins.operands[0], product, result_kind, active)


def high_half(a: Array, b: Array) -> Array:
    size, dtype = 8 * a.itemsize, a.dtype
    if a.itemsize < 8:
        wide = np.int64 if dtype.kind == "i" else np.uint64
        return ((a.astype(wide) * b.astype(wide)) >> wide(size)).astype(dtype)
    product = (a.astype(object) * b.astype(object)) >> size
    return np.asarray(product, object).astype(dtype)


def _integer(kind: str) -> Any:
    return (SIGNED if is_signed(kind) else UNSIGNED)[width(kind)]


@executes("fma")
def fused(block: Block, ins: Instruction, active: Active) -> None:
    """One rounding: fp64 holds the product of two fp32 numbers exactly, long double nearly that of two fp64."""
    precise = np.longdouble if ins.type == "f64" else np.float64
    a, b, c = (value.astype(precise) for value in sources(block, ins, active, 3))
    target = {"f64": np.float64, "f16": np.float16, "f16x2": np.float16}.get(ins.type, np.float32)
    store(block, ins, active, rounded(a * b + c, target, ins.modifiers))


ORDERED: dict[str, Callable[..., Any]] = {
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "eq": np.equal,
    "ne": np.not_equal, "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}  # fmt: skip
COMBINED: dict[str, Callable[..., Any]] = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


def compare(how: str, a: Array, b: Array) -> Array:
    """A trailing `u` is the unordered form: true where either side is NaN."""
    unordered = np.isnan(a) | np.isnan(b) if a.dtype.kind == "f" else np.zeros(np.broadcast(a, b).shape, bool)
    if how in ("num", "nan"):
        return ~unordered if how == "num" else unordered
    if how in ORDERED:
        return ORDERED[how](a, b) & ~unordered
    if how[:-1] in ORDERED and how.endswith("u"):
        return ORDERED[how[:-1]](a, b) | unordered
    raise PTXError(f"comparison .{how}")


@executes("setp")
def set_predicate(block: Block, ins: Instruction, active: Active) -> None:
    kind = "u" + ins.type[1:] if ins.modifiers[0] in ("lo", "ls", "hi", "hs") else ins.type
    a, b = (block.registers.read(op, kind, active) for op in ins.operands[1:3])
    result = compare(ins.modifiers[0], a, b)
    both = [result, ~result]
    if len(ins.operands) > 3:
        other = block.registers.predicate(ins.operands[3], active)
        both = [COMBINED[ins.modifiers[1]](r, other) for r in both]
    for target, value in zip(ins.registers(0), both, strict=False):
        block.registers.write(target, value, "pred", active)


@executes("selp")
def select(block: Block, ins: Instruction, active: Active) -> None:
    a, b = (block.registers.bits(op, width(ins.type), active) for op in ins.operands[1:3])
    chosen = block.registers.predicate(ins.operands[3], active)
    block.registers.write(ins.operands[0], np.where(chosen, a, b), f"b{8 * width(ins.type)}", active)


@executes("mov")
def move(block: Block, ins: Instruction, active: Active) -> None:
    """Also packs `{a, b}` into one register and takes one apart."""
    registers, kind = block.registers, ins.type
    if kind == "pred":
        registers.write(ins.operands[0], registers.predicate(ins.operands[1], active), kind, active)
        return
    size, targets, origins = width(kind), ins.registers(0), ins.registers(1)
    part = size // max(len(targets), len(origins))
    bits = np.stack([_spread(registers.bits(op, size // len(origins), active), active) for op in origins], 1)
    parts = bits.view(UNSIGNED[part]) if len(targets) > 1 else bits.view(UNSIGNED[size])
    for i, target in enumerate(targets):
        registers.write(target, parts[:, i], f"b{8 * parts.itemsize}", active)


def _spread(bits: Array, active: Active) -> Array:
    return np.broadcast_to(bits, (len(active),))


@executes("cvta")
def to_address(block: Block, ins: Instruction, active: Active) -> None:
    block.registers.write(
        ins.operands[0], block.registers.read(ins.operands[1], ins.type, active), ins.type, active
    )
