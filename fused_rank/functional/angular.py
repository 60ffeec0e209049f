"""Angular loss as a function."""

import math

from torch import Tensor
from torch.nn import functional

from ..ops.class_pairs import all_pairs, by_anchor, undirected, unique_pairs
from ..ops.dispatch import select
from ..ops.option_checks import check_choice, check_number, check_positive
from ..ops.options import PAIR_CHOICES, PairChoice, Reduction
from ..ops.pair import PairTerm, pair_rows
from ..ops.reduction import Rows, reduce
from ..ops.rows import unit_rows, widened
from ..ops.validation import check_pairs, check_values
from ..reference.dense import non_finite
from .common import check_common
from .n_pairs import n_pairs_rows

_OPERATION = "angular_loss"
_SAFE_LOGIT = 60.0  # (x_a + x_p)·x_n is within ±2; exponentials of more need a running maximum


def angular_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    alpha: float = 40.0,
    pairs: PairChoice = "unique",
    npairs_weight: float = 0.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Angular loss; see `fused_rank.AngularLoss` for the formula and every argument.

    >>> import torch
    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> loss = angular_loss(x, torch.tensor([0, 0, 1]), alpha=45.0)
    >>> round(float(loss), 4)  # log(1 + exp(4 · 0 − 4 · 1))
    0.0181
    """
    check_common(reduction)
    alpha, npairs_weight = check_angular_options(alpha, pairs, npairs_weight)
    embeddings, labels, gallery, gallery_labels = check_pairs(embeddings, labels, gallery, gallery_labels)
    check_values("embeddings", embeddings)
    x, others = widened(embeddings, gallery)
    data = (x, labels, others, gallery_labels)
    uniform = reduction != "none"
    rows = _rows(*data, alpha, every=pairs == "all", uniform=uniform)
    if npairs_weight:
        beside = n_pairs_rows(_OPERATION, *data, pairs=pairs, normalize=True, uniform=uniform)
        rows = rows._replace(sums=rows.sums + npairs_weight * beside.sums)
    return reduce(*rows, reduction)


def check_angular_options(alpha: float, pairs: PairChoice, npairs_weight: float) -> tuple[float, float]:
    """The numbers among them; raise for options that the angular loss cannot mean."""
    check_choice("pairs", pairs, PAIR_CHOICES)
    return check_positive("alpha", alpha, below=90.0), check_number("npairs_weight", npairs_weight)


def _rows(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    alpha: float,
    *,
    every: bool,
    uniform: bool,
) -> Rows:
    """Rows [1, M]: a sweep of the pairs' sums x_a + x_p [L, D] over all the rows they may push away."""
    steep = math.tan(math.radians(alpha)) ** 2
    if every and gallery is None and 8 * steep <= _SAFE_LOGIT and select(_OPERATION, x).has_term("midpoints"):
        midpoints = PairTerm(
            _OPERATION, "midpoints", (4 * steep, 2 * (1 + steep)), fused="both" if uniform else "none"
        )
        return pair_rows(midpoints, x, labels, None, None, "dot", True)
    x = unit_rows(x)
    others = x if gallery is None else unit_rows(gallery)
    other_labels = labels if gallery is None else gallery_labels
    choose = all_pairs if every else unique_pairs
    anchor, positive = choose(labels, gallery_labels, x.shape[0], x.device)
    if every and gallery is None:  # (a, p) and (p, a) have one midpoint and the same negatives
        kept, place = undirected(anchor, positive, x.shape[0])
        found = _of_pairs(x, others, anchor[kept], positive[kept], labels, other_labels, steep, uniform)
        found = Rows(*(each[:, place] for each in found))  # each of them twice
    else:
        found = _of_pairs(x, others, anchor, positive, labels, other_labels, steep, uniform)
    sums, counts, active = (by_anchor(each[0], anchor, x.shape[0]) for each in found)
    return Rows(sums + non_finite(x, None if gallery is None else others), counts, active)


def _of_pairs(
    x: Tensor,
    others: Tensor,
    anchor: Tensor,
    positive: Tensor,
    labels: Tensor | None,
    other_labels: Tensor | None,
    steep: float,
    uniform: bool,
) -> Rows:
    """Rows [1, L], a pair each, counted where it has a negative.

    `steep` is tan² alpha; `uniform`: all have one upstream gradient.
    """
    # embedding, unlike indexing, adds up the gradients of repeated rows in a fixed order
    x_a, x_p = functional.embedding(anchor, x), functional.embedding(positive, others)
    if anchor.shape[0] == 0:
        nothing = x_a.sum(1).unsqueeze(0)
        return Rows(nothing, nothing, nothing)
    # rows of unit norm, so (x_a + x_p)·x_n is 2 at most
    term = PairTerm(_OPERATION, "softplus_negatives", (4 * steep, 2.0), uniform=uniform)
    pull = (2 * (1 + steep) * (x_a * x_p).sum(1)).unsqueeze(0)
    own = None if labels is None else labels[anchor]
    return pair_rows(term, x_a + x_p, own, others, other_labels, "dot", False, pull)
