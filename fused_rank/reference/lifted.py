"""Generalised lifted structure loss (Hermans, Beyer and Leibe, 2017, eq. 8), dense."""

from functools import partial

import torch
from torch import Tensor

from ..ops.options import Metric, Reduction
from ..ops.reduction import Rows
from .dense import dense_loss
from .distance import Pairwise
from .softmax import log_sum_exp


def rows(
    distance: Tensor, positive: Tensor, negative: Tensor, *, pos_margin: float, neg_margin: float
) -> Rows:
    """max(0, log Σ_p exp(d − pos_margin) + log Σ_n exp(neg_margin − d)) of each row of `distance` [m, N].

    The logarithm of a row that lacks a kind is 0, as in pytorch-metric-learning.
    """
    pull = log_sum_exp(distance - pos_margin, positive).masked_fill(~positive.any(1), 0)
    push = log_sum_exp(neg_margin - distance, negative).masked_fill(~negative.any(1), 0)
    sums = (pull + push).relu().unsqueeze(0)
    return Rows(sums, torch.ones_like(sums), (sums > 0).to(sums.dtype))


def lifted_structure_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    neg_margin: float = 1.0,
    pos_margin: float = 0.0,
    normalize: bool = True,
    metric: Metric = "euclidean",
    reduction: Reduction = "mean",
    pairwise: Pairwise | None = None,
) -> Tensor:
    """Dense oracle of `fused_rank.GeneralizedLiftedStructureLoss`."""
    return dense_loss(
        partial(rows, pos_margin=pos_margin, neg_margin=neg_margin),
        embeddings,
        labels,
        gallery,
        gallery_labels,
        metric=metric,
        normalize=normalize,
        reduction=reduction,
        pairwise=pairwise,
    )
