"""Circle loss as a function."""

from torch import Tensor

from ..ops.option_checks import check_number, check_positive
from ..ops.options import Reduction
from ..ops.pair import PairTerm, pair_rows
from ..ops.reduction import reduce
from ..ops.validation import check_pairs
from .common import check_common


def circle_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    m: float = 0.4,
    gamma: float = 80.0,
    reduction: Reduction = "mean_active",
) -> Tensor:
    """Circle loss; see `fused_rank.CircleLoss` for the formula and every argument.

    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> loss = circle_loss(x, torch.tensor([0, 0, 1]), gamma=10.0)
    >>> round(float(loss), 4)  # log(1 + exp(−10 · 0.4 · 0.4) exp(−10 · 0.4 · 0.4))
    0.04
    """
    check_common(reduction)
    m, gamma = check_circle_options(m, gamma)
    embeddings, labels, gallery, gallery_labels = check_pairs(embeddings, labels, gallery, gallery_labels)
    term = PairTerm("circle_loss", "circle", (float(m), float(gamma)), uniform=reduction != "none")
    rows = pair_rows(term, embeddings, labels, gallery, gallery_labels, "cosine", True)
    return reduce(*rows, reduction)


def check_circle_options(m: float, gamma: float) -> tuple[float, float]:
    """The options; raise for those that the circle loss cannot mean."""
    return check_number("m", m), check_positive("gamma", gamma)
