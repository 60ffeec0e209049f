"""nvcc's PTX in the place of the emulated kernels: inside `launching`, launches run in the emulator of tests/gpu/ptx.

The emulated module still decides on grids and parameters, which have the same layout on the host and the device.
"""

from __future__ import annotations

import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from ..cuda_emulation import build
from ..cuda_emulation.recording import WIDTHS, Described
from ..gpu.ptx import Kernel, Machine, parse
from . import compiling
from .gpus import Gpu

FEW_TERMS = Path(__file__).with_name("pair_kernels.cu")
WHOLE = ("statistics.cu", "coefficients.cu")  # which FEW_TERMS stands for


@cache
def texts(gpu: Gpu) -> dict[str, tuple[str, str]]:
    """{"kernel<float>": (PTX of its file, symbol)}."""
    found = {}
    for path in [FEW_TERMS, *(path for path in compiling.sources() if path.name not in WHOLE)]:
        text = compiling.ptx(path, gpu)
        symbols = [symbol for symbol, _ in compiling.ENTRY.findall(text)]
        for symbol, name in compiling.readable(symbols).items():
            found[name] = text, symbol
    return found


@cache
def symbols(module: Path) -> dict[int, str]:
    """Kernels of the emulated module by their address in it."""
    shown = subprocess.run(
        ["nm", "--defined-only", module], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split() for line in shown.splitlines()]
    kernels = {int(row[0], 16): row[2] for row in rows if row[1] in "tTwW" and "kernel" in row[2]}
    names = compiling.readable(list(kernels.values()))
    return {address: names[symbol] for address, symbol in kernels.items()}


class Launcher:
    """Stands where `fused_rank.cuda.kernels` has the emulated module."""

    def __init__(self, module: Any, gpu: Gpu, profile: bool) -> None:
        self.ask = module.ask
        self.launched: Counter[str] = Counter()
        self.counts: dict[str, Counter[str]] = defaultdict(Counter)  # of each kernel, where `profile` is set
        self._module, self._gpu, self._profile = module, gpu, profile
        self._programs: dict[str, Kernel] = {}
        self._machine = Machine(profile)

    def run(self, name: str, arrays: Sequence[Described], *rest: Any) -> None:
        """The kernels may touch these arrays and no other memory."""
        self._machine = Machine(self._profile)
        for address, kind, count in set(arrays):
            self._machine.memory.register(address, count * WIDTHS[kind])
        self._module.observe(self._launch)
        try:
            self._module.run(name, arrays, *rest)
        finally:
            self._module.observe(None)

    def _launch(
        self, address: int, grid: Sequence[int], block: Sequence[int], shared: int, parameters: list[bytes]
    ) -> bool:
        name = symbols(build.module())[address]
        if name not in self._programs:
            text, symbol = texts(self._gpu)[name]
            self._programs[name] = parse(text, symbol)
        self.launched[name] += 1
        self._machine.launch(self._programs[name], grid, block, parameters, shared)
        self.counts[name].update(self._machine.counts)
        self._machine.counts.clear()
        return True


@contextmanager
def launching(gpu: Gpu, profile: bool = False) -> Iterator[Launcher]:
    from fused_rank.cuda import kernels

    launcher = Launcher(kernels._emulation(), gpu, profile)
    with mock.patch.object(kernels, "_emulation", return_value=launcher):
        yield launcher


@contextmanager
def watching() -> Iterator[set[str]]:
    """Inside, the kernels that the emulated module launches are collected by name."""
    from fused_rank.cuda import kernels

    launched: set[str] = set()
    module = kernels._emulation()

    def see(address: int, *_: Any) -> bool:
        launched.add(symbols(build.module())[address])
        return False

    module.observe(see)
    try:
        yield launched
    finally:
        module.observe(None)
