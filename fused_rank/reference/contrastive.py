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
    # masks in the distance's dtype: a product is several times faster than a selection by booleans
    same, other = positive.to(distance.dtype), negative.to(distance.dtype)
    too_far = (distance - pos_margin).relu() * same
    too_near = (neg_margin - distance).relu() * other
    losses = (too_far, too_near) if power == 1 else (too_far * too_far, too_near * too_near)
    sums, counts, active = (
        torch.stack([channel.sum(1) for channel in channels])
        for channels in (losses, (same, other), (too_far.detach().sign(), too_near.detach().sign()))
    )
    return Rows(sums, counts, active)


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
