"""Generalised lifted structure loss as a function."""

from torch import Tensor

from ..ops.option_checks import check_number
from ..ops.options import Metric, Reduction
from ..ops.pair import PairTerm, pair_rows
from ..ops.reduction import reduce
from ..ops.validation import check_pairs
from .common import check_common


def lifted_structure_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    neg_margin: float = 1.0,
    pos_margin: float = 0.0,
    normalize: bool = True,
    metric: Metric = "euclidean",
    reduction: Reduction = "mean",
) -> Tensor:
    """Generalised lifted structure loss; see `fused_rank.GeneralizedLiftedStructureLoss` for formula and arguments.

    >>> import torch
    >>> x = torch.tensor([[0.0], [0.5], [2.0]])
    >>> loss = lifted_structure_loss(x, torch.tensor([0, 0, 1]), normalize=False, reduction="none")
    >>> [round(v, 4) for v in loss.tolist()]  # 0.5 + 1 − 2; 0.5 + 1 − 1.5; log(e^(1 − 2) + e^(1 − 1.5))
    [0.0, 0.0, 0.0]
    """
    normalize = check_common(reduction, normalize, metric)
    neg_margin, pos_margin = check_lifted_options(neg_margin, pos_margin)
    embeddings, labels, gallery, gallery_labels = check_pairs(embeddings, labels, gallery, gallery_labels)
    margins = (float(pos_margin), float(neg_margin))
    term = PairTerm("lifted_structure_loss", "lifted", margins, uniform=reduction != "none")
    rows = pair_rows(term, embeddings, labels, gallery, gallery_labels, metric, normalize)
    return reduce(*rows, reduction)


def check_lifted_options(neg_margin: float, pos_margin: float) -> tuple[float, float]:
    """The options; raise for those that the lifted structure loss cannot mean."""
    return check_number("neg_margin", neg_margin), check_number("pos_margin", pos_margin)
