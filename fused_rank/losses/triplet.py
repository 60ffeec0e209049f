"""Triplet margin loss."""

from torch import Tensor

from ..functional import check_triplet_options, triplet_margin_loss
from ..ops.options import Metric, Mining, Reduction
from ..reference.triplet import default_reduction
from ._base import DistanceLoss


class TripletMarginLoss(DistanceLoss):
    r"""Triplet margin loss with mining inside (Schroff et al., "FaceNet", CVPR 2015; Hermans et al., 2017).

    Over triplets of an anchor a, a positive p of its label and a negative n of another::

        max(0, d_ap − d_an + margin)        or, with soft_margin,  softplus(d_ap − d_an + margin)

    `mining` says which triplets:

    - ``"semihard"`` (FaceNet, TensorFlow): for each (a, p) the nearest negative strictly farther than p, else
      the farthest.
    - ``"hard"`` (Hermans et al.): for each anchor its farthest positive and its nearest negative.
    - ``"all"``: every valid triplet.
    - ``"semihard_all"``: every triplet in the band 0 < d_an − d_ap ≤ margin, which pytorch-metric-learning
      calls semihard.

    The soft margin is pytorch-metric-learning's ``smooth_loss``; ``margin=0`` makes it Hermans'. It changes
    the loss of a triplet, not which triplets are taken. With ``"all"`` and ``"semihard_all"`` it costs
    O(M·N·P), where the hinge costs O(M·N·log P).

    Args:
        margin: how much farther (in `metric`) a negative should be than a positive; 0.2 as in FaceNet.
        mining: see above.
        soft_margin: softplus in place of the hinge.
        normalize: divide rows by their norms first; a zero row stays zero and gets no gradient.
        metric: ``"euclidean"``, ``"sqeuclidean"``, or ``"cosine"`` (1 − cos, always normalised).
        reduction: ``"mean"`` over the anchors that have a positive and a negative (hard), over all (a, p)
            that have a negative (semihard), over all valid triplets (all, semihard_all); ``"mean_active"``
            over losses above zero; ``"sum"``; ``"none"``: [M], each anchor's mean. None means ``"mean"`` for
            hard and semihard and ``"mean_active"`` for all and semihard_all.

    Shapes: embeddings [M, D] and gallery [N, D] in float32, float64, bfloat16 or float16, any strides; labels
    [M] and gallery_labels [N] of any integer dtype. The loss is float64 for float64 input and float32
    otherwise, also under autocast, which leaves the inputs as they are. Gradients have their input's dtype.

    Degenerate input: an anchor without a positive or without a negative gives 0 and is not counted; no
    triplet at all gives 0 with zero gradient. Ties go to the lowest index. A non-finite row gives a NaN loss.

    Raises:
        ValueError, TypeError: naming the argument, what was expected and what came.
        RuntimeError: on double backward, or where a backend asked for by name cannot serve.

    >>> import torch
    >>> from fused_rank import TripletMarginLoss
    >>> x = torch.tensor([[0.0], [1.0], [1.5]])
    >>> loss = TripletMarginLoss(margin=1.0, mining="all", normalize=False)
    >>> loss(x, torch.tensor([0, 0, 1])).item()  # 1 − 1.5 + 1 and 1 − 0.5 + 1
    1.0
    """

    _options = ("margin", "mining", "soft_margin")

    def __init__(
        self,
        margin: float = 0.2,
        mining: Mining = "semihard",
        *,
        soft_margin: bool = False,
        normalize: bool = True,
        metric: Metric = "euclidean",
        reduction: Reduction | None = None,
    ) -> None:
        check_triplet_options(margin, mining, soft_margin)
        super().__init__(
            normalize=normalize,
            metric=metric,
            reduction=default_reduction(mining) if reduction is None else reduction,
        )
        self.margin = margin
        self.mining: Mining = mining
        self.soft_margin = soft_margin

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        *,
        gallery: Tensor | None = None,
        gallery_labels: Tensor | None = None,
        triplets: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> Tensor:
        """The loss of embeddings against each other, against a gallery, or of listed triplets.

        Args:
            embeddings: anchors [M, D].
            labels: integers [M]. With a gallery, leaving out both labels means that row i's only positive is
                gallery row i.
            gallery: [N, D] to take positives and negatives from; None means all the other embeddings.
            gallery_labels: integers [N].
            triplets: int64 tensors (a, p, n), each [L], instead of mining: a indexes embeddings, p and n the
                gallery (the embeddings without one). Labels are not needed then, and `reduction` runs over
                the L triplets.
        """
        return triplet_margin_loss(
            embeddings,
            labels,
            gallery=gallery,
            gallery_labels=gallery_labels,
            triplets=triplets,
            margin=self.margin,
            mining=self.mining,
            soft_margin=self.soft_margin,
            normalize=self.normalize,
            metric=self.metric,
            reduction=self.reduction,
        )
