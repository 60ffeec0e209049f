"""Ranked list loss."""

from ..functional import check_ranked_list_options, ranked_list_loss
from ..ops.options import Gradient, Metric, PositiveMean, Reduction
from ._base import DistanceLoss


class RankedListLoss(DistanceLoss):
    r"""Ranked list loss (Wang et al., "Ranked List Loss for Deep Metric Learning", CVPR 2019).

    Positives are pulled inside a hypersphere of radius α − m, negatives pushed out of one of radius α. For
    query i with distances d_j, and h⁺ = d − (α − m), h⁻ = α − d::

        P* = {j: same label, h⁺_j > 0}            N* = {j: other label, h⁻_j > 0}
        L_P = Σ_{P*} w_j h⁺_j / (Σ w_j + eps),    w_j = exp(temperature_pos · max(0, h⁺_j))
        L_N = Σ_{N*} w_j h⁻_j / (Σ w_j + eps),    w_j = exp(temperature_neg · h⁻_j)
        L_i = pos_weight · L_P + neg_weight · L_N

    The defaults are the CVPR paper's definition and best values (α=1.2, m=0.4, T=10, λ=1). The journal's form
    is ``pos_weight=1-λ, neg_weight=λ, temperature_pos=T_p``. pytorch-metric-learning 2.9.0 is ``alpha=1+m/2,
    pos_weight=neg_weight=0.5, gradient="exact", eps=B*1e-5``.

    Args:
        alpha: distance (in `metric`) beyond which a negative is far enough.
        margin: width of the empty ring between positives and negatives.
        temperature_neg: how much the nearest negatives dominate; 0 weighs all alike. Any value is safe from
            overflow.
        temperature_pos: the same for the farthest positives; 0 in the CVPR paper.
        pos_weight: factor of L_P.
        neg_weight: factor of L_N (the paper's λ).
        gradient: ``"query"`` (the authors') keeps weights and gallery constant and moves only the query row,
            in self form too; it is made in the forward pass. ``"both"`` keeps weights constant and moves both
            ends. ``"exact"`` is the derivative of the number returned.
        positive_mean: L_P's denominator runs over the ``"active"`` positives P* or over ``"all"`` of the
            query's.
        eps: added once to each denominator.
        normalize: divide rows by their norms first; a zero row stays zero and gets no gradient.
        metric: ``"euclidean"``, ``"sqeuclidean"``, or ``"cosine"`` (1 − cos, always normalised).
        reduction: ``"mean"`` over all queries, ``"mean_active"`` over those with L_i > 0, ``"sum"``, or
            ``"none"`` for [M].

    Shapes: embeddings [M, D] and gallery [N, D], each in float32, float64, bfloat16 or float16, any strides; labels
    [M] and gallery_labels [N] of any integer dtype. The loss is float64 for float64 input and float32
    otherwise, also under autocast, which leaves the inputs as they are. Gradients have their input's dtype.

    Degenerate input: a query without (active) positives keeps L_N, without negatives L_P; one without both
    counts as 0. A non-finite row gives a NaN loss. At zero distance the gradient is zero.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came; a gallery that requires
            grad under ``gradient="query"`` is one of these.
        RuntimeError: on double backward, or where a backend asked for by name cannot serve.

    >>> import torch
    >>> from fused_rank import RankedListLoss
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], requires_grad=True)
    >>> loss = RankedListLoss(temperature_neg=0.0)(x, torch.tensor([0, 0, 1]))
    >>> loss.backward()
    >>> round(loss.item(), 4)
    0.846
    """

    _function = staticmethod(ranked_list_loss)
    _options = (
        "alpha",
        "margin",
        "temperature_neg",
        "temperature_pos",
        "pos_weight",
        "neg_weight",
        "gradient",
        "positive_mean",
        "eps",
    )

    def __init__(
        self,
        alpha: float = 1.2,
        margin: float = 0.4,
        temperature_neg: float = 10.0,
        *,
        temperature_pos: float = 0.0,
        pos_weight: float = 1.0,
        neg_weight: float = 1.0,
        gradient: Gradient = "query",
        positive_mean: PositiveMean = "active",
        eps: float = 0.0,
        normalize: bool = True,
        metric: Metric = "euclidean",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(normalize=normalize, metric=metric, reduction=reduction)
        numbers = check_ranked_list_options(
            alpha,
            margin,
            temperature_neg,
            temperature_pos,
            pos_weight,
            neg_weight,
            gradient,
            positive_mean,
            eps,
        )
        self.alpha, self.margin, self.temperature_neg, self.temperature_pos = numbers[:4]
        self.pos_weight, self.neg_weight, self.eps = numbers[4:]
        self.gradient: Gradient = gradient
        self.positive_mean: PositiveMean = positive_mean
