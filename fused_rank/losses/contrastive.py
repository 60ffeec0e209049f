"""Contrastive loss."""

from torch import Tensor

from ..functional import check_contrastive_options, contrastive_loss
from ..ops.options import Metric, Reduction
from ._base import DistanceLoss


class ContrastiveLoss(DistanceLoss):
    r"""Contrastive loss (Hadsell, Chopra and LeCun, "Dimensionality Reduction by Learning an Invariant
    Mapping", CVPR 2006).

    Over all ordered pairs (i, j), i ≠ j (or query and gallery row), with distance d::

        same label:   max(0, d − pos_margin)^power
        other label:  max(0, neg_margin − d)^power

    ``power=2`` is Hadsell's (without its factor ½), ``power=1`` the linear form of pytorch-metric-learning
    2.9.0, whose value is ``power=1, reduction="mean_active"``. The margins' defaults are both's.

    Args:
        pos_margin: distance (in `metric`) within which a positive is near enough.
        neg_margin: distance beyond which a negative is far enough.
        power: 1 or 2.
        normalize: divide rows by their norms first; a zero row stays zero and gets no gradient.
        metric: ``"euclidean"``, ``"sqeuclidean"``, or ``"cosine"`` (1 − cos, always normalised).
        reduction: ``"mean"`` over all pairs; ``"mean_active"``: mean over the positive pairs above zero plus
            mean over the negative pairs above zero; ``"sum"`` over all pairs; ``"none"``: [M], the mean over
            each query's pairs.

    Shapes: embeddings [M, D] and gallery [N, D], each in float32, float64, bfloat16 or float16, any strides; labels
    [M] and gallery_labels [N] of any integer dtype. The loss is float64 for float64 input and float32
    otherwise, also under autocast, which leaves the inputs as they are. Gradients have their input's dtype.

    Degenerate input: a missing kind of pair adds 0; no pair at all gives 0 with zero gradient. A non-finite
    row gives a NaN loss. At zero distance the gradient is zero.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came.
        RuntimeError: on double backward, or where a backend asked for by name cannot serve.

    >>> import torch
    >>> from fused_rank import ContrastiveLoss
    >>> x = torch.tensor([[0.0, 0.0], [0.0, 0.5], [2.0, 0.0]])
    >>> loss = ContrastiveLoss(normalize=False, reduction="sum")(x, torch.tensor([0, 0, 1]))
    >>> round(loss.item(), 4)
    0.5
    """

    _options = ("pos_margin", "neg_margin", "power")

    def __init__(
        self,
        pos_margin: float = 0.0,
        neg_margin: float = 1.0,
        *,
        power: int = 2,
        normalize: bool = True,
        metric: Metric = "euclidean",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(normalize=normalize, metric=metric, reduction=reduction)
        self.pos_margin, self.neg_margin, self.power = check_contrastive_options(
            pos_margin, neg_margin, power
        )

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        *,
        gallery: Tensor | None = None,
        gallery_labels: Tensor | None = None,
        pairs: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> Tensor:
        """The loss of embeddings against each other, against a gallery, or of listed pairs.

        Args:
            embeddings: queries [M, D].
            labels: integers [M]. With a gallery, leaving out both labels means that row i's only positive is
                gallery row i.
            gallery: [N, D] to compare with; None means all the other embeddings.
            gallery_labels: integers [N].
            pairs: tensors (i, j, same), each [L], instead of all pairs: integer indices, i into the embeddings and j
                into the gallery (the embeddings without one), and whether they belong together, bool. Labels are
                not needed then, and `reduction` runs over the L pairs: O(L·D).
        """
        return contrastive_loss(
            embeddings,
            labels,
            gallery=gallery,
            gallery_labels=gallery_labels,
            pairs=pairs,
            pos_margin=self.pos_margin,
            neg_margin=self.neg_margin,
            power=self.power,
            normalize=self.normalize,
            metric=self.metric,
            reduction=self.reduction,
        )
