"""Runs a kernel: blocks one after another, the threads of a block together, each with its own program counter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import alu, bits, convert, counters, matrix, transfer, warp, wgmma
from .formats import Array, PTXError
from .memory import Global, Shared
from .parser import Instruction, Kernel, Register
from .registers import WARP, Active, Registers, Size, special_registers
from .table import HANDLERS

# imported for the instructions they add to the table
assert all((alu, bits, convert, matrix, transfer, warp, wgmma))
RUNNING, WAITING, HELD, EXITED = range(4)  # WAITING at a barrier, HELD for the other lanes of a .sync


class Machine:
    """`counts` fills during launches when `profile` is set."""

    def __init__(self, profile: bool = False) -> None:
        self.memory = Global()
        self.profile = profile
        self.counts: Counter[str] = Counter()

    def register(self, array: Any) -> int:
        """Makes a contiguous NumPy array or CPU tensor accessible; returns its address."""
        if hasattr(array, "data_ptr"):
            address, size = array.data_ptr(), array.numel() * array.element_size()
        else:
            address, size = array.ctypes.data, array.nbytes
        self.memory.register(address, size)
        return int(address)

    def launch(
        self,
        kernel: Kernel,
        grid: Sequence[int],
        threads: int | Sequence[int],
        arguments: Sequence[Any],
        shared: int = 0,
    ) -> None:
        """`arguments`: arrays, tensors and numbers, zero where left out; `shared`: dynamic bytes. PTXError."""
        parameters = self._pack(kernel, arguments)
        across, size = _three(grid), _three([threads] if isinstance(threads, int) else threads)
        for number in range(across[0] * across[1] * across[2]):
            position = number % across[0], number // across[0] % across[1], number // (across[0] * across[1])
            block = Block(self, kernel, parameters, across, position, size, shared)
            try:
                block.run()
            except PTXError as error:
                raise PTXError(f"{kernel.name} block {position}: {error}") from error

    def _pack(self, kernel: Kernel, arguments: Sequence[Any]) -> Array:
        if len(arguments) > len(kernel.parameters):
            raise PTXError(f"{kernel.name} takes {len(kernel.parameters)} arguments, not {len(arguments)}")
        octets = np.zeros(kernel.parameter_size, np.uint8)
        for parameter, argument in zip(kernel.parameters.values(), arguments, strict=False):
            value = self.register(argument) if getattr(argument, "shape", ()) else argument
            if isinstance(value, bytes):
                if len(value) != parameter.size:
                    raise PTXError(f"a parameter of {parameter.size} bytes is given {len(value)}")
                packed = value
            elif isinstance(value, float):
                packed = np.array([value], {4: np.float32, 8: np.float64}[parameter.size]).tobytes()
            else:
                packed = (int(value) & ((1 << 8 * parameter.size) - 1)).to_bytes(parameter.size, "little")
            octets[parameter.offset : parameter.offset + parameter.size] = np.frombuffer(packed, np.uint8)
        return octets


def _three(size: Sequence[int]) -> Size:
    x, y, z = (*size, 1, 1)[:3]
    return x, y, z


class Block:
    def __init__(
        self,
        machine: Machine,
        kernel: Kernel,
        parameters: Array,
        grid: Size,
        position: Size,
        size: Size,
        dynamic: int,
    ) -> None:
        self.machine, self.kernel, self.parameters = machine, kernel, parameters
        self.threads = size[0] * size[1] * size[2]
        self.everyone = Active(slice(None), np.arange(self.threads))
        self.warps = -(-self.threads // WARP)
        lanes = np.minimum(self.threads - WARP * np.arange(self.warps), WARP).astype(np.uint64)
        self.existing = ((np.uint64(1) << lanes) - np.uint64(1)).astype(np.uint32)  # lanes of each warp
        behind = -(-kernel.shared_size // 1024) * 1024 if dynamic else kernel.shared_size
        self.shared = Shared(behind + dynamic)
        places = {name: behind if offset is None else offset for name, offset in kernel.shared.items()}
        fixed = special_registers(position, grid, size)
        places.update({name: parameter.offset for name, parameter in kernel.parameters.items()})
        fixed.update({name: np.full(self.threads, offset, np.uint64) for name, offset in places.items()})
        self.registers = Registers(kernel, self.threads, fixed)
        self.copies: list[transfer.Copy] = []
        self.copy_group = np.zeros(self.threads, np.int64)
        self.products: dict[int, list[list[wgmma.Product]]] = {}
        # `together` is everyone's program counter, or None where the threads diverge and have their own
        self.together: int | None = 0
        self.counter = np.zeros(self.threads, np.int64)
        self.state = np.full(self.threads, RUNNING, np.int8)

    def run(self) -> None:
        with np.errstate(all="ignore"):
            while (ready := self._next()) is not None:
                self._step(*ready)
        if self.copies:
            raise PTXError(f"asynchronous copies without a wait at exit: {self.copies[0].text}")

    def _next(self) -> tuple[int, Active] | None:
        """The threads with the smallest program counter, so that those ahead wait for the others to join."""
        if self.together is not None:
            return self.together, self.everyone
        running = np.nonzero(self.state == RUNNING)[0]
        if not len(running):
            if (self.state == EXITED).all():
                return None
            self._refuse_held()
            self._pass_barrier()
            return self._next()
        at = int(self.counter[running].min())
        threads = np.nonzero((self.counter == at) & ((self.state == RUNNING) | (self.state == HELD)))[0]
        self.state[threads] = RUNNING
        if len(threads) == self.threads:
            self.together = at
            return at, self.everyone
        return at, Active(threads, threads)

    def _step(self, at: int, threads: Active) -> None:
        if at >= len(self.kernel.code):
            self._set_state(threads, EXITED)
            return
        ins = self.kernel.code[at]
        active = threads
        if ins.guard is not None:
            active = threads.only(self.registers.predicate(ins.guard, threads))
        if ins.opcode == "bra":
            self._branch(ins, at, threads, active)
            return
        if "sync" in ins.modifiers and ins.opcode in warp.TOGETHER and len(active):
            threads, active = self._hold(ins, at, threads, active)
        self._move(threads, at + 1)
        if not len(active):
            return
        if self.machine.profile:
            counters.count_instruction(
                self.machine.counts, ins, active, self.warps if active is self.everyone else None
            )
        if ins.opcode in ("ret", "exit"):
            self._set_state(active, EXITED)
        elif ins.opcode in ("bar", "barrier"):
            self._barrier(ins, active)
        elif handler := HANDLERS.get(ins.opcode):
            handler(self, ins, active)
        else:
            raise PTXError(f"not emulated: {ins.text}")

    def _hold(self, ins: Instruction, at: int, threads: Active, active: Active) -> tuple[Active, Active]:
        """Those that go on: lanes stay at a .sync until all that its mask names have come."""
        missing = warp.missing(self, ins, active)
        if not missing.any():
            return threads, active
        held = active.threads[missing]
        self._split()
        self.counter[held], self.state[held] = at, HELD
        rest = np.setdiff1d(threads.threads, held)
        going = active.threads[~missing]
        return Active(rest, rest), Active(going, going)

    def _refuse_held(self) -> None:
        held = np.nonzero(self.state == HELD)[0]
        if len(held):
            ins = self.kernel.code[int(self.counter[held].min())]
            warp.check_members(self, ins, Active(held, held))

    def _move(self, threads: Active, to: int) -> None:
        if self.together is not None:
            self.together = to
        else:
            self.counter[threads.select] = to

    def _split(self) -> None:
        if self.together is not None:
            self.counter[:] = self.together
            self.together = None

    def _set_state(self, threads: Active, state: int) -> None:
        self._split()
        self.state[threads.select] = state

    def _branch(self, ins: Instruction, at: int, threads: Active, taken: Active) -> None:
        if self.machine.profile:
            counters.count_instruction(self.machine.counts, ins, threads, None)
        target = ins.operands[0]
        if not isinstance(target, Register) or target.name not in self.kernel.labels:
            raise PTXError(f"branch target of {ins.text}")
        self._move(threads, at + 1)
        if len(taken) == len(threads):
            self._move(threads, self.kernel.labels[target.name])
        elif len(taken):
            self._split()
            self.counter[taken.select] = self.kernel.labels[target.name]

    def _barrier(self, ins: Instruction, active: Active) -> None:
        if "warp" in ins.modifiers:
            return
        reduces = "red" in ins.modifiers
        operands = ins.operands[1:-1] if reduces else ins.operands
        numbers = [int(getattr(op, "number", -1)) for op in operands]
        known = {"sync", "cta", "aligned", "red", "and", "or", "popc", "pred", "u32"}
        if not set(ins.modifiers) <= known or numbers not in ([0], [0, self.threads]):
            raise PTXError(f"this barrier is not emulated: {ins.text}")
        if active is self.everyone:
            self._pass_together(ins)
        else:
            self._set_state(active, WAITING)

    def _pass_barrier(self) -> None:
        if (self.state == EXITED).any():
            raise PTXError("a barrier that some threads never reach: they have exited")
        if len(np.unique(self.counter)) != 1:
            raise PTXError("threads wait at different barriers")
        self.state[:] = RUNNING
        self._pass_together(self.kernel.code[self.counter[0] - 1])

    def _pass_together(self, ins: Instruction) -> None:
        self.shared.interval += 1
        if "red" not in ins.modifiers:
            return
        chosen = self.registers.predicate(ins.operands[-1], self.everyone)
        how = next(m for m in ins.modifiers if m in ("and", "or", "popc"))
        result = {"and": chosen.all(), "or": chosen.any(), "popc": chosen.sum()}[how]
        kind = "u32" if how == "popc" else "pred"
        self.registers.write(ins.operands[0], np.full(self.threads, result), kind, self.everyone)

    def parameter(self, addresses: Array, size: int) -> Array:
        """Bytes [n, size] at places among the parameters, or [size] where all threads read the same place."""
        if (addresses < 0).any() or (addresses + size > len(self.parameters)).any():
            raise PTXError(f"parameters end before byte {int(addresses.max()) + size}")
        if (addresses == addresses[0]).all():
            return self.parameters[addresses[0] : addresses[0] + size]
        return self.parameters[addresses[:, None] + np.arange(size)]

    def count_access(self, ins: Instruction, addresses: Array, size: int, active: Active) -> None:
        if not self.machine.profile or not len(addresses):
            return
        name = counters.label(ins)
        if name.endswith("shared"):
            counters.count_banks(self.machine.counts, name, addresses, size, active.threads)
        else:
            counters.count_sectors(self.machine.counts, name, addresses, size, active.warps)

    def count_rows(self, ins: Instruction, addresses: Array, threads: Array) -> None:
        """Eight 16-byte rows of one matrix are one wavefront where they hit all banks."""
        if self.machine.profile:
            counters.count_banks(self.machine.counts, counters.label(ins), addresses, 16, threads)
