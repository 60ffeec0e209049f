"""Embedding rows as the metric sees them: widened to the accumulation dtype, normalised if asked."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..reference.distance import accumulation_dtype
from .double_backward import refuse_double_backward


@dataclass(frozen=True, slots=True)
class PreparedRows:
    """Rows [M, D] ready for products, and the way back to the gradient of the tensor they came from."""

    rows: Tensor
    norms: tuple[Tensor, Tensor] | None  # two factors [M, 1]; the first is infinite for a zero row
    dtype: torch.dtype

    def gradient(self, grad: Tensor) -> Tensor:
        """Gradient of the original tensor, in its dtype."""
        if self.norms is not None:
            norm, scale = self.norms
            found = grad * self.rows  # the one array of this size that is made
            along = found.sum(1, keepdim=True)
            grad = torch.addcmul(grad, along, self.rows, value=-1, out=found).div_(norm).div_(scale)
        return grad.to(self.dtype)


def prepare(x: Tensor, *, normalize: bool) -> PreparedRows:
    """Widen x [M, D] and divide each row by its norm; a zero row stays zero and gets no gradient."""
    rows = x.detach().to(accumulation_dtype(x.dtype))
    if not normalize:
        return PreparedRows(rows, None, x.dtype)
    unit, norms = _normalized(rows)
    return PreparedRows(unit, norms, x.dtype)


def widened(x: Tensor, gallery: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Both in the accumulation dtype, for losses of several parts: gradients are added before they are rounded."""
    dtype = accumulation_dtype(x.dtype)
    return x.to(dtype), None if gallery is None else gallery.to(dtype)


def unit_rows(rows: Tensor) -> Tensor:
    """Widened rows [M, D] divided by their norms, differentiable once; a zero row stays, without gradient."""
    unit: Tensor = _UnitRows.apply(rows)  # type: ignore[no-untyped-call]
    return unit


class _UnitRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        unit, norms = _normalized(rows)
        ctx.save_for_backward(unit, *norms)
        return unit

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor | None:
        unit, norm, scale = ctx.saved_tensors
        with torch.no_grad():
            found = PreparedRows(unit, (norm, scale), unit.dtype).gradient(grad)
        return refuse_double_backward((found,), grad, unit)[0]


def _normalized(rows: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Rows of norm 1, and the two factors [M, 1] of what they were divided by."""
    scale = _magnitude(rows)
    unit = rows / scale
    norm = torch.linalg.vector_norm(unit, dim=1, keepdim=True)
    norm = norm.masked_fill(norm == 0, torch.inf)
    return unit.div_(norm), (norm, scale)


def _magnitude(rows: Tensor) -> Tensor:
    """A power of two for each row [M, 1]: the squares of rows longer than 1e19 or shorter than 1e-19 leave fp32."""
    largest = rows.abs().amax(1, keepdim=True)
    usual = (largest == 0) | ~largest.isfinite()
    return torch.exp2(largest.masked_fill(usual, 1).log2().floor())
