"""Which backend runs an operation: by default the fastest that serves it, or the one asked for by name.

The choice is process-wide. A backend asked for by name that cannot serve raises with the reason; it is never
replaced.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import cuda_library, eager_library, library, triton_library
from .schemas import SCHEMAS, SWEPT_TERMS

_PAIR = ("pair_forward", "pair_backward")
_LISTED = ("indexed_distance", "indexed_distance_backward")

# public operation -> the operators it needs
OPERATIONS: dict[str, tuple[str, ...]] = {
    "ranked_list_loss": _PAIR,
    "contrastive_loss": (*_PAIR, *_LISTED),
    "triplet_margin_loss": ("triplet_forward", "triplet_backward", *_LISTED),
    "sup_con_loss": _PAIR,
    "info_nce_loss": _PAIR,
    "nt_xent_loss": _PAIR,
    "n_pairs_loss": _PAIR,
    "angular_loss": _PAIR,
    "multi_similarity_loss": (*_PAIR, "mine_hard", "indexed_distance"),
    "circle_loss": _PAIR,
    "lifted_structure_loss": _PAIR,
    "margin_loss": _PAIR,
    "mining.hard": ("mine_hard",),
    "mining.semihard": ("mine_semihard",),
    "mining.partners": ("find_partner",),
    "mining.distance_weighted": ("sample_negatives",),
    "mining.triplet_stats": ("triplet_counts",),
    "retrieval.topk": ("topk",),
    "retrieval.evaluate": ("rank_positives",),
    "diagnostics.embedding_health": ("distance_histogram",),
    "paired_distance": _LISTED,
}

# and the pair terms, which a backend may lack
TERMS: dict[str, tuple[str, ...]] = {
    "sup_con_loss": ("sup_con",),
    "info_nce_loss": ("sup_con",),
    "nt_xent_loss": ("negatives_lse", "softplus_positives"),
    "n_pairs_loss": ("negatives_lse", "softplus_positives", "sup_con"),
    "angular_loss": ("softplus_negatives", "negatives_lse", "softplus_positives", "sup_con"),
    "multi_similarity_loss": ("multi_similarity",),
    "circle_loss": ("circle",),
    "lifted_structure_loss": ("lifted",),
    "margin_loss": ("margin",),
}


class Backend:
    """One implementation of the operators. Attributes named like the schemas hold the operators themselves."""

    pair_forward: Callable[..., Any]
    pair_backward: Callable[..., Any]
    triplet_forward: Callable[..., Any]
    triplet_backward: Callable[..., Any]
    mine_hard: Callable[..., Any]
    mine_semihard: Callable[..., Any]
    topk: Callable[..., Any]
    rank_positives: Callable[..., Any]
    find_partner: Callable[..., Any]
    sample_negatives: Callable[..., Any]
    triplet_counts: Callable[..., Any]
    distance_histogram: Callable[..., Any]
    indexed_distance: Callable[..., Any]
    indexed_distance_backward: Callable[..., Any]

    def __init__(
        self,
        name: str,
        namespace: str,
        device_type: str | None,
        missing: str | None,
        dtypes: frozenset[torch.dtype] | None = None,
        terms: frozenset[str] | None = None,
        *,
        by_name_only: bool = False,
        load: Callable[[], str | None] | None = None,
    ) -> None:
        self.name = name
        self.device_type = device_type  # None: any
        self.missing = missing  # why nothing works
        self.dtypes = dtypes  # None: all
        self.terms = terms  # None: all
        self.by_name_only = by_name_only
        self._load = load  # what is still to be loaded for the first tensor, and why it can't be
        if missing is None:
            for operator in SCHEMAS:
                packet = getattr(getattr(torch.ops, namespace), operator, None)
                if packet is not None:
                    setattr(self, operator, packet.default)

    def unavailable(self, operation: str, device_type: str, dtype: torch.dtype = torch.float32) -> str | None:
        """Why `operation` cannot run here on such tensors, or None when it can."""
        if self.missing is not None:
            return self.missing
        if self.device_type is not None and device_type != self.device_type:
            return f"it serves {self.device_type} tensors, these are on {device_type}"
        if self.dtypes is not None and dtype not in self.dtypes:
            served = ", ".join(sorted(str(one).removeprefix("torch.") for one in self.dtypes))
            return f"it serves {served}, not {str(dtype).removeprefix('torch.')}"
        if self._load is not None and (reason := self._load()) is not None:
            return reason
        for operator in OPERATIONS[operation]:
            if operator not in self.__dict__:
                return f"it has no operator {operator}"
        for term in TERMS.get(operation, ()):
            if not self.has_term(term):
                return f"it has no term {term}"
        return None

    def has_term(self, term: str) -> bool:
        """Can its pair sweeps run this term?"""
        return self.terms is None or term in self.terms

    def absent(self) -> str | None:
        """Why it can serve nothing on this machine, whatever the tensors."""
        if self.missing is None and self.device_type == "cuda" and not torch.cuda.is_available():
            return "torch sees no CUDA or ROCm device"
        return self.missing if self.missing is not None or self._load is None else self._load()


# fastest first; a new backend joins here
BACKENDS: dict[str, Backend] = {
    "cpp": Backend("cpp", library.NAMESPACE, "cpu", library.load()),
    "triton": Backend(
        "triton",
        triton_library.NAMESPACE,
        triton_library.DEVICE_TYPE,
        triton_library.load(),
        triton_library.DTYPES,
        triton_library.TERMS,
        by_name_only=triton_library.INTERPRETED,
    ),
    "cuda": Backend(
        "cuda",
        cuda_library.NAMESPACE,
        cuda_library.DEVICE_TYPE,
        cuda_library.register(),
        cuda_library.DTYPES,
        SWEPT_TERMS,
        by_name_only=cuda_library.EMULATED is not None,
        load=cuda_library.load,
    ),
    "eager": Backend("eager", eager_library.NAMESPACE, None, None, terms=SWEPT_TERMS),
}

_PRESET = "FUSED_RANK_BACKEND"
_forced: str | None = os.environ.get(_PRESET) or None


def forced() -> str | None:
    """The backend asked for by name, if any."""
    return _forced


def select(operation: str, x: Tensor) -> Backend:
    """The backend for an operation on tensors like x."""
    device_type = x.device.type
    if _forced is not None:
        backend = _named(_forced)
        reason = backend.unavailable(operation, device_type, x.dtype)
        if reason is not None:
            raise RuntimeError(f"backend {_forced!r} cannot serve {operation}: {reason}")
        return backend
    for backend in BACKENDS.values():
        if not backend.by_name_only and backend.unavailable(operation, device_type, x.dtype) is None:
            return backend
    raise RuntimeError(f"no backend serves {operation} on {device_type} tensors")


def _named(name: str) -> Backend:
    if name not in BACKENDS:
        argument = _PRESET if os.environ.get(_PRESET) == name else "backend"
        raise ValueError(f"{argument}: expected one of {', '.join(BACKENDS)}, got {name!r}")
    return BACKENDS[name]


def backends() -> dict[str, dict[str, str | None]]:
    """For each operation and backend: None where it serves, otherwise the reason why not.

    >>> import fused_rank
    >>> fused_rank.backends()["retrieval.topk"]["eager"] is None
    True
    """
    return {
        operation: {
            name: backend.absent() or backend.unavailable(operation, backend.device_type or "cpu")
            for name, backend in BACKENDS.items()
        }
        for operation in OPERATIONS
    }


class use_backend:
    """Use one backend for everything from now on, or inside a ``with`` block; None goes back to the default choice.

    The choice holds for the whole process, all its threads, like the environment variable
    ``FUSED_RANK_BACKEND`` that presets it.

    Raises:
        ValueError: no backend has that name.
        RuntimeError: the backend cannot serve here; the message says why.

    >>> import fused_rank
    >>> with fused_rank.use_backend("eager"):
    ...     pass
    """

    def __init__(self, name: str | None) -> None:
        global _forced
        if name is not None and (reason := _named(name).absent()) is not None:
            raise RuntimeError(f"backend {name!r} cannot serve: {reason}")
        self._name = name
        self._previous = [_forced]  # what each block that is open, or about to open, goes back to
        self._about_to_open = True
        _forced = name

    def __enter__(self) -> None:
        global _forced
        if not self._about_to_open:
            self._previous.append(_forced)
        self._about_to_open = False
        _forced = self._name

    def __exit__(self, *_: object) -> None:
        global _forced
        _forced = self._previous.pop()


def _fallback_reason(device_type: str, dtype: torch.dtype) -> str | None:
    """Why the eager backend was chosen for lack of a better one; None when it was asked for."""
    if _forced is not None:
        return None
    if device_type == "cpu":
        missing = BACKENDS["cpp"].missing or "the extension lacks an operator that this call needs"
        return (
            f"fused_rank runs its eager backend, several times slower: {missing}. Install a wheel"
            " for this platform, or a C++20 compiler and then the package from source; `python -m fused_rank info`"
            " tells more, fused_rank.use_backend('eager') silences this."
        )
    reason = "no other backend serves this device"
    if device_type == "cuda":
        why = {
            name: BACKENDS[name].unavailable("ranked_list_loss", device_type, dtype)
            for name in ("triton", "cuda")
        }
        reason = "; ".join(f"{name}: {text}" for name, text in why.items())
    return (
        f"fused_rank runs its eager backend on {device_type} tensors ({reason}): chunked PyTorch, the same results and"
        " O(chunk·N) memory, but slower; fused_rank.use_backend('eager') silences this."
    )


eager_library.on_fallback(_fallback_reason)
