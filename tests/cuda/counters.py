"""The counters kept in the repository: what each kernel compiles to, and how it may change."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..gpu.aot.records import TOLERANCE, worsened
from .gpus import GPUS, Counts, Gpu, occupancy

FILE = Path(__file__).parents[1] / "gpu" / "cuda_counters.json"
PAGE = Path(__file__).parents[2] / "docs" / "cuda_counters.md"
HEAD = """# What the CUDA kernels compile to

Written by `make gates`, which compiles every kernel of `csrc/cuda/` for each GPU below without having one, and refuses
what spills registers or asks for more shared memory than there is. These are ptxas's numbers (nvcc {nvcc}), not
measurements. A cell is registers of a thread / percent of an SM's threads that its blocks fill.

"""
EXECUTED = """
## Per pair, executed

Counted while nvcc's PTX ran in the emulator of `tests/gpu/ptx`, 128 rows (against 128) of 128 features: thread
instructions and bytes for each pair of rows, 32-byte sectors that a warp's load touches (4 for 32 neighbouring words,
16 for 16 bytes a thread), and how many times longer shared memory takes than without bank conflicts. Borders and
prologues weigh more here than at size.

"""


@dataclass
class Entry:
    """One file: the hash of its sources, and {kernel: {target: counts}}."""

    source: str
    kernels: dict[str, dict[str, Counts]] = field(default_factory=dict)


@dataclass
class Record:
    nvcc: str = ""
    reasons: list[str] = field(default_factory=list)  # why counters were allowed to get worse, newest last
    files: dict[str, Entry] = field(default_factory=dict)
    executed: dict[str, dict[str, float]] = field(default_factory=dict)  # per pair, from runs of the emulator


def load(path: Path = FILE) -> Record:
    if not path.exists():
        return Record()
    raw: dict[str, Any] = json.loads(path.read_text())
    files = {name: Entry(**entry) for name, entry in raw["files"].items()}
    return Record(raw["nvcc"], raw["reasons"], files, raw.get("executed", {}))


def save(record: Record, path: Path = FILE) -> None:
    """A line for each kernel and target, so that differences read well."""
    files = []
    for name, entry in sorted(record.files.items()):
        kernels = []
        for kernel, counts in sorted(entry.kernels.items()):
            lines = ",\n".join(f"        {json.dumps(t)}: {json.dumps(c)}" for t, c in counts.items())
            kernels.append(f"      {json.dumps(kernel)}: {{\n{lines}\n      }}")
        body = ",\n".join(kernels)
        files.append(
            f'    {json.dumps(name)}: {{"source": {json.dumps(entry.source)}, "kernels": {{\n{body}\n    }}}}'
        )
    executed = ",\n".join(
        f"    {json.dumps(name)}: {json.dumps(counts)}" for name, counts in sorted(record.executed.items())
    )
    path.write_text(
        f'{{\n  "nvcc": {json.dumps(record.nvcc)},\n  "reasons": {json.dumps(record.reasons, indent=4)},\n'
        + '  "executed": {\n' + executed + "\n  },\n"
        + '  "files": {\n' + ",\n".join(files) + "\n  }\n}\n"
    )  # fmt: skip


def grown(old: Counts, new: Counts, gpu: Gpu) -> list[str]:
    """What is worse by more than the tolerance: a counter, or the occupancy that one register more may cost."""
    before, after = occupancy(old, gpu), occupancy(new, gpu)
    lost = [f"occupancy {before}% -> {after}%"] if after < before * (1 - TOLERANCE) else []
    return worsened(old, new) + lost


def compare(old: Record, new: Record) -> list[str]:
    """What grew between two records of one compiler, kernel by kernel."""
    if old.nvcc != new.nvcc:
        return []
    return [
        f"{target} {kernel}: {text}"
        for name, entry in new.files.items()
        for kernel, by_target in entry.kernels.items()
        for target, counts in by_target.items()
        if (before := _counts(old, name, kernel, target)) is not None
        for text in grown(before, counts, GPUS[target])
    ]


def _counts(record: Record, name: str, kernel: str, target: str) -> Counts | None:
    entry = record.files.get(name)
    return entry.kernels.get(kernel, {}).get(target) if entry else None


def page(record: Record) -> str:
    parts = [HEAD.format(nvcc=record.nvcc)]
    parts.append(
        f"| kernel | threads | shared bytes | {' | '.join(GPUS)} |\n|---|---:|---:|{'---:|' * len(GPUS)}\n"
    )
    for _, entry in sorted(record.files.items()):
        for kernel, counts in sorted(entry.kernels.items()):
            first = next(iter(counts.values()))
            cells = [f"{c['registers']} / {occupancy(c, GPUS[t])}" for t in GPUS if (c := counts.get(t))]
            shared = max(c["shared bytes"] for c in counts.values())
            parts.append(f"| `{kernel}` | {first['threads']} | {shared} | {' | '.join(cells)} |\n")
    if record.executed:
        parts.append(_executed(record.executed))
    return "".join(parts)


def _executed(found: dict[str, dict[str, float]]) -> str:
    columns = sorted({column for counts in found.values() for column in counts})
    lines = [f"| kernel | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}\n"]
    for name, counts in sorted(found.items()):
        lines.append(f"| {name} | {' | '.join(f'{counts.get(column, 0):.4g}' for column in columns)} |\n")
    return EXECUTED + "".join(lines)


def write_page(record: Record) -> None:
    PAGE.write_text(page(record))
