"""The operators on triplets and on neighbours."""

import torch
from torch import Tensor

from ..gpu.both_ways import gradients_both_ways, rows_both_ways, semihard_both_ways
from ..gpu.order import order_as_given
from . import triplets
from .operand import pack
from .topk import smallest
from .triplets import problem_of


def mine_hard(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    metric: str,
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
    metric: str,
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
    mining: str,
    margin: float,
    soft_margin: bool,
    metric: str,
    normalize: bool,
    symmetric: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows [3, M] of the triplets that `mining` takes, the state that backward needs, and no live map.

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
        return triplets.all_forward(problem, band=mining == "semihard_all")

    rows, state = rows_both_ways(forward, (x, labels, gallery, gallery_labels), symmetric)
    return rows, state, torch.empty(0, dtype=torch.uint8, device=x.device)


def triplet_backward(
    grad_sums: Tensor,
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    mining: str,
    margin: float,
    soft_margin: bool,
    metric: str,
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
        need_own: bool,
        need_others: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        problem = problem_of(own, its, others, their, metric, normalize, margin, soft_margin)
        if mining in ("hard", "semihard"):
            return triplets.mined_backward(problem, grads, kept, need_own, need_others, hard=mining == "hard")
        band = mining == "semihard_all"
        return triplets.all_backward(problem, grads, kept, need_own, need_others, band=band)

    sides = (x, labels, gallery, gallery_labels)
    return gradients_both_ways(backward, sides, (grad_sums, state), (need_x, need_gallery), symmetric)


def topk(
    queries: Tensor, gallery: Tensor | None, k: int, metric: str, normalize: bool, exclude_self: bool
) -> tuple[Tensor, Tensor]:
    """The k best gallery rows of each query [M, k]: fp32 values, best first, and int64 rows, the lowest among equals.

    A gallery row that is not finite comes last, as NaN; a query that is not finite gets NaN throughout.
    """
    others = queries if gallery is None else gallery
    dot, unit = metric == "dot", normalize or metric == "cosine"
    order = order_as_given(
        queries.shape[0], others.shape[0], self_form=gallery is None, device=queries.device
    )
    packed = pack(queries, gallery, order, unit_rows=unit, centre=not dot)
    values, indices = smallest(packed, k, dot=dot, exclude_self=exclude_self)
    if metric == "euclidean":
        values = values.sqrt()
    elif metric != "sqeuclidean":
        values = -values if dot else values / 2
    known = packed.query.side.finite.bool()[:, None] & packed.gallery.side.finite.bool()[indices]
    return values.masked_fill(~known, torch.nan), indices
