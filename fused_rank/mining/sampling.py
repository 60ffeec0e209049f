"""Negatives drawn at random: one for every (anchor, positive), uniformly or by their distance."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..gpu.order import LabelOrder, order_by_label
from ..ops.dispatch import select
from ..ops.option_checks import check_number, check_positive
from ..ops.validation import check_pairs, check_values
from .results import Triplets


def random(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Triplets:
    """For every (anchor, positive) one negative, each of the anchor's negatives with the same probability.

    Draws are independent, with replacement. No distance is computed: O(M + N + L). Sorted by anchor, then positive;
    anchors without a negative have none.

    Args:
        embeddings: [M, D], float32, float64, bfloat16 or float16; only their number matters.
        labels: integers [M]; may be left out together with `gallery_labels` (row i's positive is gallery row i).
        gallery: [N, D] to choose from; None means the other embeddings.
        gallery_labels: integers [N].
        generator: source of the draws, on the embeddings' device; None is PyTorch's default. The same state gives the
            same triplets.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came.

    >>> import torch
    >>> labels = torch.tensor([0, 0, 1])
    >>> random(torch.zeros(3, 2), labels, generator=torch.Generator().manual_seed(0))
    Triplets(anchor=tensor([0, 1]), positive=tensor([1, 0]), negative=tensor([2, 2]))
    """
    embeddings, labels, gallery, gallery_labels = check_pairs(embeddings, labels, gallery, gallery_labels)
    check_values("embeddings", embeddings)
    order = _order(embeddings, labels, gallery, gallery_labels)
    pairs = _positive_pairs(order)
    draws = _draws(pairs, generator)
    begin, end = order.begin.long()[pairs.place], order.end.long()[pairs.place]
    available = order.negative_count.long()[pairs.place]
    at = (draws * available).long().clamp_(max=available - 1)  # among the negatives, in label order
    at += (at >= begin) * (end - begin)
    real = available > 0
    return Triplets(pairs.anchor[real], pairs.positive[real], order.gallery[at[real]])


def distance_weighted(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    cutoff: float = 0.5,
    nonzero_loss_cutoff: float = 1.4,
    generator: torch.Generator | None = None,
) -> Triplets:
    """For every (anchor, positive) one negative, drawn to be about uniform in distance (Wu et al., 2017).

    Distances between random points of the unit sphere are nearly all √2, with density
    q(d) ∝ d^(D − 2) (1 − d²/4)^((D − 3)/2). A negative at distance d is drawn with probability proportional to
    1 / q(max(d, cutoff)), and never at `nonzero_loss_cutoff` or beyond, where a margin loss is zero; if all of an
    anchor's negatives are beyond, uniformly among them. Rows are always normalised. Sorted by anchor, then positive;
    anchors without a negative have none.

    Args:
        embeddings: [M, D], float32, float64, bfloat16 or float16.
        labels: integers [M]; may be left out together with `gallery_labels` (row i's positive is gallery row i).
        gallery: [N, D] to choose from; None means the other embeddings.
        gallery_labels: integers [N].
        cutoff: distances below count as this much (paper: 0.5).
        nonzero_loss_cutoff: no negative is taken from here on (paper's code and pytorch-metric-learning: 1.4).
        generator: source of the draws, on the embeddings' device; None is PyTorch's default. The same state gives the
            same triplets.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came.

    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.1, 0.0], [0.5, 0.8, 0.0], [-1.0, 0.0, 0.0]])
    >>> distance_weighted(x, torch.tensor([0, 0, 1, 2])).negative  # [−1, 0, 0] is beyond 1.4
    tensor([2, 2])
    """
    cutoff = check_positive("cutoff", cutoff)
    nonzero_loss_cutoff = check_number("nonzero_loss_cutoff", nonzero_loss_cutoff)
    embeddings, labels, gallery, gallery_labels = check_pairs(embeddings, labels, gallery, gallery_labels)
    check_values("embeddings", embeddings)
    sample = select("mining.distance_weighted", embeddings).sample_negatives
    pairs = _positive_pairs(_order(embeddings, labels, gallery, gallery_labels))
    draws = _draws(pairs, generator)
    gallery = None if gallery is None else gallery.detach()
    limits = float(cutoff), float(nonzero_loss_cutoff)
    negative = sample(embeddings.detach(), labels, gallery, gallery_labels, draws, *limits)
    real = negative >= 0
    return Triplets(pairs.anchor[real], pairs.positive[real], negative[real])


class _Pairs(NamedTuple):
    """Every (anchor, positive) by anchor, then positive, [L]; `place`: the anchor's in label order."""

    anchor: Tensor
    positive: Tensor
    place: Tensor


def _order(
    embeddings: Tensor, labels: Tensor | None, gallery: Tensor | None, gallery_labels: Tensor | None
) -> LabelOrder:
    others = embeddings if gallery is None else gallery
    return order_by_label(labels, gallery_labels, embeddings.shape[0], others.shape[0], embeddings.device)


def _positive_pairs(order: LabelOrder) -> _Pairs:
    place = order.query.argsort()
    count = order.positive_count.long()[place]
    first = count.cumsum(0) - count
    anchor = torch.arange(count.shape[0], device=count.device).repeat_interleave(count)
    place = place[anchor]
    position = order.begin.long()[place] + torch.arange(anchor.shape[0], device=count.device) - first[anchor]
    if order.self_form:
        position += position >= place  # its own row is no positive
    return _Pairs(anchor, order.gallery[position], place)


def _draws(pairs: _Pairs, generator: torch.Generator | None) -> Tensor:
    """One number in [0, 1) for each pair."""
    return torch.rand(
        pairs.anchor.shape[0], dtype=torch.float64, device=pairs.anchor.device, generator=generator
    )
