"""Circle loss."""

from ..functional.circle import check_circle_options, circle_loss
from ..ops.options import Reduction
from ._base import RankingLoss


class CircleLoss(RankingLoss):
    r"""Circle loss (Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", CVPR 2020).

    For each query, with cosine similarities s::

        log(1 + Σ_n exp(gamma α_n (s_n − m)) · Σ_p exp(gamma α_p (1 − m − s_p)))
        α_n = max(0, s_n + m),   α_p = max(0, 1 + m − s_p)

    The weights α are constants to the gradient, as in the paper and in pytorch-metric-learning: the gradient
    is not the derivative of the value.

    Args:
        m: relaxation; 0.4 with gamma 80 is the paper's for fine-grained retrieval, 0.25 with 256 for faces.
        gamma: scale.
        reduction: ``"mean_active"``, pytorch-metric-learning's: over queries above zero, which are those with
            a positive and a negative; ``"mean"`` over all queries; ``"sum"``; ``"none"``: [M].

    Shapes: embeddings [M, D] and gallery [N, D], each in float32, float64, bfloat16 or float16, any strides; labels
    [M] and gallery_labels [N] of any integer dtype. The loss is float64 for float64 input and float32
    otherwise, also under autocast, which leaves the inputs as they are. Gradients have their input's dtype.

    Degenerate input: a query without a positive or without a negative gives 0. A zero row stays zero and gets
    no gradient. A non-finite row gives a NaN loss. No gamma overflows.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came.
        RuntimeError: on double backward, or where a backend asked for by name cannot serve.

    >>> import torch
    >>> from fused_rank import CircleLoss
    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> loss = CircleLoss(gamma=10.0)(x, torch.tensor([0, 0, 1]))
    >>> round(loss.item(), 4)  # log(1 + exp(10 · 0.4 · (−0.4)) exp(10 · 0.4 · (−0.4)))
    0.04
    """

    _function = staticmethod(circle_loss)
    _options = ("m", "gamma")

    def __init__(
        self,
        m: float = 0.4,
        gamma: float = 80.0,
        *,
        reduction: Reduction = "mean_active",
    ) -> None:
        super().__init__(reduction=reduction)
        self.m, self.gamma = check_circle_options(m, gamma)
