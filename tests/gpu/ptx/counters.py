"""What a run of the emulator counts: the same on every run, and on every machine."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from .formats import Array
from .registers import WARP
from .transfer import is_shared

if TYPE_CHECKING:
    from .parser import Instruction
    from .registers import Active

SECTOR = 32  # bytes
BANKS = 32  # of 4 bytes
SPACES = ("global", "shared")


def label(ins: Instruction) -> str:
    """`ld.global`, `mma`, `fma`: the opcode, with the space for memory."""
    space = (
        "shared" if is_shared(ins) and ins.opcode != "cp" else "global" if "global" in ins.modifiers else ""
    )
    return f"{ins.opcode}.{space}" if space else ins.opcode


def count_instruction(counts: Counter[str], ins: Instruction, active: Active, whole: int | None) -> None:
    """One for each warp with an active lane; `whole` is their number where it is known."""
    warps = whole if whole is not None else len(np.unique(active.warps))
    counts["warp instructions"] += warps
    counts[f"instr {label(ins)}"] += warps


def count_sectors(counts: Counter[str], name: str, addresses: Array, size: int, warps: Array) -> None:
    """32-byte sectors that each warp's request touches; perfectly coalesced means bytes / 32 of them."""
    sectors = np.concatenate([addresses // SECTOR, (addresses + size - 1) // SECTOR])
    counts[f"{name} requests"] += len(np.unique(warps))
    counts[f"{name} sectors"] += len(np.unique(np.stack([np.tile(warps, 2), sectors]), axis=1).T)
    counts[f"{name} bytes"] += len(addresses) * size


def count_banks(counts: Counter[str], name: str, addresses: Array, size: int, threads: Array) -> None:
    """Wavefronts: the most words any bank must give; 8-byte accesses go by half warps, 16-byte by quarters."""
    lanes = WARP * 4 // max(4, size)
    words = addresses[:, None] // 4 + np.arange(max(1, size // 4))
    groups = np.broadcast_to((threads // lanes)[:, None], words.shape)
    group, word = np.unique(np.stack([groups.ravel(), words.ravel()]), axis=1)
    _, group = np.unique(group, return_inverse=True)
    busy = np.bincount(group * BANKS + word % BANKS, minlength=BANKS * (group.max() + 1)).reshape(-1, BANKS)
    counts[f"{name} wavefronts"] += int(busy.max(1).sum())
    counts[f"{name} ideal wavefronts"] += int((-(-busy.sum(1) // BANKS)).sum())
