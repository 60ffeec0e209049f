"""Embedding rows as the metric sees them: widened to the accumulation dtype, normalised if asked."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..reference.distance import accumulation_dtype


@dataclass(frozen=True, slots=True)
class PreparedRows:
    """Rows [M, D] ready for products, and the way back to the gradient of the tensor they came from."""

    rows: Tensor
    norms: tuple[Tensor, Tensor] | None  # two factors [M, 1]; the first is infinite for a zero row
    dtype: torch.dtype

    def gradient(self, grad: Tensor) -> Tensor:
        """Gradient of the original tensor, in its dtype."""
        if self.norms is not None:
            along = (grad * self.rows).sum(1, keepdim=True)
            norm, scale = self.norms
            grad = (grad - along * self.rows) / norm / scale
        return grad.to(self.dtype)


def prepare(x: Tensor, *, normalize: bool) -> PreparedRows:
    """Widen x [M, D] and divide each row by its norm; a zero row stays zero and gets no gradient."""
    rows = x.detach().to(accumulation_dtype(x.dtype))
    if not normalize:
        return PreparedRows(rows, None, x.dtype)
    scale = _magnitude(rows)
    rows = rows / scale
    norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    norm = norm.masked_fill(norm == 0, torch.inf)
    return PreparedRows(rows / norm, (norm, scale), x.dtype)


def widened(x: Tensor, gallery: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Both in the accumulation dtype, for losses of several parts: gradients are added before they are rounded."""
    dtype = accumulation_dtype(x.dtype)
    return x.to(dtype), None if gallery is None else gallery.to(dtype)


def unit_rows(rows: Tensor) -> Tensor:
    """Widened rows [M, D] divided by their norms, differentiable by autograd; a zero row stays, without gradient."""
    rows = rows / _magnitude(rows.detach())
    norm: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows / norm.masked_fill(norm == 0, torch.inf)


def _magnitude(rows: Tensor) -> Tensor:
    """A power of two for each row [M, 1]: the squares of rows longer than 1e19 or shorter than 1e-19 leave fp32."""
    largest = rows.abs().amax(1, keepdim=True)
    usual = (largest == 0) | ~largest.isfinite()
    return torch.exp2(largest.masked_fill(usual, 1).log2().floor())
