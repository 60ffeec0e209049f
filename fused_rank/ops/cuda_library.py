"""Registers the CUDA C++ backend's operators without loading its kernels: the first tensor that needs them does."""

import os
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from .fakes import fake_kernels
from .schemas import SCHEMAS

NAMESPACE = "fused_rank_cuda"
KERNELS = "fused_rank_cuda_kernels"
EMULATED = os.environ.get("FUSED_RANK_CUDA_EMULATED") or None  # the tests' kernels, which run on the CPU
DEVICE_TYPE = "cpu" if EMULATED else "cuda"
DTYPES = frozenset({torch.float32, torch.float64, torch.bfloat16, torch.float16})
MODULE = Path(__file__).resolve().parent.parent / "_C_cuda.abi3.so"

_library: Any = None
_loaded = False
_reason: str | None = None


def register() -> str | None:
    """Register the operators, once. Why they can never be used here, as far as is known without loading the kernels."""
    global _library
    if _library is None:
        _library = _register()
    if EMULATED:
        return None
    if torch.version.hip is not None:
        return "its kernels are NVIDIA's, and this torch is built for ROCm"
    if not MODULE.is_file():
        return (
            f"its kernels are not built: no {MODULE.name} in {MODULE.parent}; install from source with"
            " FUSED_RANK_CUDA=1, a CUDA build of torch and nvcc"
        )
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    return None


def load() -> str | None:
    """Load the kernels, once. None when they can be used on every visible GPU, otherwise why not."""
    global _loaded, _reason
    if not _loaded:
        _reason = register() or (None if EMULATED else _load())
        _loaded = True
    return _reason


def runtime_info() -> str:
    """What the kernels say about themselves, or why there are none."""
    reason = load()
    if reason is not None:
        return reason
    if EMULATED:
        return f"{EMULATED}, emulated on the CPU"
    return f"{MODULE.name}: {getattr(torch.ops, KERNELS).runtime_info.default()}"


def _load() -> str | None:
    try:
        cast(Callable[[Path], None], torch.ops.load_library)(MODULE)
    except (OSError, RuntimeError, ImportError) as error:
        return f"{MODULE.name} does not load: {error}"
    described: str = getattr(torch.ops, KERNELS).runtime_info.default()
    built = described.partition("architectures=")[2].split()
    devices = range(torch.cuda.device_count() if torch.cuda.is_available() else 0)
    for capability in map(torch.cuda.get_device_capability, devices):
        if not any(_runs(name, capability) for name in built):
            shown = ".".join(map(str, capability))
            return f"{MODULE.name} is built for {', '.join(built)}, and a GPU here is of compute capability {shown}"
    return None


def _runs(built: str, capability: tuple[int, int]) -> bool:
    """Does code for an architecture, "8.0", "9.0a" or "9.0+PTX", run on a GPU of this capability?"""
    major, minor = built.removesuffix("+PTX").split(".")
    if minor[-1] in "af":
        return capability == (int(major), int(minor[:-1]))
    own = (int(major), int(minor))
    return own <= capability and (built.endswith("+PTX") or own[0] == capability[0])


def _kernel(name: str) -> Callable[..., Any]:
    """Imports the operator when it is first called; runs it without a graph and without autocast's narrowing."""

    def run(*args: Any) -> Any:
        device_type = next(arg for arg in args if isinstance(arg, Tensor)).device.type
        function = getattr(import_module("fused_rank.cuda.ops"), name)
        with torch.no_grad(), torch.autocast(device_type, enabled=False):
            return function(*args)

    return run


def _register() -> Any:
    library: Any = torch.library.Library(NAMESPACE, "DEF")  # type: ignore[no-untyped-call]
    fakes = fake_kernels("cuda")
    for name, schema in SCHEMAS.items():
        library.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        library.impl(name, _kernel(name), "CPU" if EMULATED else "CUDA")
        torch.library.register_fake(f"{NAMESPACE}::{name}", fakes[name], lib=library)
    return library
