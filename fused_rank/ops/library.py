"""Finds and loads the compiled CPU operators, and keeps the reason when it cannot."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch

from .fakes import fake_kernels
from .schemas import SCHEMAS

NAMESPACE = "fused_rank"
_PACKAGE = Path(__file__).resolve().parent.parent
_FASTEST_FIRST = ("avx512", "avx2", "base")

_loaded: Path | None = None
_reason: str | None = "not tried yet"


def load() -> str | None:
    """Load the shared object for this CPU, once. None when its operators can be used, otherwise why not."""
    global _loaded, _reason
    if _reason == "not tried yet":
        _loaded, _reason = _load()
    return _reason


def _candidates() -> tuple[str, ...]:
    forced = os.environ.get("FUSED_RANK_ISA")
    if forced:
        return (forced,)
    capability = torch.backends.cpu.get_cpu_capability()
    start = {"AVX512": 0, "AVX2": 1}.get(capability, 2)
    return _FASTEST_FIRST[start:]


def _load() -> tuple[Path | None, str | None]:
    names = _candidates()
    if names[0] not in _FASTEST_FIRST:
        return None, f"FUSED_RANK_ISA is {names[0]!r}, expected one of {', '.join(_FASTEST_FIRST)}"
    path = next((p for p in (_PACKAGE / f"_C_{name}.abi3.so" for name in names) if p.is_file()), None)
    if path is None:
        return None, f"the extension is not built: no _C_{{{','.join(names)}}}.abi3.so in {_PACKAGE}"
    try:
        cast(Callable[[Path], None], torch.ops.load_library)(path)
    except (OSError, RuntimeError, ImportError) as error:
        return None, f"{path.name} does not load: {error}"
    mismatch = _schema_mismatch()
    if mismatch is not None:
        return None, f"{path.name} was built from other sources: {mismatch}; build the package again"
    for name, fake in fake_kernels("cpp").items():
        if hasattr(getattr(torch.ops, NAMESPACE), name):
            torch.library.register_fake(f"{NAMESPACE}::{name}", fake)
    return path, None


def _schema_mismatch() -> str | None:
    """The first operator whose arguments are not what the Python side calls it with."""
    operators = getattr(torch.ops, NAMESPACE)
    for name, schema in SCHEMAS.items():
        if not hasattr(operators, name):
            continue  # dispatch reports what a backend lacks
        found = getattr(operators, name).default._schema
        wanted = torch._C.parse_schema(f"{NAMESPACE}::{name}{schema}")
        same_arguments = [(a.name, str(a.type)) for a in found.arguments] == [
            (a.name, str(a.type)) for a in wanted.arguments
        ]
        if not same_arguments or len(found.returns) != len(wanted.returns):
            return f"operator {name} has the schema {found}, expected {wanted}"
    return None


def runtime_info() -> str:
    """What the loaded extension says about itself: file, instruction set, tile sizes, compiler."""
    describe = getattr(getattr(torch.ops, NAMESPACE), "runtime_info", None)
    return f"{_loaded.name if _loaded else 'none'}: {describe.default() if describe else 'says nothing'}"
