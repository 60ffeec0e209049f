"""The one way a kernel is launched: on its tensors' device, counted by name, and recordable without running."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

Signature: TypeAlias = Any  # "*fp32", "i32", "constexpr", or a (named) tuple of these
MAX_ROWS = 1 << 24  # row numbers are int32 and, where they are compared with distances, exact in fp32
_GRID_LIMITS = (2**31 - 1, 65535, 65535)
_POINTERS = {
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.uint8: "*u8",
    torch.int8: "*i8",
    torch.bool: "*i1",
}


@dataclass(frozen=True, slots=True)
class Specialisation:
    """One compilation of a kernel, as `triton.compiler.ASTSource` takes it."""

    name: str
    kernel: Any  # the @triton.jit function
    signature: dict[str, Signature]
    constexprs: dict[str, Any]
    aligned: tuple[
        tuple[int, ...], ...
    ]  # paths of the arguments divisible by 16: (argument, member of a tuple...)
    num_warps: int
    num_stages: int
    maxnreg: int | None = None  # registers of a thread; None: the assembler's choice
    label: str = field(default="", compare=False)  # which operator on which rows asked for it

    @property
    def attributes(self) -> dict[tuple[int, ...], list[list[Any]]]:
        """ASTSource's `attrs`."""
        return {path: [["tt.divisibility", 16]] for path in self.aligned}

    @property
    def key(self) -> str:
        """The same for the same compilation, sources aside."""
        values = {name: getattr(value, "name", value) for name, value in self.constexprs.items()}
        return f"{self.name}{self.signature}{values}{self.aligned}{self.num_warps}{self.num_stages}{self.maxnreg}"


_counts: Counter[str] = Counter()
_recorded: list[Specialisation] | None = None


def counts() -> dict[str, int]:
    """How often each kernel was launched since `reset_counts`."""
    return dict(_counts)


def reset_counts() -> None:
    """Start counting from zero."""
    _counts.clear()


@contextmanager
def recording() -> Iterator[list[Specialisation]]:
    """Inside, launches are listed instead of run; whatever they would have written stays as it is."""
    global _recorded
    before, _recorded = _recorded, []
    try:
        yield _recorded
    finally:
        _recorded = before


def warps(num_warps: int, *, nvidia: bool) -> int:
    """Of a kernel that is given as many of NVIDIA's: AMD's have 64 lanes, and spill where eight share the registers."""
    return num_warps if nvidia else min(num_warps, 4)


def compiler_options(num_warps: int, num_stages: int, maxnreg: int | None, *, nvidia: bool) -> dict[str, Any]:
    """What a kernel is compiled with. Registers are rationed by NVIDIA's compiler alone."""
    options = {"num_warps": num_warps, "num_stages": num_stages, "enable_fp_fusion": True}
    return {**options, "maxnreg": maxnreg} if nvidia and maxnreg is not None else options


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    arguments: Mapping[str, Any],
    constexprs: Mapping[str, Any],
    *,
    num_warps: int,
    num_stages: int,
    maxnreg: int | None = None,
) -> None:
    """Run `kernel` on `grid`. Arguments are tensors, numbers and tuples of them; None is a constant.

    An empty grid launches nothing. Raises ValueError where a grid is beyond what a device takes.
    """
    if any(size > limit for size, limit in zip(grid, _GRID_LIMITS, strict=False)):
        raise ValueError(f"{_name(kernel)}: a grid of {grid} is beyond {_GRID_LIMITS}")
    if 0 in grid:
        return
    if _recorded is not None:
        _recorded.append(_specialise(kernel, arguments, constexprs, num_warps, num_stages, maxnreg))
        return
    _counts[_name(kernel)] += 1
    device = next(t.device for t in _leaves(tuple(arguments.values())) if isinstance(t, Tensor))
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        nvidia = torch.version.hip is None
        options = compiler_options(warps(num_warps, nvidia=nvidia), num_stages, maxnreg, nvidia=nvidia)
        kernel[grid](**arguments, **constexprs, **options)


def _name(kernel: Any) -> str:
    return str(kernel.fn.__name__)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple):
        for member in value:
            yield from _leaves(member)
    else:
        yield value


def _specialise(
    kernel: Any,
    arguments: Mapping[str, Any],
    constexprs: Mapping[str, Any],
    num_warps: int,
    num_stages: int,
    maxnreg: int | None,
) -> Specialisation:
    """What the launcher would compile: in the order of the kernel's parameters."""
    unspecialised = {p.name for p in kernel.params if p.do_not_specialize}
    signature: dict[str, Signature] = {}
    constants = dict(constexprs)
    aligned: list[tuple[int, ...]] = []
    for position, name in enumerate(kernel.arg_names):
        if name in constants or arguments[name] is None:
            signature[name] = "constexpr"
            constants.setdefault(name, None)
            continue
        signature[name] = _describe(arguments[name], (position,), name not in unspecialised, aligned)
    return Specialisation(
        _name(kernel), kernel, signature, constants, tuple(aligned), num_warps, num_stages, maxnreg
    )


def _describe(
    value: Any, path: tuple[int, ...], specialise: bool, aligned: list[tuple[int, ...]]
) -> Signature:
    if isinstance(value, tuple):
        members = [_describe(v, (*path, k), specialise, aligned) for k, v in enumerate(value)]
        return type(value)(*members) if hasattr(value, "_fields") else tuple(members)
    if isinstance(value, Tensor):
        if specialise:
            aligned.append(path)  # torch's allocations are, and the sweeps hand over whole ones
        return _POINTERS[value.dtype]
    if isinstance(value, float):
        return "fp32"
    if specialise and value % 16 == 0:
        aligned.append(path)
    return "i32" if -(2**31) <= value < 2**31 else "i64"
