"""Multi-similarity loss as a function."""

import torch
from torch import Tensor

from ..ops.dispatch import select
from ..ops.distance import listed_distance
from ..ops.option_checks import check_number, check_positive
from ..ops.options import Reduction
from ..ops.pair import PairTerm, pair_rows
from ..ops.reduction import reduce
from ..ops.validation import check_pairs
from ..reference.distance import accumulation_dtype
from .common import check_common

_OPERATION = "multi_similarity_loss"
_EVERY = 1e30  # no distance is farther


def multi_similarity_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    mining_epsilon: float | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Multi-similarity loss; see `fused_rank.MultiSimilarityLoss` for the formula and every argument.

    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> loss = multi_similarity_loss(x, torch.tensor([0, 0]))
    >>> round(float(loss), 4)  # log(1 + exp(−2 (0 − 0.5))) / 2
    0.6566
    """
    check_common(reduction)
    alpha, beta, base, mining_epsilon = check_multi_similarity_options(alpha, beta, base, mining_epsilon)
    embeddings, labels, gallery, gallery_labels = check_pairs(embeddings, labels, gallery, gallery_labels)
    mined = mining_epsilon is not None
    term = PairTerm(_OPERATION, "multi_similarity", (float(alpha), float(beta), float(base), float(mined)))
    thresholds = (
        embeddings.new_tensor([[-_EVERY], [_EVERY]], dtype=accumulation_dtype(embeddings.dtype)).repeat(
            1, embeddings.shape[0]
        )
        if mining_epsilon is None
        else _mined_thresholds(embeddings, labels, gallery, gallery_labels, mining_epsilon)
    )
    rows = pair_rows(term, embeddings, labels, gallery, gallery_labels, "cosine", True, inputs=thresholds)
    return reduce(*rows, reduction)


def check_multi_similarity_options(
    alpha: float, beta: float, base: float, mining_epsilon: float | None
) -> tuple[float, float, float, float | None]:
    """The options; raise for those that the multi-similarity loss cannot mean."""
    return (
        check_positive("alpha", alpha),
        check_positive("beta", beta),
        check_number("base", base, minimum=-1.0),
        None if mining_epsilon is None else check_number("mining_epsilon", mining_epsilon),
    )


def _mined_thresholds(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    epsilon: float,
) -> Tensor:
    """[2, M]: keep a positive beyond the nearest negative − ε, a negative within the farthest positive + ε."""
    x = x.detach()
    gallery = None if gallery is None else gallery.detach()
    farthest, nearest = select(_OPERATION, x).mine_hard(x, labels, gallery, gallery_labels, "cosine", True)
    own = torch.arange(x.shape[0], device=x.device)

    def threshold(index: Tensor, slack: float, none: float) -> Tensor:
        found = listed_distance(_OPERATION, x, gallery, own, index.clamp(min=0), "cosine", True)
        return (found + slack).masked_fill(index < 0, none)

    return torch.stack((threshold(nearest, -epsilon, _EVERY), threshold(farthest, epsilon, -_EVERY)))
