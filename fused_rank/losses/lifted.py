"""Generalised lifted structure loss."""

from ..functional.lifted import check_lifted_options, lifted_structure_loss
from ..ops.options import Metric, Reduction
from ._base import DistanceLoss


class GeneralizedLiftedStructureLoss(DistanceLoss):
    r"""Generalised lifted structure loss (Hermans, Beyer and Leibe, "In Defense of the Triplet Loss for Person
    Re-Identification", 2017, eq. 8; after Oh Song et al., CVPR 2016).

    For each query, with distances d::

        max(0, log Σ_p exp(d_p − pos_margin) + log Σ_n exp(neg_margin − d_n))

    Args:
        neg_margin: margin in `metric`; this and the next are pytorch-metric-learning's defaults.
        pos_margin: taken off a positive's distance; only the sum neg_margin − pos_margin matters to a query
            that has both kinds.
        normalize: divide rows by their norms first; a zero row stays zero and gets no gradient.
        metric: ``"euclidean"``, ``"sqeuclidean"``, or ``"cosine"`` (1 − cos, always normalised).
        reduction: ``"mean"`` over all queries; ``"mean_active"``: over those above zero; ``"sum"``;
            ``"none"``: [M].

    Shapes: embeddings [M, D] and gallery [N, D], each in float32, float64, bfloat16 or float16, any strides; labels
    [M] and gallery_labels [N] of any integer dtype. The loss is float64 for float64 input and float32
    otherwise, also under autocast, which leaves the inputs as they are. Gradients have their input's dtype.

    Degenerate input: as in pytorch-metric-learning the logarithm of a missing kind is 0, so that a query
    without positives is still pushed from its negatives, and the other way round; no pair at all gives 0 with
    zero gradient. A non-finite row gives a NaN loss. No finite distance overflows. At zero distance the
    gradient is zero.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came.
        RuntimeError: on double backward, or where a backend asked for by name cannot serve.

    >>> import torch
    >>> from fused_rank import GeneralizedLiftedStructureLoss
    >>> x = torch.tensor([[0.0], [1.0], [1.5]])
    >>> loss = GeneralizedLiftedStructureLoss(normalize=False, reduction="none")
    >>> [round(v, 4) for v in loss(x, torch.tensor([0, 0, 1])).tolist()]  # 1 + 1 − 1.5; 1 + 1 − 0.5; ...
    [0.5, 1.5, 0.8133]
    """

    _function = staticmethod(lifted_structure_loss)
    _options = ("neg_margin", "pos_margin")

    def __init__(
        self,
        neg_margin: float = 1.0,
        pos_margin: float = 0.0,
        *,
        normalize: bool = True,
        metric: Metric = "euclidean",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(normalize=normalize, metric=metric, reduction=reduction)
        self.neg_margin, self.pos_margin = check_lifted_options(neg_margin, pos_margin)
