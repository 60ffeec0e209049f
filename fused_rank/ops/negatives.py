"""Losses that set each positive against all the negatives of its anchor, from two sweeps of softmax terms."""

from torch import Tensor

from .options import PairMetric
from .pair import PairTerm, pair_rows
from .reduction import Rows


def against_negatives(
    operation: str,
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    metric: PairMetric,
    normalize: bool,
    scale: float,
) -> Rows:
    """Σ over positives of log(1 + Σ_n exp(l_in − l_ip)) = Σ softplus(log Σ_n exp l_in − l_ip), with l = scale · d.

    The second sweep visits positives only. Nothing is counted for a query without negatives.
    """
    shift = -scale if metric == "cosine" else 0.0  # makes a logit of 1 − cos that of cos itself, near 0
    data = (x, labels, gallery, gallery_labels, metric, normalize)
    level = pair_rows(PairTerm(operation, "negatives_lse", (scale, shift)), *data).sums
    return pair_rows(PairTerm(operation, "softplus_positives", (scale, shift)), *data, inputs=level)
