"""Supervised contrastive loss (Khosla et al., NeurIPS 2020) and InfoNCE (van den Oord et al., 2018), dense."""

from functools import partial

import torch
from torch import Tensor

from ..ops.options import Reduction
from ..ops.reduction import Rows
from .dense import dense_loss
from .distance import Pairwise
from .softmax import log_sum_exp, softplus


def rows(distance: Tensor, positive: Tensor, negative: Tensor, *, scale: float) -> Rows:
    """log Σ_j exp(l_ij) − mean over positives of l_ip for each row of `distance` [m, N], with l = scale · d.

    A row without positives counts as nothing. Positives and negatives are summed apart, so that a positive whose
    softmax is nearly 1 keeps the digits of what is missing.
    """
    logits = scale * distance
    pulled = positive.to(distance.dtype)
    count = pulled.sum(1)
    mean = (logits * pulled).sum(1) / count.clamp(min=1)
    present = count > 0
    attract, repel = log_sum_exp(logits, positive), log_sum_exp(logits, negative)
    sums = torch.where(present, attract - mean + softplus(repel - attract), 0.0).unsqueeze(0)
    return Rows(sums, present.to(sums.dtype).unsqueeze(0), (sums > 0).to(sums.dtype))


def sup_con_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    temperature: float = 0.1,
    reduction: Reduction = "mean",
    pairwise: Pairwise | None = None,
) -> Tensor:
    """Dense oracle of `fused_rank.SupConLoss`."""
    return dense_loss(
        partial(rows, scale=-1 / temperature),
        embeddings,
        labels,
        gallery,
        gallery_labels,
        metric="cosine",
        normalize=True,
        reduction=reduction,
        pairwise=pairwise,
    )


def info_nce_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    temperature: float = 0.07,
    symmetric: bool = False,
    reduction: Reduction = "mean",
    pairwise: Pairwise | None = None,
) -> Tensor:
    """Dense oracle of `fused_rank.InfoNCELoss`."""
    return dense_loss(
        partial(rows, scale=-1 / temperature),
        embeddings,
        labels,
        gallery,
        gallery_labels,
        metric="cosine",
        normalize=True,
        reduction=reduction,
        pairwise=pairwise,
        symmetric=symmetric,
    )
