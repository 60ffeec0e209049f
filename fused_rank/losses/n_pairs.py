"""N-pairs loss."""

from ..functional.n_pairs import check_n_pairs_options, n_pairs_loss
from ..ops.option_checks import check_flag
from ..ops.options import PairChoice, Reduction
from ._base import RankingLoss


class NPairsLoss(RankingLoss):
    r"""N-pairs loss (Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", NeurIPS 2016).

    For an anchor a, a positive p and negatives n, with the similarity s::

        log(1 + Σ_n exp(s_an − s_ap)) + l2 · |x|²

    `pairs` says which:

    - ``"all"``: every positive pair (a, p) of the batch against all of a's negatives.
    - ``"unique"`` (Sohn, pytorch-metric-learning): one pair a class, its first row and that row's first
      positive; an anchor's negatives are the other classes' positives. K classes cost a K×K product.

    The l2 term keeps unnormalised embeddings short; with ``normalize=True`` it changes only their length.

    Args:
        pairs: see above.
        l2: weight of the squared norm of `embeddings` (not of the gallery), averaged over its rows, or summed
            under ``"sum"``. Sohn has 0.002 with ``normalize=False``.
        normalize: True: s is the cosine, as in pytorch-metric-learning; False: the inner product, as in the
            paper. A zero row stays zero and gets no gradient from s.
        reduction: ``"mean"`` over the pairs; ``"mean_active"``: over those above zero; ``"sum"``;
            ``"none"``: [M], the mean over each query's pairs, 0 for a row that is no anchor.

    Shapes: embeddings [M, D] and gallery [N, D], each in float32, float64, bfloat16 or float16, any strides; labels
    [M] and gallery_labels [N] of any integer dtype. The loss is float64 for float64 input and float32
    otherwise, also under autocast, which leaves the inputs as they are. Gradients have their input's dtype.

    Degenerate input: a query without a positive gives 0 and is not counted, and under ``"all"`` neither is one
    without a negative; no pair at all gives 0 with zero gradient. A non-finite row gives a NaN loss, and no
    finite inner product overflows the exponential.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came.
        RuntimeError: on double backward, or where a backend asked for by name cannot serve.

    >>> import torch
    >>> from fused_rank import NPairsLoss
    >>> x = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    >>> loss = NPairsLoss(normalize=False)(x, torch.tensor([0, 0, 1, 1]))
    >>> round(loss.item(), 4)  # log(1 + 2 exp(0 − 2)), twice, and log(1 + 2 exp(0 − 3)), twice
    0.1672
    """

    _function = staticmethod(n_pairs_loss)
    _options = ("pairs", "l2")
    _geometry = ("normalize",)

    def __init__(
        self,
        pairs: PairChoice = "all",
        l2: float = 0.0,
        *,
        normalize: bool = True,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        self.pairs: PairChoice = pairs
        self.l2 = check_n_pairs_options(pairs, l2)
        self.normalize = check_flag("normalize", normalize)
