"""One specialisation compiled for one target: its counts, and what a gate has against it."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from . import disassembly
from .disassembly import Counts
from .targets import Target

DOT = re.compile(r"tt\.dot .*?(?:inputPrecision = (\w+) )?: tensor<[\dx]+x(\w+)> \* tensor", re.M)


def identity(one: Any) -> str:
    """A readable name of a `Specialisation`, the same on every machine and unique by its last part."""
    values = ",".join(f"{name}={getattr(value, 'name', value)}" for name, value in one.constexprs.items())
    types = re.findall(r"\*(fp32|bf16|fp16)", str(one.signature)) or ["other"]
    digest = hashlib.sha256(one.key.encode()).hexdigest()[:6]
    return f"{one.name}[{values}] {types[0]} w{one.num_warps} s{one.num_stages} {digest}"


def compile_for(one: Any, target: Target) -> Any:
    """Triton's compiled kernel, without a GPU."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from fused_rank.triton.launch import compiler_options, warps

    source = ASTSource(one.kernel, one.signature, _constants(one, target), one.attributes)
    nvidia = target.is_nvidia
    options = compiler_options(
        warps(one.num_warps, nvidia=nvidia), one.num_stages, one.maxnreg, nvidia=nvidia
    )
    return triton.compile(
        source, target=GPUTarget(target.backend, target.arch, target.lanes), options=options
    )


def _constants(one: Any, target: Target) -> dict[str, Any]:
    """On AMD fp32 products are fp32, as `configs.precision` chooses there."""
    exact = {
        name: "ieee"
        for name in ("PRECISION", "LOCAL")
        if not target.is_nvidia and one.constexprs.get(name) in ("tf32x3", "tf32")
    }
    return {**one.constexprs, **exact}


def counts_of(compiled: Any, target: Target) -> Counts:
    if target.is_nvidia:
        return disassembly.of_cubin(compiled.asm["cubin"], int(compiled.metadata.shared))
    return disassembly.of_amdgcn(compiled.asm["amdgcn"], int(compiled.metadata.shared))


def needs_tensor_cores(ttir: str) -> bool | None:
    """Does a product in Triton's first representation call for them? None without any product."""
    dots = DOT.findall(ttir)
    if not dots:
        return None
    return any(
        kind in ("bf16", "f16") or precision in ("tf32", "tf32x3", "bf16x3", "bf16x6")
        for precision, kind in dots
    )


def violations(counts: Counts, target: Target, tensor: bool | None) -> list[str]:
    """What no shipped kernel may show."""
    found = []
    # a stack frame alone is none: sm_90 and later have kernels with eight bytes that no instruction touches
    spilled = {name: counts.get(name, 0) for name in ("spilled registers", "local memory", "stack bytes")}
    if spilled["spilled registers"] or spilled["local memory"]:
        found.append("spills: " + ", ".join(f"{number} {name}" for name, number in spilled.items() if number))
    if counts["shared bytes"] > target.shared_limit:
        found.append(f"{counts['shared bytes']} bytes of shared memory, {target.shared_limit} are allowed")
    if tensor and not counts.get("tensor"):
        found.append("no tensor-core instruction")
    if target.is_nvidia and not tensor and counts.get("tensor"):
        found.append("tensor-core instructions where exact fp32 was asked for")
    return found
