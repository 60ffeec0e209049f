"""The losses and distances as functions; `fused_rank`'s modules are these with their options remembered."""

import torch
from torch import Tensor

from ..ops.distance import listed_distance, pairwise_matrix
from ..ops.option_checks import check_choice, check_flag, check_number
from ..ops.options import (
    GRADIENTS,
    METRICS,
    POSITIVE_MEANS,
    Gradient,
    Metric,
    PositiveMean,
    Reduction,
)
from ..ops.pair import PairTerm, pair_rows
from ..ops.reduction import reduce
from ..ops.validation import check_listed_pairs, check_pairs, check_rows, check_same_space
from ..reference.contrastive import rows as contrastive_rows
from .angular import angular_loss
from .circle import circle_loss
from .common import check_common
from .lifted import lifted_structure_loss
from .margin import margin_loss
from .multi_similarity import multi_similarity_loss
from .n_pairs import n_pairs_loss
from .nt_xent import nt_xent_loss
from .sup_con import info_nce_loss, sup_con_loss
from .triplet import triplet_margin_loss

__all__ = [
    "angular_loss",
    "circle_loss",
    "contrastive_loss",
    "info_nce_loss",
    "lifted_structure_loss",
    "margin_loss",
    "multi_similarity_loss",
    "n_pairs_loss",
    "nt_xent_loss",
    "paired_distance",
    "pairwise_distance",
    "ranked_list_loss",
    "sup_con_loss",
    "triplet_margin_loss",
]

_FARTHEST = {"euclidean": 2.0, "sqeuclidean": 4.0, "cosine": 2.0}  # between unit rows


def ranked_list_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    alpha: float = 1.2,
    margin: float = 0.4,
    temperature_neg: float = 10.0,
    temperature_pos: float = 0.0,
    pos_weight: float = 1.0,
    neg_weight: float = 1.0,
    gradient: Gradient = "query",
    positive_mean: PositiveMean = "active",
    eps: float = 0.0,
    normalize: bool = True,
    metric: Metric = "euclidean",
    reduction: Reduction = "mean",
) -> Tensor:
    """Ranked list loss; see `fused_rank.RankedListLoss` for the formula and every argument.

    >>> import torch
    >>> x = torch.eye(4).repeat(2, 1)
    >>> float(ranked_list_loss(x, torch.arange(4).repeat(2)))  # every negative is farther than alpha
    0.0
    """
    normalize = check_common(reduction, normalize, metric)
    alpha, margin, temperature_neg, temperature_pos, pos_weight, neg_weight, eps = check_ranked_list_options(
        alpha, margin, temperature_neg, temperature_pos, pos_weight, neg_weight, gradient, positive_mean, eps
    )
    embeddings, labels, gallery, gallery_labels = check_pairs(embeddings, labels, gallery, gallery_labels)
    query_only = gradient == "query"
    if query_only and gallery is not None and gallery.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            'gallery: expected no requires_grad under gradient="query", which keeps the gallery constant,'
            ' got one that requires grad; pass gradient="both" (or "exact") to move it too, or gallery.detach()'
        )
    steepest_pos = temperature_pos * (_FARTHEST[metric] - (alpha - margin))
    unit = normalize or metric == "cosine"
    bounded = temperature_neg * alpha <= 120 and (temperature_pos == 0 or (unit and steepest_pos <= 60))
    term = PairTerm(
        "ranked_list_loss",
        "ranked_list",
        (
            float(alpha),
            float(margin),
            float(temperature_neg),
            float(temperature_pos),
            float(pos_weight),
            float(neg_weight),
            float(gradient == "exact"),
            float(positive_mean == "all"),
            float(eps),
        ),
        query_only=query_only,
        fused="query" if query_only and bounded else "none",
    )
    rows = pair_rows(term, embeddings, labels, gallery, gallery_labels, metric, normalize)
    return reduce(*rows, reduction)


def contrastive_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    pairs: tuple[Tensor, Tensor, Tensor] | None = None,
    pos_margin: float = 0.0,
    neg_margin: float = 1.0,
    power: int = 2,
    normalize: bool = True,
    metric: Metric = "euclidean",
    reduction: Reduction = "mean",
) -> Tensor:
    """Contrastive loss; see `fused_rank.ContrastiveLoss` for the formula and every argument.

    >>> import torch
    >>> x = torch.tensor([[0.0], [0.5]])
    >>> float(contrastive_loss(x, torch.tensor([0, 1]), normalize=False))  # (1 − 0.5)²
    0.25
    """
    normalize = check_common(reduction, normalize, metric)
    pos_margin, neg_margin, power = check_contrastive_options(pos_margin, neg_margin, power)
    embeddings, labels, gallery, gallery_labels = check_pairs(
        embeddings, labels, gallery, gallery_labels, labels_needed=pairs is None
    )
    if pairs is not None:
        i, j, same = check_listed_pairs(pairs, embeddings, gallery)
        distance = listed_distance("contrastive_loss", embeddings, gallery, i, j, metric, normalize)
        listed = contrastive_rows(  # each pair as a row with one column
            distance.unsqueeze(1),
            same.unsqueeze(1),
            ~same.unsqueeze(1),
            pos_margin=pos_margin,
            neg_margin=neg_margin,
            power=power,
        )
        return reduce(*listed, reduction)
    term = PairTerm(
        "contrastive_loss",
        "contrastive",
        (float(pos_margin), float(neg_margin), float(power)),
        fused="none" if reduction == "none" else "both",
    )
    rows = pair_rows(term, embeddings, labels, gallery, gallery_labels, metric, normalize)
    return reduce(*rows, reduction)


def pairwise_distance(
    x: Tensor, y: Tensor | None = None, *, metric: Metric = "euclidean", normalize: bool = False
) -> Tensor:
    """The whole distance matrix, accurate and differentiable, for who wants the matrix; no loss needs it.

    Unlike ``torch.cdist``'s product form it is right for near-duplicates (whatever cancels is recomputed from
    the difference), has zero gradient, not NaN, at zero distance, takes 16-bit input and accumulates it in
    float32.

    Args:
        x: [M, D], float32, float64, bfloat16 or float16.
        y: [N, D]; None means x. Of two dtypes both sides are taken in the wider.
        metric: ``"euclidean"``, ``"sqeuclidean"`` or ``"cosine"`` (1 − cos, always normalised).
        normalize: divide rows by their norms first; a zero row stays zero.

    Returns:
        [M, N], float64 for float64 input and float32 otherwise. PyTorch products make it under every backend.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came.

    >>> import torch
    >>> pairwise_distance(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    tensor([[0., 5.],
            [5., 0.]])
    """
    x, y, normalize = _check_distance(x, y, metric, normalize)
    return pairwise_matrix(x, y, metric, normalize)


def paired_distance(x: Tensor, y: Tensor, *, metric: Metric = "euclidean", normalize: bool = False) -> Tensor:
    """Distance of x's row i to y's row i, [M], by direct difference; the zero subgradient at zero distance.

    Arguments and errors as for `pairwise_distance`; both have M rows.

    >>> import torch
    >>> paired_distance(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), metric="cosine")
    tensor([1.])
    """
    check_rows("y", y)
    x, others, normalize = _check_distance(x, y, metric, normalize)
    if x.shape[0] != y.shape[0]:
        raise ValueError(f"y: expected {x.shape[0]} rows as x has, got {y.shape[0]}")
    return listed_distance("paired_distance", x, others, None, None, metric, normalize)


def check_ranked_list_options(
    alpha: float,
    margin: float,
    temperature_neg: float,
    temperature_pos: float,
    pos_weight: float,
    neg_weight: float,
    gradient: Gradient,
    positive_mean: PositiveMean,
    eps: float,
) -> tuple[float, ...]:
    """The numbers among them, in this order; raise for options that the ranked list loss cannot mean."""
    check_choice("gradient", gradient, GRADIENTS)
    check_choice("positive_mean", positive_mean, POSITIVE_MEANS)
    return (
        check_number("alpha", alpha),
        check_number("margin", margin),
        check_number("temperature_neg", temperature_neg),
        check_number("temperature_pos", temperature_pos),
        check_number("pos_weight", pos_weight),
        check_number("neg_weight", neg_weight),
        check_number("eps", eps),
    )


def check_contrastive_options(pos_margin: float, neg_margin: float, power: int) -> tuple[float, float, int]:
    """The options; raise for those that the contrastive loss cannot mean."""
    pos_margin = check_number("pos_margin", pos_margin)
    neg_margin = check_number("neg_margin", neg_margin)
    exponent = check_number("power", power)
    if exponent not in (1, 2):
        raise ValueError(f"power: expected 1 (linear) or 2 (squared), got {exponent!r}")
    return pos_margin, neg_margin, int(exponent)


def _check_distance(
    x: Tensor, y: Tensor | None, metric: Metric, normalize: bool
) -> tuple[Tensor, Tensor | None, bool]:
    """Both sides in one dtype, and `normalize`."""
    check_choice("metric", metric, METRICS)
    normalize = check_flag("normalize", normalize)
    check_rows("x", x)
    if y is not None:
        check_rows("y", y)
        x, y = check_same_space("y", y, "x", x)
    return x, y, normalize
