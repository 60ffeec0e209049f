"""What the dense oracles share: the distance matrix, the masks, and the way from rows to the number."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..ops.options import PairMetric, Reduction
from ..ops.reduction import Rows, reduce
from .distance import Pairwise, accumulation_dtype, distance_matrix, unit_rows


def pair_masks(
    labels: Tensor | None, gallery_labels: Tensor | None, shape: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Positive and negative masks [M, N]; without gallery labels a row's own index is no pair (self form)."""
    if labels is None:
        positive = torch.eye(*shape, dtype=torch.bool, device=device)
        return positive, ~positive
    if gallery_labels is not None:
        positive = labels.unsqueeze(1) == gallery_labels.unsqueeze(0)
        return positive, ~positive
    same = labels.unsqueeze(1) == labels.unsqueeze(0)
    negative = ~same
    return same.fill_diagonal_(False), negative


def non_finite(x: Tensor, y: Tensor | None) -> Tensor:
    """[M]: 0, or NaN where a query, or anything it is paired with, is not finite. Adding it keeps such rows visible."""
    own = (x.detach() * 0).sum(1)
    return own + (own.sum() if y is None else (y.detach() * 0).sum())


def dense_loss(
    rows: Callable[[Tensor, Tensor, Tensor], Rows],
    embeddings: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    *,
    metric: PairMetric,
    normalize: bool,
    reduction: Reduction,
    pairwise: Pairwise | None = None,
    detach_gallery: bool = False,
    symmetric: bool = False,
    turned: Callable[[Tensor, Tensor, Tensor], Rows] | None = None,
) -> Tensor:
    """Distances, masks, `rows` of the loss, reduction: O(M·N) memory, everything differentiable by autograd.

    Symmetric: the gallery's rows are queries too, and come after the others; `turned` are their rows, if others.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        dtype = accumulation_dtype(embeddings.dtype)
        x = embeddings.to(dtype)
        y = None if gallery is None else gallery.to(dtype)
        if normalize or metric == "cosine":
            x = unit_rows(x)
            y = None if y is None else unit_rows(y)
        other = x if y is None else y
        distance = (pairwise or distance_matrix)(x, other.detach() if detach_gallery else other, metric)
        masks = pair_masks(labels, gallery_labels, (x.shape[0], other.shape[0]), x.device)
        found, lost = rows(distance, *masks), non_finite(x, y)
        if symmetric:
            others = (turned or rows)(distance.t(), *(mask.t() for mask in masks))
            found = Rows(*(torch.cat(both, dim=1) for both in zip(found, others, strict=True)))
            lost = torch.cat((lost, non_finite(other, x)))
        return reduce(found.sums + lost, found.counts, found.active, reduction)
