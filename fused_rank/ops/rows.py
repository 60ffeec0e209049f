"""Embedding rows as the metric sees them: widened to the accumulation dtype, normalised if asked."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..reference.distance import accumulation_dtype


@dataclass(frozen=True, slots=True)
class PreparedRows:
    """Rows [M, D] ready for products, and the way back to the gradient of the tensor they came from."""

    rows: Tensor
    norms: Tensor | None  # [M, 1]; infinite for a zero row
    dtype: torch.dtype

    def gradient(self, grad: Tensor) -> Tensor:
        """Gradient of the original tensor, in its dtype."""
        if self.norms is not None:
            along = (grad * self.rows).sum(1, keepdim=True)
            grad = (grad - along * self.rows) / self.norms
        return grad.to(self.dtype)


def prepare(x: Tensor, *, normalize: bool) -> PreparedRows:
    """Widen x [M, D] and divide each row by its norm; a zero row stays zero and gets no gradient."""
    rows = x.detach().to(accumulation_dtype(x.dtype))
    if not normalize:
        return PreparedRows(rows, None, x.dtype)
    norms = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    norms = norms.masked_fill(norms == 0, torch.inf)
    return PreparedRows(rows / norms, norms, x.dtype)
