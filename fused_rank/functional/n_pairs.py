"""N-pairs loss as a function."""

from torch import Tensor

from ..ops.class_pairs import by_anchor, unique_pairs
from ..ops.negatives import against_negatives
from ..ops.option_checks import check_choice, check_number
from ..ops.options import PAIR_CHOICES, PairChoice, PairMetric, Reduction
from ..ops.pair import PairTerm, pair_rows
from ..ops.reduction import Rows, reduce
from ..ops.rows import widened
from ..ops.validation import check_pairs, check_values
from ..reference.dense import non_finite
from ..reference.n_pairs import penalised
from .common import check_common


def n_pairs_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    pairs: PairChoice = "all",
    l2: float = 0.0,
    normalize: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """N-pairs loss; see `fused_rank.NPairsLoss` for the formula and every argument.

    >>> import torch
    >>> x = torch.eye(3).repeat(2, 1)
    >>> loss = n_pairs_loss(x, torch.arange(3).repeat(2), pairs="unique")
    >>> round(float(loss), 4)  # log(1 + 2 exp(0 − 1))
    0.5514
    """
    normalize = check_common(reduction, normalize)
    l2 = check_n_pairs_options(pairs, l2)
    embeddings, labels, gallery, gallery_labels = check_pairs(embeddings, labels, gallery, gallery_labels)
    if pairs == "unique":
        check_values("embeddings", embeddings)
    x, others = widened(embeddings, gallery)
    data = (x, labels, others, gallery_labels)
    uniform = reduction != "none"
    rows = n_pairs_rows("n_pairs_loss", *data, pairs=pairs, normalize=normalize, uniform=uniform)
    return penalised(reduce(*rows, reduction), x, l2, reduction)


def check_n_pairs_options(pairs: PairChoice, l2: float) -> float:
    """The number among them; raise for options that the N-pairs loss cannot mean."""
    check_choice("pairs", pairs, PAIR_CHOICES)
    return check_number("l2", l2)


def n_pairs_rows(
    operation: str,
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    *,
    pairs: PairChoice,
    normalize: bool,
    uniform: bool,
) -> Rows:
    """Rows [1, M] of checked and widened input, counted by pairs; with ``"unique"`` only a class's anchor has one."""
    metric: PairMetric = "cosine" if normalize else "dot"
    scale = -1.0 if normalize else 1.0
    if pairs == "all":
        return against_negatives(operation, x, labels, gallery, gallery_labels, metric, normalize, scale)
    others = x if gallery is None else gallery
    anchor, positive = unique_pairs(labels, gallery_labels, x.shape[0], x.device)
    anchors, positives = x[anchor], others[positive]
    # 0, or NaN in value and gradient, of rows that no pair has too
    lost = (x * non_finite(x, gallery).unsqueeze(1)).sum(1).unsqueeze(0)
    if anchor.shape[0] == 0:
        return Rows(lost + anchors.sum() + positives.sum(), lost * 0, lost * 0)
    term = PairTerm(operation, "sup_con", (scale,), uniform=uniform)
    found = pair_rows(term, anchors, None, positives, None, metric, normalize)
    sums, counts, active = (by_anchor(each[0], anchor, x.shape[0]) for each in found)
    return Rows(sums + lost, counts, active)
