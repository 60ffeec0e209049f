"""Angular loss (Wang et al., ICCV 2017), dense."""

import math

import torch
from torch import Tensor

from ..ops.class_pairs import all_pairs, by_anchor, unique_pairs
from ..ops.options import PairChoice, Reduction
from ..ops.reduction import Rows, reduce
from . import n_pairs, nt_xent
from .dense import non_finite, pair_masks
from .distance import Pairwise, accumulation_dtype, distance_matrix, unit_rows
from .softmax import log_sum_exp, softplus


def angular_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    alpha: float = 40.0,
    pairs: PairChoice = "unique",
    npairs_weight: float = 0.0,
    reduction: Reduction = "mean",
    pairwise: Pairwise | None = None,
) -> Tensor:
    """Dense oracle of `fused_rank.AngularLoss`: an [L, N] matrix of the L pairs' sums x_a + x_p against all rows."""
    matrix = pairwise or distance_matrix
    steep = math.tan(math.radians(alpha)) ** 2
    with torch.autocast(embeddings.device.type, enabled=False):
        dtype = accumulation_dtype(embeddings.dtype)
        x = unit_rows(embeddings.to(dtype))
        y = None if gallery is None else unit_rows(gallery.to(dtype))
        others = x if y is None else y
        masks = pair_masks(labels, gallery_labels, (x.shape[0], others.shape[0]), x.device)
        choose = unique_pairs if pairs == "unique" else all_pairs
        anchor, positive = choose(labels, gallery_labels, x.shape[0], x.device)
        x_a, x_p = x[anchor], others[positive]
        against = log_sum_exp(4 * steep * matrix(x_a + x_p, others, "dot"), masks[1][anchor])
        losses = softplus(against - 2 * (1 + steep) * (x_a * x_p).sum(1))
        counts = masks[1].any(1)[anchor].to(dtype)
        channels = (losses, counts, (losses > 0).to(dtype))
        found = Rows(*(by_anchor(each, anchor, x.shape[0]) for each in channels))
        if npairs_weight:
            if pairs == "unique":
                beside = n_pairs.unique_rows(
                    x, labels, y, gallery_labels, metric="cosine", scale=-1.0, pairwise=pairwise
                )
            else:
                beside = nt_xent.rows(matrix(x, others, "cosine"), *masks, scale=-1.0)
            found = found._replace(sums=found.sums + npairs_weight * beside.sums)
        return reduce(found.sums + non_finite(x, y), found.counts, found.active, reduction)
