"""PTX text to a `Kernel`: parameters, register and shared declarations, and a flat list of instructions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np

from .formats import UNSIGNED, Array, PTXError, width

COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
LINE_DIRECTIVE = re.compile(r"^\s*\.(?:loc|file)\b[^\n]*$", re.M)
PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(?:\.ptr\s+(?:\.[a-z]+\s+)?(?:\.align\s+\d+\s+)?)?([\w$]+)(?:\[(\d+)\])?$"
)
SHARED = re.compile(r"\.shared\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+([\w$]+)(?:\[(\d*)\])?")
LABEL = re.compile(r"([\w$]+)\s*:(?!:)")
ADDRESS = re.compile(r"\[\s*([\w$%.]+)\s*(?:\+\s*(-?\w+))?\s*\]$")
GUARD = re.compile(r"@(!?)(%[\w$]+)\s+(.*)", re.S)


@dataclass(frozen=True)
class Register:
    """A register, special register, shared variable or label; `negated` for `!%p`."""

    name: str
    negated: bool = False


@dataclass(frozen=True)
class Immediate:
    text: str
    cache: dict[int, Array] = field(default_factory=dict, compare=False)

    def bits(self, size: int) -> Array:
        """The constant as an unsigned scalar array of `size` bytes."""
        if size not in self.cache:
            self.cache[size] = np.array(self._bits(size), UNSIGNED[size])
        return self.cache[size]

    def _bits(self, size: int) -> int:
        prefix = self.text[:2].lower()
        if prefix == "0f" and size != 4:
            single = np.array(int(self.text[2:], 16), np.uint32).view(np.float32)
            wide = single.astype({2: np.float16, 8: np.float64}[size])
            return int(wide.view(UNSIGNED[size]))
        number = int(self.text[2:], 16) if prefix in ("0f", "0d") else self.number
        return number & ((1 << 8 * size) - 1)

    @property
    def number(self) -> int:
        return int(self.text.rstrip("U"), 0)


@dataclass(frozen=True)
class Vector:
    items: tuple[Operand, ...]


@dataclass(frozen=True)
class Address:
    base: str
    offset: int


Operand = Register | Immediate | Vector | Address


@dataclass(frozen=True)
class Instruction:
    text: str
    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: Register | None

    @property
    def type(self) -> str:
        return self.modifiers[-1]

    def registers(self, position: int) -> tuple[Operand, ...]:
        """The operand as a list: the items of a `{...}`, or itself alone."""
        operand = self.operands[position]
        return operand.items if isinstance(operand, Vector) else (operand,)


@dataclass(frozen=True)
class Parameter:
    offset: int
    size: int
    type: str


@dataclass
class Kernel:
    name: str
    parameters: dict[str, Parameter] = field(default_factory=dict)
    registers: dict[str, str] = field(default_factory=dict)
    shared: dict[str, int | None] = field(default_factory=dict)  # None: dynamic, behind the static ones
    shared_size: int = 0
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)

    @property
    def parameter_size(self) -> int:
        return max((p.offset + p.size for p in self.parameters.values()), default=0)


def split_operands(text: str) -> list[str]:
    """Splits at the commas outside brackets."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        depth += (character in "{[(") - (character in "}])")
        if character == "," and depth == 0:
            parts.append(text[start:position].strip())
            start = position + 1
    last = text[start:].strip()
    return [*parts, last] if last else parts


def parse_operand(text: str) -> Operand:
    if text.startswith("{"):
        return Vector(tuple(parse_operand(item) for item in split_operands(text[1:-1])))
    if text.startswith("["):
        found = ADDRESS.match(text)
        if not found:  # a tensor coordinate: parsed for its message only
            return Vector(tuple(parse_operand(item) for item in split_operands(text[1:-1])))
        return Address(found.group(1), int(found.group(2) or "0", 0))
    if re.match(r"-?\d", text):
        return Immediate(text)
    return Register(text.lstrip("!"), text.startswith("!"))


def parse_instruction(text: str) -> Instruction:
    body, guard = text, None
    if found := GUARD.match(text):
        guard, body = Register(found.group(2), found.group(1) == "!"), found.group(3)
    name, _, rest = body.partition(" ")
    opcode, *modifiers = name.split(".")
    operands = [operand for part in split_operands(rest) for operand in parse_pair(part)]
    return Instruction(text, opcode, tuple(modifiers), tuple(operands), guard)


def parse_pair(text: str) -> list[Operand]:
    """`%r1|%p1` (a result and its predicate) is one operand to PTX, a vector here."""
    if "|" in text:
        return [Vector(tuple(parse_operand(part.strip()) for part in text.split("|")))]
    return [parse_operand(text)]


def parse(text: str, name: str | None = None) -> Kernel:
    """The kernel called `name`, or the first one. PTXError if there is none."""
    text = LINE_DIRECTIVE.sub("", COMMENT.sub("", text))
    wanted = re.escape(name) if name else r"[\w$]+"
    entry = re.search(rf"\.entry\s+({wanted})\s*\(", text)
    if not entry:
        raise PTXError(f"no kernel {name or ''} in the text")
    close = text.index(")", entry.end())
    start = text.index("{", close)
    kernel = Kernel(entry.group(1))
    _parameters(kernel, text[entry.end() : close])
    for declaration in SHARED.finditer(text[: entry.start()]):
        _shared(kernel, declaration)
    _body(kernel, text[start + 1 : _closing(text, start)])
    return kernel


def _closing(text: str, start: int) -> int:
    depth = 0
    for position in range(start, len(text)):
        depth += (text[position] == "{") - (text[position] == "}")
        if depth == 0:
            return position
    raise PTXError("unbalanced braces")


def _parameters(kernel: Kernel, text: str) -> None:
    end = 0
    for part in text.split(","):
        if not part.strip():
            continue
        found = PARAMETER.match(part.strip())
        if not found:
            raise PTXError(f"parameter {part.strip()}")
        align, kind, parameter, count = found.groups()
        size = width(kind) * int(count or 1)
        alignment = int(align or width(kind))
        offset = -(-end // alignment) * alignment
        kernel.parameters[parameter] = Parameter(offset, size, kind)
        end = offset + size


def _shared(kernel: Kernel, declaration: re.Match[str]) -> None:
    align, kind, name, count = declaration.groups()
    if count == "":
        kernel.shared[name] = None
        return
    alignment = int(align or width(kind))
    offset = -(-kernel.shared_size // alignment) * alignment
    kernel.shared[name] = offset
    kernel.shared_size = offset + width(kind) * int(count or 1)


def _body(kernel: Kernel, text: str) -> None:
    position = 0
    while position < len(text):
        if text[position].isspace() or text[position] in "{}":
            position += 1
        elif label := LABEL.match(text, position):
            kernel.labels[label.group(1)] = len(kernel.code)
            position = label.end()
        else:
            end = text.index(";", position)
            _statement(kernel, " ".join(text[position:end].split()))
            position = end + 1


def _statement(kernel: Kernel, text: str) -> None:
    if text.startswith(".reg"):
        _, kind, names = text.split(None, 2)
        for name in names.split(","):
            many = re.match(r"(\S+)<(\d+)>", name.strip())
            each = [f"{many.group(1)}{k}" for k in range(int(many.group(2)))] if many else [name.strip()]
            kernel.registers.update(dict.fromkeys(each, kind[1:]))
    elif declaration := SHARED.match(text):
        _shared(kernel, declaration)
    elif text.startswith(".local"):
        raise PTXError("local memory is not emulated")
    elif not text.startswith(".") and text:
        kernel.code.append(parse_instruction(text))
