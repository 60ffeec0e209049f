"""Miners of one batch by distance: the hardest, the semi-hard, and every combination of easy, semi-hard and hard."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..ops.dispatch import select
from ..ops.option_checks import check_choice, check_flag
from ..ops.options import HARDNESSES, METRICS, Hardness, Metric
from ..ops.validation import check_pairs, check_values
from .results import HardIndices, Partners, Triplets


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
    normalize = check_flag("normalize", normalize)
    embeddings, labels, gallery, gallery_labels = check_pairs(embeddings, labels, gallery, gallery_labels)
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
    normalize = check_flag("normalize", normalize)
    embeddings, labels, gallery, gallery_labels = check_pairs(embeddings, labels, gallery, gallery_labels)
    check_values("embeddings", embeddings)
    mine = select("mining.semihard", embeddings).mine_semihard
    gallery = None if gallery is None else gallery.detach()
    return Triplets(*mine(embeddings.detach(), labels, gallery, gallery_labels, metric, normalize))


def partners(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    positive: Hardness = "hard",
    negative: Hardness = "hard",
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    metric: Metric = "euclidean",
    normalize: bool = True,
) -> Partners:
    """One positive and one negative of each embedding, each easy, semi-hard or hard (Xuan et al., 2020).

    | word | positive | negative |
    |---|---|---|
    | ``"hard"`` | the farthest | the nearest |
    | ``"easy"`` | the nearest | the farthest |
    | ``"semihard"`` | the farthest nearer than the negative | the nearest farther than the positive |

    Semi-hard is said of one side against what the other side chose, strictly nearer or farther, so both at once is an
    error. An anchor without such a partner has −1, and so has what would be chosen by it. With ``"hard"`` twice this is
    `hard`. pytorch-metric-learning's `BatchEasyHardMiner` gives the same pairs and leaves anchors without a partner
    out. Ties, arguments and errors as for `hard`.

    >>> import torch
    >>> x = torch.tensor([[0.0], [1.0], [3.0], [0.5], [2.0]])
    >>> labels = torch.tensor([0, 0, 0, 1, 2])
    >>> partners(x, labels, positive="easy", negative="semihard", normalize=False)
    Partners(positive=tensor([ 1,  0,  1, -1, -1]), negative=tensor([ 4, -1,  3, -1, -1]))
    """
    check_choice("positive", positive, HARDNESSES)
    check_choice("negative", negative, HARDNESSES)
    check_choice("metric", metric, METRICS)
    normalize = check_flag("normalize", normalize)
    if positive == negative == "semihard":
        raise ValueError(
            "negative: expected 'easy' or 'hard' where the positive is 'semihard', got 'semihard'"
        )
    embeddings, labels, gallery, gallery_labels = check_pairs(embeddings, labels, gallery, gallery_labels)
    backend = select("mining.partners", embeddings)
    gallery = None if gallery is None else gallery.detach()
    given = (embeddings.detach(), labels, gallery, gallery_labels)

    def find(positives: bool, farthest: bool, above: Tensor | None, below: Tensor | None) -> Any:
        return backend.find_partner(*given, positives, farthest, above, below, metric, normalize)

    return Partners(*(rows for rows, _ in choose(find, positive, negative)))


# (positives, farthest, above, below) -> rows, squared distances
Find = Callable[[bool, bool, Tensor | None, Tensor | None], tuple[Tensor, Tensor]]


def choose(
    find: Find, positive: Hardness, negative: Hardness
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Rows and squared distances of the positives and of the negatives; what the other side depends on comes first."""
    if positive == "semihard":
        negatives = find(False, negative == "easy", None, None)
        return find(True, True, None, negatives[1]), negatives
    positives = find(True, positive == "hard", None, None)
    if negative == "semihard":
        return positives, find(False, False, positives[1], None)
    return positives, find(False, negative == "easy", None, None)
