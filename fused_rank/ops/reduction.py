"""From the per-query rows that every backend returns to the number (or vector) that the user asked for."""

from typing import NamedTuple

from torch import Tensor

from .options import Reduction


class Rows(NamedTuple):
    """What one query contributes, in one or more channels; each tensor is [C, M]."""

    sums: Tensor  # sum of the losses of the query's terms; the only differentiable one
    counts: Tensor  # how many terms that is
    active: Tensor  # how many of them are above zero


def reduce(sums: Tensor, counts: Tensor, active: Tensor, reduction: Reduction) -> Tensor:
    """Reduce rows [C, M] to a scalar, or to [M] with ``"none"``. Nothing to average gives 0 with zero gradient."""
    if reduction == "mean":
        return sums.sum() / counts.sum().clamp(min=1)
    if reduction == "sum":
        return sums.sum()
    if reduction == "mean_active":
        return (sums.sum(1) / active.sum(1).clamp(min=1)).sum()
    return sums.sum(0) / counts.sum(0).clamp(min=1)
