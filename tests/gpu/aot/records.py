"""The counters kept in the repository: what each shipped kernel compiles to, and how it may change."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .disassembly import Counts

FILE = Path(__file__).parents[1] / "counters.json"
TOLERANCE = 0.05


@dataclass
class Entry:
    """One specialisation: the hash of its sources, and per target counts and gate violations."""

    source: str
    label: str
    counts: dict[str, Counts] = field(default_factory=dict)
    violations: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class Record:
    triton: str = field(default_factory=lambda: version("triton"))
    reasons: list[str] = field(default_factory=list)  # why counters were allowed to get worse, newest last
    entries: dict[str, Entry] = field(default_factory=dict)
    emulated: dict[str, dict[str, float]] = field(default_factory=dict)  # per pair, from runs of the emulator


def load(path: Path = FILE) -> Record:
    if not path.exists():
        return Record()
    raw: dict[str, Any] = json.loads(path.read_text())
    entries = {name: Entry(**entry) for name, entry in raw["entries"].items()}
    return Record(raw["triton"], raw["reasons"], entries, raw["emulated"])


def save(record: Record, path: Path = FILE) -> None:
    """A line for each kernel and target, so that differences read well."""
    lines = []
    for name, entry in sorted(record.entries.items()):
        targets = [f"      {json.dumps(t)}: {json.dumps(c)}" for t, c in entry.counts.items()]
        head = f'    {json.dumps(name)}: {{"source": {json.dumps(entry.source)}, "label": {json.dumps(entry.label)},'
        tail = f'    "violations": {json.dumps(entry.violations)}}}'
        lines.append("\n".join([head, '    "counts": {', ",\n".join(targets), "    },", tail]))
    emulated = [
        f"    {json.dumps(name)}: {json.dumps(counts)}" for name, counts in sorted(record.emulated.items())
    ]
    path.write_text(
        f'{{\n  "triton": {json.dumps(record.triton)},\n  "reasons": {json.dumps(record.reasons, indent=4)},\n'
        + '  "emulated": {\n' + ",\n".join(emulated) + "\n  },\n"
        + '  "entries": {\n' + ",\n".join(lines) + "\n  }\n}\n"
    )  # fmt: skip


def worsened(old: Counts, new: Counts) -> list[str]:
    """Counters that grew by more than the tolerance. Tensor-core instructions are the wanted ones: fewer is no loss."""
    grown = [name for name, number in new.items() if number > old.get(name, 0) * (1 + TOLERANCE)]
    return [f"{name} {old.get(name, 0)} -> {new[name]}" for name in grown]
