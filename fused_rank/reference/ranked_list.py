"""Ranked list loss (Wang et al., CVPR 2019), dense."""

from functools import partial

import torch
from torch import Tensor

from ..ops.options import Gradient, Metric, PositiveMean, Reduction
from ..ops.reduction import Rows
from .dense import dense_loss
from .distance import Pairwise


def weighted_mean(
    hinge: Tensor, members: Tensor, temperature: float, *, eps: float, constant_weights: bool
) -> Tensor:
    """Σ w·hinge / (Σ w + eps) over each row's members [m, N] (1 or 0), with w = exp(temperature·hinge).

    0 without members. Both sums are taken relative to the row's largest weight, so no temperature overflows.
    """
    if temperature == 0:
        numerator, denominator = hinge.sum(1), members.sum(1) + eps
    else:
        base = hinge.detach() if constant_weights else hinge
        peak = hinge.detach().amax(1, keepdim=True)
        weights = torch.exp(temperature * (base - peak)) * members
        numerator = (weights * hinge).sum(1)
        denominator = weights.sum(1) + eps * torch.exp(-temperature * peak.squeeze(1))
    return numerator / (denominator + (denominator == 0))


def rows(
    distance: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    alpha: float,
    margin: float,
    temperature_neg: float,
    temperature_pos: float,
    pos_weight: float,
    neg_weight: float,
    constant_weights: bool,
    positive_mean: PositiveMean,
    eps: float,
) -> Rows:
    """L_i of each row of `distance` [m, N].

    Positives are pulled inside alpha − margin, negatives pushed out of alpha.
    """
    # masks in the distance's dtype: a product is several times faster than a selection by booleans
    pulled, pushed = positive.to(distance.dtype), negative.to(distance.dtype)
    too_far = (distance - (alpha - margin)).relu() * pulled
    too_near = (alpha - distance).relu() * pushed
    members = pulled if positive_mean == "all" else too_far.detach().sign()
    near = too_near.detach().sign()
    pull = weighted_mean(too_far, members, temperature_pos, eps=eps, constant_weights=constant_weights)
    push = weighted_mean(too_near, near, temperature_neg, eps=eps, constant_weights=constant_weights)
    sums = (pos_weight * pull + neg_weight * push).unsqueeze(0)
    return Rows(sums, torch.ones_like(sums), (sums > 0).to(sums.dtype))


def ranked_list_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    alpha: float = 1.2,
    margin: float = 0.4,
    temperature_neg: float = 10.0,
    temperature_pos: float = 0.0,
    pos_weight: float = 1.0,
    neg_weight: float = 1.0,
    gradient: Gradient = "query",
    positive_mean: PositiveMean = "active",
    eps: float = 0.0,
    normalize: bool = True,
    metric: Metric = "euclidean",
    reduction: Reduction = "mean",
    pairwise: Pairwise | None = None,
) -> Tensor:
    """Dense oracle of `fused_rank.RankedListLoss`. ``"query"`` detaches the gallery, also in self form."""
    term = partial(
        rows,
        alpha=alpha,
        margin=margin,
        temperature_neg=temperature_neg,
        temperature_pos=temperature_pos,
        pos_weight=pos_weight,
        neg_weight=neg_weight,
        constant_weights=gradient != "exact",
        positive_mean=positive_mean,
        eps=eps,
    )
    return dense_loss(
        term,
        embeddings,
        labels,
        gallery,
        gallery_labels,
        metric=metric,
        normalize=normalize,
        reduction=reduction,
        pairwise=pairwise,
        detach_gallery=gradient == "query",
    )
