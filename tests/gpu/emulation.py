"""Triton kernels launched as compiled PTX on the CPU: inside `emulating`, every launch is compiled and emulated.

For a process of its own, with TRITON_INTERPRET=0. Tensors stay on the CPU; the kernels find them at their addresses.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .aot.build import compile_for
from .aot.targets import Target
from .ptx import Kernel, Machine, parse


@dataclass
class Launch:
    """A launch that can be run again, from the same memory, with other PTX."""

    text: str
    grid: tuple[int, ...]
    threads: int
    shared: int
    values: list[Any]  # tensors as they were before

    def replay(self, text: str) -> list[Tensor]:
        """The tensors afterwards. PTXError where the emulator refuses."""
        values = [v.clone() if isinstance(v, Tensor) else v for v in self.values]
        Machine().launch(parse(text), self.grid, self.threads, values, self.shared)
        return [v for v in values if isinstance(v, Tensor)]

    def places(self, pattern: str) -> list[re.Match[str]]:
        return list(re.finditer(pattern, self.text))

    def edited(self, place: re.Match[str], to: str) -> str:
        return self.text[: place.start()] + place.expand(to) + self.text[place.end() :]


class Emulator:
    """Compiles each specialisation once. By kernel name: `counts` when profiling, and the `opcodes` of its PTX.

    `kept` is the first launch of the kernel `keep`.
    """

    def __init__(self, target: Target, *, profile: bool = False, keep: str | None = None) -> None:
        self.target, self.profile, self.keep = target, profile, keep
        self.counts: dict[str, Counter[str]] = {}
        self.opcodes: dict[str, list[str]] = {}
        self.kept: Launch | None = None
        self._compiled: dict[str, tuple[str, Kernel, int]] = {}

    def run(
        self,
        kernel: Any,
        grid: tuple[int, ...],
        given: dict[str, Any],
        num_warps: int,
        num_stages: int,
        maxnreg: int | None,
    ) -> None:
        from fused_rank.triton import launch

        constants = {p.name: given[p.name] for p in kernel.params if p.is_constexpr}
        arguments = {name: value for name, value in given.items() if name not in constants}
        with launch.recording() as recorded:
            options: dict[str, Any] = {"num_warps": num_warps, "num_stages": num_stages, "maxnreg": maxnreg}
            launch.launch(kernel, grid, arguments, constants, **options)
        (one,) = recorded
        text, program, shared = self._compile(one)
        values = [leaf for name in kernel.arg_names if name in arguments for leaf in _leaves(arguments[name])]
        if one.name == self.keep and self.kept is None:
            before = [v.clone() if isinstance(v, Tensor) else v for v in values]
            self.kept = Launch(text, grid, 32 * num_warps, shared, before)
        machine = Machine(self.profile)
        machine.launch(program, grid, 32 * num_warps, values, shared)
        self.counts.setdefault(one.name, Counter()).update({**machine.counts, "launches": 1})
        self.opcodes[one.name] = sorted({ins.opcode for ins in program.code})

    def _compile(self, one: Any) -> tuple[str, Kernel, int]:
        if one.key not in self._compiled:
            compiled = compile_for(one, self.target)
            text = compiled.asm["ptx"]
            self._compiled[one.key] = text, parse(text), int(compiled.metadata.shared)
        return self._compiled[one.key]


def _leaves(value: Any) -> Iterator[Any]:
    """Arguments as the compiled kernel takes them: members of tuples one by one, nothing for None."""
    if isinstance(value, tuple):
        for member in value:
            yield from _leaves(member)
    elif isinstance(value, Tensor):
        assert value.is_contiguous(), "kernels are given whole tensors"
        yield value
    elif value is not None:
        yield value


@contextmanager
def emulating(emulator: Emulator) -> Iterator[None]:
    """Inside, `kernel[grid](...)` runs on `emulator`."""
    from triton import knobs
    from triton.runtime.jit import JITFunction

    def run(self: Any, *args: Any, grid: tuple[int, ...], warmup: bool, **given: Any) -> None:
        assert not args, "kernels are launched by keyword"
        options = {name: given.pop(name, None) for name in ("num_warps", "num_stages", "maxnreg")}
        del given["enable_fp_fusion"]
        emulator.run(self, grid, given, **options)

    before, hook = JITFunction.run, knobs.runtime.add_stages_inspection_hook
    JITFunction.run, knobs.runtime.add_stages_inspection_hook = run, _without_ptxas
    try:
        yield
    finally:
        JITFunction.run, knobs.runtime.add_stages_inspection_hook = before, hook


def _without_ptxas(*details: Any) -> Any:
    """Stops at PTX. Triton also asks for a name and a hash of such a hook, for its cache."""
    if not details:
        return "without ptxas", "1"
    _, stages, *_ = details
    stages["cubin"] = lambda source, metadata: b""
    return None
