"""The operators on triplets."""

import torch
from torch import Tensor

from ..gpu.both_ways import gradients_both_ways, rows_both_ways, semihard_both_ways
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
    return rows_both_ways(
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
    symmetric: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows [3, M] of the triplets that `mining` takes, what backward needs of mined ones, and no live map.

    Symmetric: the gallery's rows follow, [3, M + N].
    """

    def forward(
        own: Tensor, its: Tensor | None, others: Tensor | None, their: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        problem = problem_of(own, its, others, their, metric, normalize, margin, soft_margin)
        if mining == "hard":
            return triplets.hard_forward(problem)
        if mining == "semihard":
            return triplets.semihard_forward(problem)
        return every_forward(problem, band=mining == "semihard_all"), problem.empty(0)

    rows, state = rows_both_ways(forward, (x, labels, gallery, gallery_labels), symmetric)
    return rows, state, x.new_empty(0, dtype=torch.uint8)


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
    symmetric: bool = False,
) -> tuple[Tensor, Tensor]:
    """Gradients of x and of the gallery, each empty where it is not needed."""

    def backward(
        own: Tensor,
        its: Tensor | None,
        others: Tensor | None,
        their: Tensor | None,
        grads: Tensor,
        kept: Tensor,
        active: Tensor,
        need_own: bool,
        need_others: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        problem = problem_of(own, its, others, their, metric, normalize, margin, soft_margin)
        if mining in ("hard", "semihard"):
            return triplets.mined_backward(
                problem, grads, kept, active > 0, need_own, need_others, hard=mining == "hard"
            )
        band = mining == "semihard_all"
        return every_backward(problem, grads, need_own, need_others, band=band)

    sides = (x, labels, gallery, gallery_labels)
    return gradients_both_ways(
        backward, sides, (grad_sums, state, rows[2]), (need_x, need_gallery), symmetric
    )
