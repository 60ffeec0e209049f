"""What an SM of each target holds, by the CUDA programming guide, and how many blocks of a kernel that makes."""

from __future__ import annotations

from dataclasses import dataclass

Counts = dict[str, int]
KIB = 1024
REGISTERS = 64 * KIB
WARP = 32


@dataclass(frozen=True)
class Gpu:
    name: str
    threads: int  # of an SM
    blocks: int
    shared: int  # bytes of an SM
    block_shared: int  # bytes a block may have

    @property
    def number(self) -> str:
        """The 80 of sm_80."""
        return self.name.removeprefix("sm_")


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("sm_80", 2048, 32, 164 * KIB, 163 * KIB),
        Gpu("sm_86", 1536, 16, 100 * KIB, 99 * KIB),
        Gpu("sm_89", 1536, 24, 100 * KIB, 99 * KIB),
        Gpu("sm_90", 2048, 32, 228 * KIB, 227 * KIB),
        Gpu("sm_100", 2048, 32, 228 * KIB, 227 * KIB),
        Gpu("sm_120", 1536, 24, 100 * KIB, 99 * KIB),
    )
}


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


def occupancy(counts: Counts, gpu: Gpu) -> int:
    """The share of an SM's threads that blocks of the kernel fill, in percent.

    A warp's registers come in steps of 256, shared memory in steps of 128 bytes with 1 KiB of every block reserved.
    """
    warps = _up(counts["threads"], WARP) // WARP
    by_registers = REGISTERS // (_up(WARP * max(counts["registers"], 1), 256) * warps)
    by_shared = gpu.shared // (_up(counts["shared bytes"], 128) + KIB)
    blocks = min(gpu.blocks, gpu.threads // (WARP * warps), by_registers, by_shared)
    return 100 * blocks * WARP * warps // gpu.threads


def violations(counts: Counts, gpu: Gpu) -> list[str]:
    """What no shipped kernel may show."""
    found = []
    spilled = {name: counts[name] for name in ("stack bytes", "spill bytes") if counts[name]}
    if spilled:
        found.append("spills: " + ", ".join(f"{number} {name}" for name, number in spilled.items()))
    if counts["shared bytes"] > gpu.block_shared:
        found.append(f"{counts['shared bytes']} bytes of shared memory, {gpu.block_shared} are allowed")
    if not found and occupancy(counts, gpu) == 0:
        found.append("no block fits an SM")
    return found
