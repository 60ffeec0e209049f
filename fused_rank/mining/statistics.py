"""How many triplets of a batch are easy, semi-hard and hard: what a training still has to learn from."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..ops.dispatch import select
from ..ops.option_checks import check_choice, check_flag, check_number
from ..ops.options import METRICS, Metric
from ..ops.validation import check_pairs, check_values


class TripletStats(NamedTuple):
    """Exact counts over all triplets, and means over all pairs (NaN where there is none).

    Every triplet is one of the three: `hard` (d_an ≤ d_ap), `semihard` (d_ap < d_an ≤ d_ap + margin), `easy` (farther).
    `active` is the share of triplets with a positive hinge loss, d_an < d_ap + margin.
    """

    triplets: int
    easy: int
    semihard: int
    hard: int
    active: float
    positive_distance: float
    negative_distance: float


def triplet_stats(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    margin: float = 0.2,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    metric: Metric = "euclidean",
    normalize: bool = True,
) -> TripletStats:
    """Counts of easy, semi-hard and hard triplets at a margin, the active share, and mean d_ap and d_an.

    Nothing is enumerated: negatives are ranked among each anchor's positives, so that O(M·N·P) triplets cost about what
    the loss's forward pass costs, in O((M + N)·D) memory.

    Args:
        embeddings: [M, D], float32, float64, bfloat16 or float16, finite.
        labels: integers [M]; may be left out together with `gallery_labels` (row i's positive is gallery row i).
        margin: of the triplet loss (default: that of `TripletMarginLoss`, 0.2).
        gallery: [N, D] that positives and negatives come from; None means the other embeddings.
        gallery_labels: integers [N].
        metric: ``"euclidean"``, ``"sqeuclidean"`` or ``"cosine"`` (1 − cos, always normalised).
        normalize: divide rows by their norms first.

    Raises:
        ValueError: a row is not finite; it has no distance to count.
        ValueError, TypeError: naming the argument, what was expected and what came.

    >>> import torch
    >>> x = torch.tensor([[0.0], [1.0], [1.125], [5.0]])
    >>> triplet_stats(x, torch.tensor([0, 0, 1, 1]), margin=0.25, normalize=False)[:5]
    (8, 3, 2, 3, 0.625)
    """
    check_choice("metric", metric, METRICS)
    normalize = check_flag("normalize", normalize)
    margin = check_number("margin", margin)
    embeddings, labels, gallery, gallery_labels = check_pairs(embeddings, labels, gallery, gallery_labels)
    check_values("embeddings", embeddings)
    count = select("mining.triplet_stats", embeddings).triplet_counts
    gallery = None if gallery is None else gallery.detach()
    rows = count(embeddings.detach(), labels, gallery, gallery_labels, float(margin), metric, normalize)
    if rows.isnan().any():
        raise ValueError("embeddings: expected finite rows on both sides, got NaN or infinity")
    return _summary(rows)


def _summary(rows: Tensor) -> TripletStats:
    """From the operator's rows, float64 [7, M]: counts are whole numbers there, and their sums need more digits."""
    positives, negatives, hard, near, active = rows[2:].to(torch.int64).unbind(0)
    triplets = int((positives * negatives).sum())

    def share(part: Tensor, whole: Tensor) -> float:
        total = int(whole.sum())
        return float(part.sum()) / total if total else float("nan")

    return TripletStats(
        triplets=triplets,
        easy=triplets - int(near.sum()),
        semihard=int((near - hard).sum()),
        hard=int(hard.sum()),
        active=int(active.sum()) / triplets if triplets else float("nan"),
        positive_distance=share(rows[0], positives),
        negative_distance=share(rows[1], negatives),
    )
