"""NT-Xent."""

from ..functional.nt_xent import nt_xent_loss
from ..ops.option_checks import check_positive
from ..ops.options import Reduction
from ._base import RankingLoss


class NTXentLoss(RankingLoss):
    r"""NT-Xent, the normalised temperature-scaled cross-entropy (Chen et al., "A Simple Framework for Contrastive
    Learning of Visual Representations", ICML 2020), of every positive pair (a, p) against a's negatives::

        −log( exp(s_ap / T) / (exp(s_ap / T) + Σ_n exp(s_an / T)) ),      s = cosine similarity

    The denominator holds that positive alone: other positives of a are neither pulled nor pushed by the pair.
    `SupConLoss` puts all of them there.

    Args:
        temperature: T; 0.07 is pytorch-metric-learning's (and MoCo's), SimCLR's tables have 0.1 to 0.5.
        reduction: ``"mean"`` over all positive pairs whose anchor has a negative; ``"mean_active"``: over
            those above zero; ``"sum"``; ``"none"``: [M], the mean over each query's positives.

    Shapes: embeddings [M, D] and gallery [N, D], each in float32, float64, bfloat16 or float16, any strides; labels
    [M] and gallery_labels [N] of any integer dtype. The loss is float64 for float64 input and float32
    otherwise, also under autocast, which leaves the inputs as they are. Gradients have their input's dtype.

    Degenerate input: a query without a positive or without a negative gives 0 and is not counted; no pair at
    all gives 0 with zero gradient. A non-finite row gives a NaN loss. No temperature overflows.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came.
        RuntimeError: on double backward, or where a backend asked for by name cannot serve.

    >>> import torch
    >>> from fused_rank import NTXentLoss
    >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> loss = NTXentLoss(temperature=0.5)(x, torch.tensor([0, 0, 1]))
    >>> round(loss.item(), 4)  # log(1 + exp((0 − 1) / 0.5))
    0.1269
    """

    _function = staticmethod(nt_xent_loss)
    _options = ("temperature",)

    def __init__(
        self,
        temperature: float = 0.07,
        *,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(reduction=reduction)
        self.temperature = check_positive("temperature", temperature)
