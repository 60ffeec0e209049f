"""The operators on triplets."""

import torch
from torch import Tensor

from ..gpu.both_ways import hard_both_ways, semihard_both_ways
from ..ops.options import Metric, Mining
from . import triplets
from .every_triplet import every_backward, every_forward
from .triplets import problem_of


def mine_hard(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    metric: Metric,
    normalize: bool,
    symmetric: bool = False,
) -> tuple[Tensor, Tensor]:
    """Farthest positive and nearest negative of each row, -1 where there is none; then of each of the gallery. int64.

    Each direction is a sweep of its own.
    """
    return hard_both_ways(
        lambda own, its, others, their: triplets.mine_hard(
            problem_of(own, its, others, their, metric, normalize)
        ),
        (x, labels, gallery, gallery_labels),
        symmetric,
    )


def mine_semihard(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    metric: Metric,
    normalize: bool,
    symmetric: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Anchors, positives and negatives, int64 [L], by anchor and then positive.

    Symmetric: the gallery's rows are anchors too, numbered after the queries; each direction is a sweep of its own.
    """
    return semihard_both_ways(
        lambda own, its, others, their: triplets.mine_semihard(
            problem_of(own, its, others, their, metric, normalize)
        ),
        (x, labels, gallery, gallery_labels),
        symmetric,
    )


def triplet_forward(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    mining: Mining,
    margin: float,
    soft_margin: bool,
    metric: Metric,
    normalize: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows [3, M] of the triplets that `mining` takes, what backward needs of mined ones, and no live map."""
    problem = problem_of(x, labels, gallery, gallery_labels, metric, normalize, margin, soft_margin)
    no_map = x.new_empty(0, dtype=torch.uint8)
    if mining == "hard":
        return *triplets.hard_forward(problem), no_map
    if mining == "semihard":
        return *triplets.semihard_forward(problem), no_map
    return every_forward(problem, band=mining == "semihard_all"), problem.empty(0), no_map


def triplet_backward(
    grad_sums: Tensor,
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    mining: Mining,
    margin: float,
    soft_margin: bool,
    metric: Metric,
    normalize: bool,
    state: Tensor,
    live: Tensor,
    rows: Tensor,
    need_x: bool,
    need_gallery: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of x and of the gallery, each empty where it is not needed."""
    need_gallery = need_gallery and gallery is not None
    problem = problem_of(x, labels, gallery, gallery_labels, metric, normalize, margin, soft_margin)
    grads: tuple[Tensor | None, Tensor | None] = (None, None)
    if need_x or need_gallery:
        if mining in ("hard", "semihard"):
            grads = triplets.mined_backward(
                problem, grad_sums, state, rows[2] > 0, need_x, need_gallery, hard=mining == "hard"
            )
        else:
            band = mining == "semihard_all"
            grads = every_backward(problem, grad_sums, need_x, need_gallery, band=band)
    grad_x, grad_gallery = (x.new_empty(0) if grad is None else grad for grad in grads)
    return grad_x, grad_gallery
