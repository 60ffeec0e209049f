"""Machine code to counts: registers, shared and local memory, and instructions by class."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

Counts = dict[str, int]

# the first class that matches counts the instruction
NVIDIA_CLASSES = {
    "tensor": r"HMMA|HGMMA|QGMMA|UTC\w*MMA|IMMA|DMMA",
    "local memory": r"LDL|STL",
    "global load": r"LDG\b|LDGSTS|UTMALDG|LD\b",
    "global store": r"STG\b|ST\b|UTMASTG",
    "shared load": r"LDS",
    "shared store": r"STS",
    "atomic": r"ATOM|RED\b|REDG",
    "barrier": r"BAR\b|SYNCS|WARPSYNC",
    "shuffle": r"SHFL|REDUX",
    "special function": r"MUFU",
    "fp32": r"F\w*(?:ADD|MUL|FMA|MNMX|SEL|SETP|SET|CHK)\w*",
}
AMD_CLASSES = {
    "tensor": r"v_mfma|v_smfmac",
    "local memory": r"scratch_",
    "global load": r"(?:global|buffer|flat)_load",
    "global store": r"(?:global|buffer|flat)_store",
    "atomic": r"(?:global|buffer|flat|ds)_(?:atomic|add|min|max|cmpst)",
    "shared load": r"ds_(?:read|load)",
    "shared store": r"ds_(?:write|store)",
    "barrier": r"s_barrier",
    "shuffle": r"ds_(?:bpermute|permute|swizzle)|\w+_dpp\b|v_permlane",
    "special function": r"v_(?:exp|log|rcp|rsq|sqrt|sin|cos)_",
    "fp32": r"v_(?:pk_)?(?:add|sub|mul|fma|fmac|max|min|cmp\w*|mad)\w*_f32",
}
SASS_OPCODE = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]+)")
GCN_OPCODE = re.compile(r"^\s+((?:[vs]|ds|global|buffer|flat|scratch)_\w+)", re.M)


def classify(opcodes: list[str], classes: dict[str, str]) -> Counts:
    """Instructions by class, and `instructions` for all of them. Padding does not count."""
    compiled = {name: re.compile(pattern) for name, pattern in classes.items()}
    counts: Counter[str] = Counter()
    for opcode in opcodes:
        name = next((name for name, pattern in compiled.items() if pattern.match(opcode)), None)
        counts[name or "other"] += 1
    return {"instructions": len(opcodes), **{name: counts[name] for name in classes if counts[name]}}


def of_cubin(cubin: bytes, shared: int) -> Counts:
    """`shared`: the dynamic shared memory that the launcher asks for."""
    from triton.backends import nvidia

    tools = Path(os.path.dirname(nvidia.__file__)) / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _output([tools / "cuobjdump", "-res-usage", file.name])
        sass = _output([tools / "nvdisasm", "-c", file.name])
    opcodes = [opcode for opcode in SASS_OPCODE.findall(sass) if opcode != "NOP"]
    return {
        "registers": _number(r"REG:(\d+)", usage),
        "stack bytes": _number(r"STACK:(\d+)", usage),
        "shared bytes": shared,
        **classify(opcodes, NVIDIA_CLASSES),
    }


def of_amdgcn(text: str, shared: int) -> Counts:
    opcodes = [opcode for opcode in GCN_OPCODE.findall(text) if opcode not in ("s_nop", "s_code_end")]
    return {
        "registers": _number(r"\.vgpr_count:\s+(\d+)", text),
        "stack bytes": _number(r"\.private_segment_fixed_size:\s+(\d+)", text),
        "spilled registers": _number(r"\.vgpr_spill_count:\s+(\d+)", text),
        "shared bytes": shared,
        **classify(opcodes, AMD_CLASSES),
    }


def _output(command: list[Path | str]) -> str:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if not found:
        raise ValueError(f"{pattern} is not in {text[:200]!r}")
    return int(found.group(1))
