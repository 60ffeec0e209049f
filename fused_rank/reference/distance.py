"""Dense distances as one matrix product: the form that every eager implementation starts from.

They lose near-duplicates to cancellation in fp32 (|x|² + |y|² − 2x·y);
`fused_rank.functional.pairwise_distance` does not.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ..ops.options import PairMetric

Pairwise: TypeAlias = Callable[[Tensor, Tensor, PairMetric], Tensor]


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """fp64 for fp64 input, otherwise fp32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def unit_rows(x: Tensor) -> Tensor:
    """Rows of x [M, D] divided by their norms; a zero row stays zero, with zero gradient."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / norm.masked_fill(norm == 0, torch.inf)


def safe_sqrt(squared: Tensor) -> Tensor:
    """Square root of max(0, squared), with the zero subgradient (not infinity) at 0."""
    tiny = torch.finfo(squared.dtype).tiny
    floor = math.sqrt(tiny)  # subtracting it makes sqrt(0) exactly 0 and changes nothing else
    return squared.clamp_min(tiny).sqrt() - floor


def distance_matrix(x: Tensor, y: Tensor, metric: PairMetric) -> Tensor:
    """Distances [M, N] of rows x [M, D] to rows y [N, D]; for ``"cosine"`` the rows are unit already.

    ``"dot"`` is the inner product itself.
    """
    if metric == "dot":
        return x @ y.t()
    x_squared = (x * x).sum(1)
    y_squared = x_squared if y is x else (y * y).sum(1)
    squared = torch.addmm(y_squared.unsqueeze(0), x, y.t(), alpha=-2) + x_squared.unsqueeze(1)
    if metric == "euclidean":
        return safe_sqrt(squared)
    if metric == "sqeuclidean":
        return squared.clamp_min(0)
    return squared.clamp_min(0) / 2
