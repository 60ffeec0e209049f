"""Which triplets to learn from, as indices; the losses mine for themselves and never store these."""

from typing import NamedTuple

from torch import Tensor

from .ops.dispatch import select
from .ops.options import METRICS, Metric
from .ops.validation import check_choice, check_flag, check_pairs

__all__ = ["HardIndices", "Triplets", "hard", "semihard"]


class HardIndices(NamedTuple):
    """Hardest partners of each anchor, int64 [M]; −1 where there is none."""

    positive: Tensor
    negative: Tensor


class Triplets(NamedTuple):
    """Triplets as int64 indices, each [L]: anchors index the embeddings, the others the gallery."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor


def hard(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    metric: Metric = "euclidean",
    normalize: bool = True,
) -> HardIndices:
    """Farthest positive and nearest negative of each embedding (Hermans et al., 2017, batch hard).

    Distances are compared squared; among equals the lowest index wins. Nothing is differentiable.

    Args:
        embeddings: [M, D], float32, float64, bfloat16 or float16.
        labels: integers [M]; may be left out together with `gallery_labels` (row i's positive is gallery row
            i).
        gallery: [N, D] to choose from; None means the other embeddings.
        gallery_labels: integers [N].
        metric: ``"euclidean"``, ``"sqeuclidean"`` or ``"cosine"`` (1 − cos, always normalised).
        normalize: divide rows by their norms first.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came.

    >>> import torch
    >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    >>> hard(x, torch.tensor([7, 7, 8]), normalize=False)
    HardIndices(positive=tensor([ 1,  0, -1]), negative=tensor([2, 2, 0]))
    """
    check_choice("metric", metric, METRICS)
    check_flag("normalize", normalize)
    labels, gallery_labels = check_pairs(embeddings, labels, gallery, gallery_labels)
    mine = select("mining.hard", embeddings).mine_hard
    gallery = None if gallery is None else gallery.detach()
    return HardIndices(*mine(embeddings.detach(), labels, gallery, gallery_labels, metric, normalize))


def semihard(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    metric: Metric = "euclidean",
    normalize: bool = True,
) -> Triplets:
    """For every (anchor, positive) the nearest negative strictly farther than the positive, else the farthest negative.

    This is FaceNet's and TensorFlow's definition (Schroff et al., 2015); pytorch-metric-learning's "semihard"
    is what the triplet loss calls ``mining="semihard_all"``. The result has one entry for each positive pair,
    O(M·P); anchors without a negative have none. Arguments and errors as for `hard`.

    >>> import torch
    >>> x = torch.tensor([[0.0], [1.0], [2.0], [0.5]])
    >>> a, p, n = semihard(x, torch.tensor([0, 0, 1, 1]), normalize=False)
    >>> list(zip(a.tolist(), p.tolist(), n.tolist()))
    [(0, 1, 2), (1, 0, 2), (2, 3, 0), (3, 2, 0)]
    """
    check_choice("metric", metric, METRICS)
    check_flag("normalize", normalize)
    labels, gallery_labels = check_pairs(embeddings, labels, gallery, gallery_labels)
    mine = select("mining.semihard", embeddings).mine_semihard
    gallery = None if gallery is None else gallery.detach()
    return Triplets(*mine(embeddings.detach(), labels, gallery, gallery_labels, metric, normalize))
