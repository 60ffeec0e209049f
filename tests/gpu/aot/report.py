"""docs/gpu_counters.md: the recorded counters as tables."""

from __future__ import annotations

from pathlib import Path

from .records import Record
from .targets import TARGETS

PAGE = Path(__file__).parents[3] / "docs" / "gpu_counters.md"
HEAD = """# What the GPU kernels compile to

Written by `make gates`, which compiles every kernel that ships for each GPU below without having one, and refuses a
kernel that spills registers, asks for more shared memory than there is, or lacks tensor-core instructions where its
precision calls for them. These are counts from machine code compiled by Triton {triton}, not measurements.

"""
EMULATED = """## Per pair, executed

Counted while the compiled PTX ran in the emulator of `tests/gpu/ptx`, 128 rows (against 128) of 128 features: thread
instructions and bytes for each pair of rows; 32-byte sectors that a warp's load touches, 4 where its lanes take
neighbouring words and 16 where each takes four, and their bytes over those asked for, more than 1 where some are read
in vain, less where lanes share; how many times longer shared memory takes than without bank conflicts. Borders and
prologues weigh more here than at size, and so do tiles with positives.

"""
COLUMNS = (
    "registers",
    "shared bytes",
    "instructions",
    "tensor",
    "fp32",
    "special function",
    "shuffle",
    "barrier",
)


def page(record: Record) -> str:
    parts = [HEAD.format(triton=record.triton)]
    if record.emulated:
        parts.append(_emulated(record))
    for target in TARGETS:
        rows = [
            (name, entry.counts[target])
            for name, entry in sorted(record.entries.items())
            if entry.counts.get(target)
        ]
        parts.append(f"## {target}\n\n| kernel | {' | '.join(COLUMNS)} |\n|---|{'---:|' * len(COLUMNS)}\n")
        for name, counts in rows:
            parts.append(
                f"| {name.rsplit(' ', 1)[0]} | {' | '.join(str(counts.get(c, 0)) for c in COLUMNS)} |\n"
            )
        parts.append("\n")
    return "".join(parts).rstrip() + "\n"


def _emulated(record: Record) -> str:
    columns = sorted({column for counts in record.emulated.values() for column in counts})
    lines = [EMULATED]
    lines.append(f"| kernel | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}\n")
    for name, counts in sorted(record.emulated.items()):
        lines.append(f"| {name} | {' | '.join(f'{counts.get(c, 0):.4g}' for c in columns)} |\n")
    return "".join(lines) + "\n"


def write(record: Record) -> None:
    PAGE.write_text(page(record))
