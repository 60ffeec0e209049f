"""How far a result may be from fp64, and how far it is."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from .batch import Batch


@dataclass(frozen=True)
class Tolerance:
    value: float  # of |a − e| / (1 + |e|), everywhere
    gradient: float  # ‖a − e‖ / ‖e‖
    gap: float  # what is decided by less may be decided otherwise


# Sums are fp32 for all but fp64; a 16-bit gradient is rounded once more.
TOLERANCES = {
    torch.float32: Tolerance(2e-5, 2e-5, 2e-5),
    torch.bfloat16: Tolerance(2e-5, 4e-3, 2e-5),
    torch.float16: Tolerance(2e-5, 8e-4, 2e-5),
    torch.float64: Tolerance(1e-10, 1e-10, 1e-9),
}


@dataclass(frozen=True)
class Difference:
    """An error and how large it may be."""

    error: float
    allowed: float

    @property
    def share(self) -> float:
        """Of what is allowed; infinite for NaN."""
        return self.error / self.allowed if self.error == self.error else float("inf")


Check: TypeAlias = Callable[[Batch, Tolerance], Iterator[Difference]]


def compare_values(actual: Tensor, expected: Tensor, tolerance: Tolerance) -> Difference:
    error = (actual - expected).abs() / (1 + expected.abs())
    return Difference(float(error.max()) if error.numel() else 0.0, tolerance.value)


def compare_gradients(actual: Tensor, exact: Tensor, tolerance: Tolerance) -> Difference:
    if actual.grad is None or exact.grad is None:
        return Difference(float("inf"), tolerance.gradient)
    error = (actual.grad.cpu().double() - exact.grad).norm() / exact.grad.norm()
    return Difference(float(error), tolerance.gradient)


def compare_indices(actual: Tensor, expected: Tensor) -> Difference:
    """The share of indices that differ; none may."""
    if actual.shape != expected.shape:
        return Difference(1.0, 1e-9)
    return Difference(float((actual != expected).double().mean()) if actual.numel() else 0.0, 1e-9)
