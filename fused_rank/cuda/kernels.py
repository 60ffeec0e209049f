"""The one door to the kernels: torch's operators for CUDA tensors or, where the tests ask for it, their emulation."""

from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..ops import cuda_library

_counts: Counter[str] = Counter()


def run(
    name: str,
    arrays: Sequence[Tensor | None],
    sizes: Sequence[int] = (),
    numbers: Sequence[float] = (),
    term: str = "",
) -> None:
    """Launch a kernel of `csrc/cuda/entries.h` on the current stream of its arrays' device.

    Args:
        arrays: contiguous, all on one device; the first says whether it computes in fp32 or fp64. None: absent. The
            kernel fills those that are its outputs.
        sizes, numbers, term: see `csrc/cuda/calls_*.cu`.
    """
    _counts[name] += 1
    first = next(array for array in arrays if array is not None)
    present = [first.new_empty(0) if array is None else array for array in arrays]
    if cuda_library.EMULATED is None:
        getattr(_operators(), name).default(present, list(sizes), list(numbers), term)
        return
    if not all(array.is_contiguous() and array.device.type == "cpu" for array in present):
        raise ValueError(f"{name}: arrays must be contiguous")
    described = [
        (array.data_ptr(), str(array.dtype).removeprefix("torch."), array.numel()) for array in present
    ]
    _emulation().run(name, described, list(sizes), list(numbers), term)


@lru_cache(1024)
def _ask(name: str, sizes: tuple[int, ...], numbers: tuple[float, ...], term: str) -> tuple[int, ...]:
    if cuda_library.EMULATED is None:
        return tuple(getattr(_operators(), name).default(list(sizes), list(numbers), term))
    return tuple(_emulation().ask(name, list(sizes), list(numbers), term))


def ask(
    name: str, dtype: torch.dtype, sizes: Sequence[int] = (), numbers: Sequence[float] = (), term: str = ""
) -> tuple[int, ...]:
    """Numbers that depend on shapes and terms, for fp32 or fp64 arrays: `kQuestions` of `csrc/cuda/entries.h`."""
    return _ask(name, (dtype.itemsize, *sizes), tuple(numbers), term)


def counts() -> dict[str, int]:
    """How often each kernel was launched since `reset_counts`."""
    return dict(_counts)


def reset_counts() -> None:
    """Start counting from zero."""
    _counts.clear()


def _operators() -> Any:
    reason = cuda_library.load()
    if reason is not None:
        raise RuntimeError(f"backend 'cuda' cannot serve: {reason}")
    return getattr(torch.ops, cuda_library.KERNELS)


@cache
def _emulation() -> Any:
    path = Path(str(cuda_library.EMULATED))
    spec = spec_from_file_location(path.name.split(".")[0], path)
    if spec is None or spec.loader is None:
        raise RuntimeError(f"FUSED_RANK_CUDA_EMULATED: {path} is no Python module")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
