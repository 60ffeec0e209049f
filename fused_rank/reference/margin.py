"""Margin loss (Wu et al., ICCV 2017), dense."""

import torch
from torch import Tensor

from ..ops.options import Metric, Reduction
from ..ops.reduction import Rows
from .dense import dense_loss
from .distance import Pairwise


def rows(distance: Tensor, positive: Tensor, negative: Tensor, inputs: Tensor, *, margin: float) -> Rows:
    """Two channels for each row of `distance` [m, N], whose β is inputs [1, m].

    Positives pay max(0, d − β + margin), negatives max(0, β − d + margin).
    """
    same, other = positive.to(distance.dtype), negative.to(distance.dtype)
    excess = distance - inputs[0].unsqueeze(1)
    too_far = (excess + margin).relu() * same
    too_near = (margin - excess).relu() * other
    sums, counts, active = (
        torch.stack([channel.sum(1) for channel in channels])
        for channels in (
            (too_far, too_near),
            (same, other),
            (too_far.detach().sign(), too_near.detach().sign()),
        )
    )
    return Rows(sums, counts, active)


def over_triplets(pairs: Rows) -> Rows:
    """From a row's positive and negative pairs to its triplets (every positive with every negative), one channel.

    Each positive occurs in as many triplets as there are negatives, and the other way round.
    """
    positives, negatives = pairs.counts
    occurrences = torch.stack((negatives, positives))
    sums, active = ((occurrences * each).sum(0, keepdim=True) for each in (pairs.sums, pairs.active))
    return Rows(sums, (positives * negatives).unsqueeze(0), active)


def margin_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    margin: float = 0.2,
    nu: float = 0.0,
    beta: float | Tensor = 1.2,
    normalize: bool = True,
    metric: Metric = "euclidean",
    reduction: Reduction = "mean_active",
    pairwise: Pairwise | None = None,
) -> Tensor:
    """Dense oracle of `fused_rank.MarginLoss`."""
    border = beta if isinstance(beta, Tensor) else embeddings.new_tensor(beta, dtype=torch.float64)
    per_class = border.dim() == 1 and border.shape[0] > 1
    own = border[labels] if per_class else border.reshape(1).expand(embeddings.shape[0])
    triplets = embeddings.new_zeros(())

    def every(distance: Tensor, positive: Tensor, negative: Tensor) -> Rows:
        nonlocal triplets
        found = over_triplets(
            rows(distance, positive, negative, own.to(distance.dtype).unsqueeze(0), margin=margin)
        )
        triplets = found.counts.sum()
        if not per_class:
            return found
        return found._replace(sums=found.sums + nu * found.counts * own.to(distance.dtype))

    loss = dense_loss(
        every,
        embeddings,
        labels,
        gallery,
        gallery_labels,
        metric=metric,
        normalize=normalize,
        reduction=reduction,
        pairwise=pairwise,
    )
    return loss if per_class else loss + nu * border.reshape(()).to(loss.dtype) * (triplets > 0)
