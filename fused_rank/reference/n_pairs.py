"""N-pairs loss (Sohn, NeurIPS 2016), dense."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from ..ops.class_pairs import by_anchor, unique_pairs
from ..ops.options import PairChoice, PairMetric, Reduction
from ..ops.reduction import Rows, reduce
from . import nt_xent
from .dense import dense_loss, non_finite
from .distance import Pairwise, accumulation_dtype, distance_matrix, unit_rows


def unique_rows(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    *,
    metric: PairMetric,
    scale: float,
    pairwise: Pairwise | None,
) -> Rows:
    """Cross-entropy of one (anchor, positive) a class among those positives, in the anchors' places of [1, M].

    x [M, D] and gallery [N, D] are ready for `metric`.
    """
    others = x if gallery is None else gallery
    anchor, positive = unique_pairs(labels, gallery_labels, x.shape[0], x.device)
    logits = scale * (pairwise or distance_matrix)(x[anchor], others[positive], metric)  # [K, K]
    losses = functional.cross_entropy(logits, torch.arange(len(anchor), device=x.device), reduction="none")
    channels = (losses, torch.ones_like(losses), (losses > 0).to(x.dtype))
    found = Rows(*(by_anchor(each, anchor, x.shape[0]) for each in channels))
    return found._replace(sums=found.sums + non_finite(x, gallery))


def penalised(loss: Tensor, embeddings: Tensor, l2: float, reduction: Reduction) -> Tensor:
    """The loss plus l2 · |x|² of each row, averaged or summed as the loss is."""
    if l2 == 0:
        return loss
    squares = l2 * embeddings.to(loss.dtype).square().sum(1)
    if reduction == "none":
        return loss + squares
    return loss + (squares.sum() if reduction == "sum" else squares.mean())


def n_pairs_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    pairs: PairChoice = "all",
    l2: float = 0.0,
    normalize: bool = True,
    reduction: Reduction = "mean",
    pairwise: Pairwise | None = None,
) -> Tensor:
    """Dense oracle of `fused_rank.NPairsLoss`."""
    metric: PairMetric = "cosine" if normalize else "dot"
    scale = -1.0 if normalize else 1.0
    if pairs == "all":
        loss = dense_loss(
            partial(nt_xent.rows, scale=scale),
            embeddings,
            labels,
            gallery,
            gallery_labels,
            metric=metric,
            normalize=normalize,
            reduction=reduction,
            pairwise=pairwise,
        )
        return penalised(loss, embeddings, l2, reduction)
    with torch.autocast(embeddings.device.type, enabled=False):
        ready = unit_rows if normalize else Tensor.clone
        dtype = accumulation_dtype(embeddings.dtype)
        x = ready(embeddings.to(dtype))
        y = None if gallery is None else ready(gallery.to(dtype))
        found = unique_rows(x, labels, y, gallery_labels, metric=metric, scale=scale, pairwise=pairwise)
        return penalised(reduce(*found, reduction), embeddings, l2, reduction)
