"""Circle loss (Sun et al., CVPR 2020), dense."""

from functools import partial

import torch
from torch import Tensor

from ..ops.options import Reduction
from ..ops.reduction import Rows
from .dense import dense_loss
from .distance import Pairwise
from .softmax import log_sum_exp, softplus


def rows(distance: Tensor, positive: Tensor, negative: Tensor, *, m: float, gamma: float) -> Rows:
    """log(1 + Σ_n exp(γ α_n (s_n − m)) Σ_p exp(γ α_p (1 − m − s_p))) of each row of `distance` [m, N], s = 1 − d.

    α_n = max(0, s_n + m) and α_p = max(0, 1 + m − s_p) are constants to the gradient. 0 for a row that lacks a kind.
    """
    fixed = distance.detach()
    pull = gamma * (fixed + m).relu() * (distance - m)
    push = gamma * (1 + m - fixed).relu() * (1 - m - distance)
    sums = softplus(log_sum_exp(pull, positive) + log_sum_exp(push, negative)).unsqueeze(0)
    return Rows(sums, torch.ones_like(sums), (sums > 0).to(sums.dtype))


def circle_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    m: float = 0.4,
    gamma: float = 80.0,
    reduction: Reduction = "mean_active",
    pairwise: Pairwise | None = None,
) -> Tensor:
    """Dense oracle of `fused_rank.CircleLoss`."""
    return dense_loss(
        partial(rows, m=m, gamma=gamma),
        embeddings,
        labels,
        gallery,
        gallery_labels,
        metric="cosine",
        normalize=True,
        reduction=reduction,
        pairwise=pairwise,
    )
