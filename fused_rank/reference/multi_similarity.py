"""Multi-similarity loss (Wang et al., CVPR 2019), dense."""

from functools import partial

import torch
from torch import Tensor

from ..ops.options import Reduction
from ..ops.reduction import Rows
from .dense import dense_loss
from .distance import Pairwise
from .softmax import log_sum_exp, softplus


def mined_thresholds(distance: Tensor, positive: Tensor, negative: Tensor, epsilon: float) -> Tensor:
    """[2, m]: the distance above which a positive is kept and the one below which a negative is."""
    nearest = distance.masked_fill(~negative, torch.inf).amin(1)
    farthest = distance.masked_fill(~positive, -torch.inf).amax(1)
    return torch.stack((nearest - epsilon, farthest + epsilon)).detach()


def rows(
    distance: Tensor,
    positive: Tensor,
    negative: Tensor,
    inputs: Tensor,
    *,
    alpha: float,
    beta: float,
    base: float,
) -> Rows:
    """log(1 + Σ_p exp(−α(s − base)))/α + log(1 + Σ_n exp(β(s − base)))/β of each row of `distance` [m, N], s = 1 − d.

    Over the positives farther than inputs[0] and the negatives nearer than inputs[1], [m] each.
    """
    above = 1 - base - distance
    far = positive & (distance > inputs[0].unsqueeze(1))
    near = negative & (distance < inputs[1].unsqueeze(1))
    pull = softplus(log_sum_exp(-alpha * above, far)) / alpha
    push = softplus(log_sum_exp(beta * above, near)) / beta
    sums = (pull + push).unsqueeze(0)
    return Rows(sums, torch.ones_like(sums), (sums > 0).to(sums.dtype))


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
    pairwise: Pairwise | None = None,
) -> Tensor:
    """Dense oracle of `fused_rank.MultiSimilarityLoss`."""
    term = partial(rows, alpha=alpha, beta=beta, base=base)

    def mined(distance: Tensor, positive: Tensor, negative: Tensor) -> Rows:
        if mining_epsilon is not None:
            thresholds = mined_thresholds(distance, positive, negative, mining_epsilon)
        else:
            thresholds = distance.new_tensor([[-torch.inf], [torch.inf]])
        return term(distance, positive, negative, thresholds)

    return dense_loss(
        mined,
        embeddings,
        labels,
        gallery,
        gallery_labels,
        metric="cosine",
        normalize=True,
        reduction=reduction,
        pairwise=pairwise,
    )
