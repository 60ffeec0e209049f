"""Angular loss."""

from ..functional.angular import angular_loss, check_angular_options
from ..ops.options import PairChoice, Reduction
from ._base import RankingLoss


class AngularLoss(RankingLoss):
    r"""Angular loss (Wang, Zhou, Wen, Liu and Lin, "Deep Metric Learning with Angular Loss", ICCV 2017).

    For an anchor a, a positive p and negatives n, unit rows x, and t = tan² alpha::

        log(1 + Σ_n exp(4 t (x_a + x_p)·x_n − 2 (1 + t) x_a·x_p)) + npairs_weight · log(1 + Σ_m exp(x_a·x_m − x_a·x_p))

    where m is any negative under ``pairs="all"``, and under ``"unique"`` the positive of another class's pair.
    It bounds the angle at the negative of the triangle a, p, n, which does not depend on scale. `pairs` says
    which (a, p):

    - ``"unique"`` (the paper's batches of one pair a class): each class's first row and that row's first
      positive, against every row of another class. K classes cost a K×M product.
    - ``"all"`` (pytorch-metric-learning): every positive pair of the batch. In self form on the CPU that is an
      M×M product, whatever the number of pairs; else M·P/2 rows of the product (M·P with a gallery) and
      O(M·P·D) memory, for P positives a row.

    The second part is `NPairsLoss` with the same `pairs`, for the paper's combined loss.

    Args:
        alpha: degrees, above 0 and below 90; the paper has 36 to 55, 40 is pytorch-metric-learning's.
        pairs: see above.
        npairs_weight: weight of the N-pairs part, whose negatives under ``"unique"`` are the other classes'
            positives.
        reduction: ``"mean"`` over the pairs that have a negative; ``"mean_active"``: over those above zero;
            ``"sum"``; ``"none"``: [M], the mean over each query's pairs, 0 for a row that is no anchor.

    Shapes: embeddings [M, D] and gallery [N, D], each in float32, float64, bfloat16 or float16, any strides; labels
    [M] and gallery_labels [N] of any integer dtype. The loss is float64 for float64 input and float32
    otherwise, also under autocast, which leaves the inputs as they are. Gradients have their input's dtype.

    Degenerate input: a pair without a negative gives 0 and is not counted; no pair at all gives 0 with zero
    gradient. A zero row stays zero and gets no gradient. A non-finite row gives a NaN loss.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came.
        RuntimeError: on double backward, or where a backend asked for by name cannot serve.

    >>> import torch
    >>> from fused_rank import AngularLoss
    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> loss = AngularLoss(alpha=45.0, pairs="all")(x, torch.tensor([0, 0, 1]))
    >>> round(loss.item(), 4)  # log(1 + exp(4 · 0 − 4 · 1))
    0.0181
    """

    _function = staticmethod(angular_loss)
    _options = ("alpha", "pairs", "npairs_weight")

    def __init__(
        self,
        alpha: float = 40.0,
        pairs: PairChoice = "unique",
        npairs_weight: float = 0.0,
        *,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        self.alpha, self.npairs_weight = check_angular_options(alpha, pairs, npairs_weight)
        self.pairs: PairChoice = pairs
