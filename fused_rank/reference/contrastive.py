"""Contrastive loss (Hadsell, Chopra and LeCun, CVPR 2006), dense."""

from functools import partial

import torch
from torch import Tensor

from ..ops.options import Metric, Reduction
from ..ops.reduction import Rows
from .dense import dense_loss
from .distance import Pairwise


def rows(
    distance: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    pos_margin: float,
    neg_margin: float,
    power: int,
) -> Rows:
    """Two channels for each row of `distance` [m, N]: its positive pairs and its negative pairs."""
    too_far = torch.where(positive, distance - pos_margin, 0.0).relu()
    too_near = torch.where(negative, neg_margin - distance, 0.0).relu()
    losses = (too_far, too_near) if power == 1 else (too_far * too_far, too_near * too_near)
    counts = torch.stack((positive.sum(1), negative.sum(1)))
    active = torch.stack((too_far.count_nonzero(1), too_near.count_nonzero(1)))
    sums = torch.stack((losses[0].sum(1), losses[1].sum(1)))
    return Rows(sums, counts.to(sums.dtype), active.to(sums.dtype))


def contrastive_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    pos_margin: float = 0.0,
    neg_margin: float = 1.0,
    power: int = 2,
    normalize: bool = True,
    metric: Metric = "euclidean",
    reduction: Reduction = "mean",
    pairwise: Pairwise | None = None,
) -> Tensor:
    """Dense oracle of `fused_rank.ContrastiveLoss`."""
    return dense_loss(
        partial(rows, pos_margin=pos_margin, neg_margin=neg_margin, power=power),
        embeddings,
        labels,
        gallery,
        gallery_labels,
        metric=metric,
        normalize=normalize,
        reduction=reduction,
        pairwise=pairwise,
    )
