"""Multi-similarity loss."""

from ..functional.multi_similarity import check_multi_similarity_options, multi_similarity_loss
from ..ops.options import Reduction
from ._base import RankingLoss


class MultiSimilarityLoss(RankingLoss):
    r"""Multi-similarity loss (Wang, Han, Huang, Dong and Scott, "Multi-Similarity Loss with General Pair Weighting
    for Deep Metric Learning", CVPR 2019).

    For each query, with cosine similarities s::

        log(1 + Σ_p exp(−alpha (s_p − base))) / alpha + log(1 + Σ_n exp(beta (s_n − base))) / beta

    With `mining_epsilon` only the paper's informative pairs enter: a positive if s_p − ε is below the query's
    largest s_n, a negative if s_n + ε is above its smallest s_p. The choice is a constant to the gradient.

    Args:
        alpha: sharpness of the positives; this and the next two are pytorch-metric-learning's. The paper has 2.
        beta: sharpness of the negatives; the paper has 50.
        base: λ, the similarity around which pairs are weighted; the paper has 1, its authors' code 0.5.
        mining_epsilon: ε; None takes every pair. The paper has 0.1.
        reduction: ``"mean"`` over all queries; ``"mean_active"``: over those above zero; ``"sum"``;
            ``"none"``: [M].

    Shapes: embeddings [M, D] and gallery [N, D], each in float32, float64, bfloat16 or float16, any strides; labels
    [M] and gallery_labels [N] of any integer dtype. The loss is float64 for float64 input and float32
    otherwise, also under autocast, which leaves the inputs as they are. Gradients have their input's dtype.

    Degenerate input: a missing kind of pair adds 0, and under mining a query that lacks one kind gives 0. A
    zero row stays zero and gets no gradient. A non-finite row gives a NaN loss. No sharpness overflows.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came.
        RuntimeError: on double backward, or where a backend asked for by name cannot serve.

    >>> import torch
    >>> from fused_rank import MultiSimilarityLoss
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> loss = MultiSimilarityLoss()(x, torch.tensor([0, 0]))
    >>> round(loss.item(), 4)  # log(1 + exp(−2 (0 − 0.5))) / 2
    0.6566
    """

    _function = staticmethod(multi_similarity_loss)
    _options = ("alpha", "beta", "base", "mining_epsilon")

    def __init__(
        self,
        alpha: float = 2.0,
        beta: float = 50.0,
        base: float = 0.5,
        *,
        mining_epsilon: float | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        self.alpha, self.beta, self.base, self.mining_epsilon = check_multi_similarity_options(
            alpha, beta, base, mining_epsilon
        )
