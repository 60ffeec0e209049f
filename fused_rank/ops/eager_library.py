"""Registers the eager backend's operators, so that compilers see one opaque operator where Python loops."""

import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from ..reference.distance import accumulation_dtype
from . import chunked_distances, chunked_pairs, chunked_ranks, chunked_triplets
from .fakes import fake_kernels
from .schemas import SCHEMAS

NAMESPACE = "fused_rank_eager"

_PAIRWISE_SCHEMAS = {
    "pairwise_distance": "(Tensor x, Tensor? y, str metric, bool normalize) -> Tensor",
    "pairwise_distance_backward": (
        "(Tensor grad, Tensor distance, Tensor x, Tensor? y, str metric, bool normalize, bool need_x, bool need_y)"
        " -> (Tensor, Tensor)"
    ),
}

_MODULES = (chunked_pairs, chunked_triplets, chunked_distances, chunked_ranks)

Reason = Callable[[str, torch.dtype], "str | None"]

_fallback_reason: Reason | None = None
_warned = False


def on_fallback(reason: Reason) -> None:
    """Let `reason(device type, dtype)` say why the eager backend runs where it was not asked for, or None where it
    was.
    """
    global _fallback_reason
    _fallback_reason = reason


def _warn_once(x: Tensor) -> None:
    global _warned
    if _warned or _fallback_reason is None:
        return
    reason = _fallback_reason(x.device.type, x.dtype)
    if reason is not None:
        _warned = True
        warnings.warn(reason, UserWarning, stacklevel=2)


def _kernel(function: Callable[..., Any], *, warn: bool) -> Callable[..., Any]:
    """Run without a graph and without autocast's narrowing; warn here, where no compiler traces."""

    @wraps(function)
    def run(*args: Any) -> Any:
        first = next(arg for arg in args if isinstance(arg, Tensor))
        if warn:
            _warn_once(first)
        with torch.no_grad(), torch.autocast(first.device.type, enabled=False):
            return function(*args)

    return run


def _register() -> Any:
    library: Any = torch.library.Library(NAMESPACE, "DEF")  # type: ignore[no-untyped-call]
    fakes = fake_kernels("eager") | {
        "pairwise_distance": _fake_pairwise_distance,
        "pairwise_distance_backward": _fake_pairwise_distance_backward,
    }
    for name, schema in (SCHEMAS | _PAIRWISE_SCHEMAS).items():
        library.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        module = next(module for module in _MODULES if name in module.__dict__)
        kernel = _kernel(getattr(module, name), warn=name in SCHEMAS)
        library.impl(name, kernel, "CompositeExplicitAutograd")
        torch.library.register_fake(f"{NAMESPACE}::{name}", fakes[name], lib=library)
    return library


def _fake_pairwise_distance(x: Tensor, y: Tensor | None, metric: str, normalize: bool) -> Tensor:
    columns = x.shape[0] if y is None else y.shape[0]
    return x.new_empty(x.shape[0], columns, dtype=accumulation_dtype(x.dtype))


def _fake_pairwise_distance_backward(
    grad: Tensor,
    distance: Tensor,
    x: Tensor,
    y: Tensor | None,
    metric: str,
    normalize: bool,
    need_x: bool,
    need_y: bool,
) -> tuple[Tensor, Tensor]:
    grad_x = x.new_empty(x.shape) if need_x else x.new_empty(0)
    return grad_x, y.new_empty(y.shape) if y is not None and need_y else x.new_empty(0)


_LIBRARY = _register()
