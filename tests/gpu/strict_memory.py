"""What memory a launch of the strict interpreter may touch, and which program touched it.

Every tensor argument gets an address range of its own, far from all others, so that a pointer tells which
argument it was made from: one that leaves its argument is caught even where it lands inside another.
Arguments that share memory share one record of who touched it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

SLOT = 44  # log2 of the bytes of address space of one argument
NOBODY = np.iinfo(np.int32).max

# An access conflicts with one of these kinds by another program: nothing orders programs of one launch.
CONFLICTS = {"load": ("store", "atomic"), "store": ("store", "load", "atomic"), "atomic": ("store", "load")}


class StrictError(AssertionError):
    """Something that compiled code would get wrong."""

    def __init__(self, message: str) -> None:
        super().__init__(f"{_kernel_line()}: {message}")


def _kernel_line() -> str:
    """File and line of the kernel that runs now: the innermost frame outside triton and these tools."""
    frame: Any = sys._getframe(2)
    own = str(Path(__file__).parent / "strict_")
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(own) and "/triton/" not in file.replace("fused_rank/triton", ""):
            return f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back
    return "unknown line"


@dataclass
class Region:
    """Memory shared by overlapping arguments. `first[kind][unit]`: the first program that touched it so."""

    start: int
    end: int
    unit: int  # bytes: the smallest element of its arguments
    first: dict[str, np.ndarray] = field(default_factory=dict)

    def touch(self, kind: str, units: np.ndarray, program: int) -> tuple[str, int, int] | None:
        """Record an access; the kind, place and program of an earlier one that conflicts.

        Programs run one after another, so every other one that touched this has a smaller number, and the first
        of a kind is enough to know.
        """
        for other in CONFLICTS[kind]:
            if (first := self.first.get(other)) is not None:
                earlier = first[units]
                if earlier.min() < program:
                    at = int(earlier.argmin())
                    return other, at, int(earlier.flat[at])
        if (mine := self.first.get(kind)) is None:
            mine = self.first[kind] = np.full((self.end - self.start) // self.unit, NOBODY, np.int32)
        mine[units] = program if kind == "store" else np.minimum(mine[units], program)
        return None


@dataclass
class Argument:
    name: str
    address: int  # what the kernel sees
    real: int
    size: int  # bytes from the first element of the view to its last
    itemsize: int
    inside: np.ndarray | None  # bool per byte of a view with gaps
    region: Region = field(init=False)


def _inside(tensor: torch.Tensor, span: int) -> np.ndarray | None:
    if span == tensor.numel():
        return None
    elements = torch.zeros(span, dtype=torch.bool)
    elements.as_strided(tensor.size(), tensor.stride()).fill_(True)
    return elements.numpy().repeat(tensor.element_size())


class Launch:
    """The arguments of one launch, and the programs in the order in which they run."""

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names  # by id of the tensor
        self.arguments: list[Argument] = []
        self.regions: list[Region] = []
        self.order: list[tuple[int, int, int]] = []
        self.program = -1  # place in `order`

    def add(self, tensor: Any) -> int:
        """The address that the kernel gets for a tensor argument."""
        base = getattr(tensor, "base", tensor) if not isinstance(tensor, torch.Tensor) else tensor
        span = (
            1 + sum((n - 1) * s for n, s in zip(base.size(), base.stride(), strict=True))
            if base.numel()
            else 0
        )
        real, itemsize = base.data_ptr(), base.element_size()
        address = ((len(self.arguments) + 1) << SLOT) + (1 << (SLOT - 1)) + real % 4096
        name = self.names.get(id(tensor), f"argument {len(self.arguments)}")
        argument = Argument(name, address, real, span * itemsize, itemsize, _inside(base, span))
        self.arguments.append(argument)
        self._place(argument)
        return address

    def _place(self, argument: Argument) -> None:
        """Give it a region, merged with those that it overlaps."""
        region = Region(argument.real, argument.real + argument.size, argument.itemsize)
        overlapping = [r for r in self.regions if r.start < region.end and region.start < r.end]
        region.start = min([region.start, *(r.start for r in overlapping)])
        region.end = max([region.end, *(r.end for r in overlapping)])
        region.unit = min([region.unit, *(r.unit for r in overlapping)])
        self.regions = [r for r in self.regions if r not in overlapping] + [region]
        argument.region = region
        for other in self.arguments[:-1]:
            if other.region in overlapping:
                other.region = region

    def access(self, kind: str, pointers: np.ndarray, mask: np.ndarray, nbytes: int) -> np.ndarray:
        """Check what the lanes under the mask touch; real pointers for all lanes."""
        lanes = pointers.ravel() if mask.all() else np.broadcast_to(pointers, mask.shape)[mask]
        if lanes.size == 0:
            return pointers
        low, high = int(lanes.min()), int(lanes.max())
        argument = self._owner(kind, low)
        start = argument.address
        if low < start or high + nbytes > start + argument.size:
            far = high if low >= start else low
            raise StrictError(
                f"{kind} out of bounds: element {(far - start) // argument.itemsize} of {argument.name},"
                f" which has {argument.size // argument.itemsize}"
            )
        offsets = lanes - np.uint64(start)
        if (argument.itemsize != nbytes or argument.real % nbytes) and (lanes % np.uint64(nbytes)).any():
            raise StrictError(f"misaligned {kind} of {nbytes} bytes in {argument.name}")
        if argument.inside is not None and not argument.inside[offsets].all():
            raise StrictError(f"{kind} out of bounds: between the rows of the view {argument.name}")
        if len(self.order) > 1:
            self._check_race(kind, argument, offsets, nbytes)
        return pointers + np.uint64((argument.real - start) % 2**64)

    def _owner(self, kind: str, pointer: int) -> Argument:
        slot = (pointer >> SLOT) - 1
        if not 0 <= slot < len(self.arguments):
            raise StrictError(f"{kind} out of bounds: address {pointer:#x} comes from no tensor argument")
        return self.arguments[slot]

    def _check_race(self, kind: str, argument: Argument, offsets: np.ndarray, nbytes: int) -> None:
        region = argument.region
        first = argument.real - region.start
        units = ((offsets + np.uint64(first)) // np.uint64(region.unit)).astype(np.int64)
        if nbytes > region.unit:
            units = units[..., None] + np.arange(nbytes // region.unit)
        if (conflict := region.touch(kind, units, self.program)) is not None:
            other, at, program = conflict
            element = (int(units.flat[at]) * region.unit - first) // argument.itemsize
            raise StrictError(
                f"race on {argument.name}[{element}]: {kind} by program {self.order[self.program]},"
                f" {other} by program {self.order[program]}"
            )


def named_tensors(names: Sequence[str], values: Sequence[Any]) -> Iterator[tuple[int, str]]:
    """id and name of every tensor among the arguments, those in tuples and descriptors too."""
    for name, value in zip(names, values, strict=False):
        if isinstance(value, tuple):
            fields = getattr(value, "_fields", range(len(value)))
            yield from named_tensors([f"{name}.{field}" for field in fields], value)
        elif hasattr(value, "data_ptr"):
            yield id(value), name
        elif hasattr(value, "block_shape"):
            yield id(value.base), name
