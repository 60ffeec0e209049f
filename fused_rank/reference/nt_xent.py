"""NT-Xent (Chen et al., ICML 2020), dense: each positive against all the negatives of its anchor."""

from functools import partial

from torch import Tensor

from ..ops.options import Reduction
from ..ops.reduction import Rows
from .dense import dense_loss
from .distance import Pairwise
from .softmax import log_sum_exp, softplus


def rows(distance: Tensor, positive: Tensor, negative: Tensor, *, scale: float) -> Rows:
    """Σ over positives of log(1 + Σ_n exp(l_in − l_ip)) for each row of `distance` [m, N], with l = scale · d.

    A row without negatives counts as nothing.
    """
    logits = scale * distance
    against = log_sum_exp(logits, negative).unsqueeze(1)
    pulled = positive & negative.any(1, keepdim=True)
    losses = softplus(against - logits).masked_fill(~pulled, 0)
    sums, counts = (each.sum(1).unsqueeze(0) for each in (losses, pulled.to(losses.dtype)))
    return Rows(sums, counts, counts)


def nt_xent_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    temperature: float = 0.07,
    reduction: Reduction = "mean",
    pairwise: Pairwise | None = None,
) -> Tensor:
    """Dense oracle of `fused_rank.NTXentLoss`."""
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
