"""Registers the Triton backend's operators without importing triton: the kernels behind them do, on first call."""

import os
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module, metadata, util
from typing import Any

import torch
from torch import Tensor

from .fakes import fake_kernels
from .schemas import SCHEMAS, SWEPT_TERMS

NAMESPACE = "fused_rank_triton"
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE_TYPE = "cpu" if INTERPRETED else "cuda"  # ROCm devices are "cuda" to torch
DTYPES = frozenset({torch.float32, torch.bfloat16, torch.float16})
TERMS = SWEPT_TERMS  # of pair losses
_OLDEST = (3, 4)
_DISTRIBUTIONS = ("triton", "pytorch-triton-rocm", "triton-rocm", "triton-windows")

_library: Any = None
_reason: str | None = None


def load() -> str | None:
    """Register the operators, once. None when they can be used, otherwise why not."""
    global _library, _reason
    if _library is None and _reason is None:
        _reason = _unusable()
        if _reason is None:
            _library = _register()
    return _reason


def runtime_info() -> str:
    """The version of triton and what it runs on, or why there are no Triton kernels."""
    if _reason is not None:
        return _reason
    return f"{_version() or 'of unknown version'}{', interpreted on the CPU' * INTERPRETED}"


def _version() -> str | None:
    for name in _DISTRIBUTIONS:
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return None


def _unusable() -> str | None:
    if util.find_spec("triton") is None:
        return "triton is not installed; pip install 'fused_rank[triton]'"
    version = _version()
    if version is not None and _release(version) < _OLDEST:
        return f"triton {version} is too old, {'.'.join(map(str, _OLDEST))} or later is needed"
    return None


def _release(version: str) -> tuple[int, ...]:
    """(3, 4) of "3.4.0+git…"."""
    return tuple(int(part) for part in version.split("+")[0].split(".")[:2] if part.isdigit())


def _kernel(name: str) -> Callable[..., Any]:
    """Imports the operator when it is first called; runs it without a graph and without autocast's narrowing."""

    def run(*args: Any) -> Any:
        tensors = [arg for arg in args if isinstance(arg, Tensor)]
        if any(t.dtype == torch.float64 and t.dim() == 2 for t in tensors):  # embeddings and their gradients
            raise RuntimeError(f"backend 'triton' cannot serve {name} of float64 tensors")
        function = getattr(import_module("fused_rank.triton.ops"), name)
        device_type = tensors[0].device.type
        with torch.no_grad(), torch.autocast(device_type, enabled=False):
            return function(*args)

    return run


def _register() -> Any:
    library: Any = torch.library.Library(NAMESPACE, "DEF")  # type: ignore[no-untyped-call]
    fakes = fake_kernels("triton")
    for name, schema in SCHEMAS.items():
        library.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        for key in ("CUDA", "CPU") if INTERPRETED else ("CUDA",):
            library.impl(name, _kernel(name), key)
        torch.library.register_fake(f"{NAMESPACE}::{name}", fakes[name], lib=library)
    return library
