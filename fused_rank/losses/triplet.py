"""Triplet margin loss."""

from torch import Tensor

from ..functional.triplet import check_triplet_options, triplet_margin_loss
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

    Between two sets (images and captions) negatives may be chosen in another space, by `mining_embeddings` in the
    call: the negative of (a, p) is then the one nearest to the positive there, with ``"hard"`` for each anchor's
    farthest positive (in the loss's space), with ``"semihard"`` for each (a, p) among the negatives strictly farther
    from a than p (in the loss's space), else the negative farthest from a.

    Args:
        margin: how much farther (in `metric`) a negative should be than a positive; 0.2 as in FaceNet.
        mining: see above.
        soft_margin: softplus in place of the hinge.
        symmetric: the gallery's rows are anchors too, over the embeddings; each direction is mined by itself.
        exclude_closer_than: guard against false negatives: a negative nearer than this to the triplet's positive (in
            `metric`, between `mining_embeddings`, or else between the gallery's own rows) is never taken. None: no
            guard. With ``"hard"`` and ``"semihard"`` only.
        normalize: divide rows by their norms first; a zero row stays zero and gets no gradient.
        metric: ``"euclidean"``, ``"sqeuclidean"``, or ``"cosine"`` (1 − cos, always normalised).
        reduction: ``"mean"`` over the anchors that have a positive and a negative (hard), over all (a, p)
            that have a negative (semihard), over all valid triplets (all, semihard_all); ``"mean_active"``
            over losses above zero; ``"sum"``; ``"none"``: [M], each anchor's mean, symmetric [M + N]: the queries',
            then the gallery's. None means ``"mean"`` for hard and semihard and ``"mean_active"`` for all and
            semihard_all.

    Shapes: embeddings [M, D] and gallery [N, D], each in float32, float64, bfloat16 or float16, any strides; labels
    [M] and gallery_labels [N] of any integer dtype. The loss is float64 for float64 input and float32
    otherwise, also under autocast, which leaves the inputs as they are. Gradients have their input's dtype. A side
    that does not require grad costs no gradient work.

    Degenerate input: an anchor without a positive or without a negative (that the guard lets through) gives 0 and
    is not counted; no triplet at all gives 0 with zero gradient. Ties go to the lowest index. A non-finite row,
    of `mining_embeddings` too, gives a NaN loss.

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

    _options = ("margin", "mining", "soft_margin", "symmetric", "exclude_closer_than")

    def __init__(
        self,
        margin: float = 0.2,
        mining: Mining = "semihard",
        *,
        soft_margin: bool = False,
        symmetric: bool = False,
        exclude_closer_than: float | None = None,
        normalize: bool = True,
        metric: Metric = "euclidean",
        reduction: Reduction | None = None,
    ) -> None:
        options = check_triplet_options(margin, mining, soft_margin, symmetric, exclude_closer_than)
        super().__init__(
            normalize=normalize,
            metric=metric,
            reduction=default_reduction(mining) if reduction is None else reduction,
        )
        self.margin, self.soft_margin, self.symmetric, self.exclude_closer_than = options
        self.mining: Mining = mining

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor | None = None,
        *,
        gallery: Tensor | None = None,
        gallery_labels: Tensor | None = None,
        triplets: tuple[Tensor, Tensor, Tensor] | None = None,
        mining_embeddings: Tensor | None = None,
    ) -> Tensor:
        """The loss of embeddings against each other, against a gallery, or of listed triplets.

        Args:
            embeddings: anchors [M, D].
            labels: integers [M]. With a gallery, leaving out both labels means that row i's only positive is
                gallery row i.
            gallery: [N, D] to take positives and negatives from; None means all the other embeddings.
            gallery_labels: integers [N].
            triplets: integer tensors (a, p, n), each [L], instead of mining: a indexes embeddings, p and n the
                gallery (the embeddings without one). Labels are ignored then, of `mining` only its default
                reduction is left, and `reduction` runs over the L triplets. Not with `symmetric`,
                `exclude_closer_than` or `mining_embeddings`.
            mining_embeddings: [N, E], a row for each gallery row (each embedding without a gallery), of any width and
                floating dtype: the space in which negatives are compared with the positive, normalised and measured
                as the loss's. Constant: they get no gradient. With ``"hard"`` and ``"semihard"`` only; under
                `symmetric` only without labels, where row i describes both sides of pair i.
        """
        return triplet_margin_loss(
            embeddings,
            labels,
            gallery=gallery,
            gallery_labels=gallery_labels,
            triplets=triplets,
            mining_embeddings=mining_embeddings,
            margin=self.margin,
            mining=self.mining,
            soft_margin=self.soft_margin,
            symmetric=self.symmetric,
            exclude_closer_than=self.exclude_closer_than,
            normalize=self.normalize,
            metric=self.metric,
            reduction=self.reduction,
        )
