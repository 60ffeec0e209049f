"""Triplet margin losses, dense, and without cubic tensors where the mathematics allows.

Sums over all (p, n) of one anchor are piecewise linear in the distances when the loss is a hinge: a negative
only needs to know *how many* positives it violates, which is a binary search among the anchor's sorted
positives.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..ops.options import Metric, Mining, Reduction
from ..ops.reduction import Rows
from .dense import dense_loss
from .distance import Pairwise, accumulation_dtype, distance_matrix, unit_rows


def triplet_losses(violation: Tensor, soft_margin: bool) -> Tensor:
    """Loss of d_ap − d_an + margin: hinge, or softplus (pytorch-metric-learning's ``smooth_loss``)."""
    return functional.softplus(violation) if soft_margin else violation.relu()


def padded_positives(positive: Tensor) -> tuple[Tensor, Tensor]:
    """Column of every positive of each row, [m, P] with P the largest class's, and which entries are real."""
    counts = positive.sum(1, dtype=torch.int32).long()  # many times faster than a sum in int64
    width = max(int(counts.max()), 1)
    anchor, column = positive.nonzero(as_tuple=True)
    slot = torch.arange(anchor.shape[0], device=anchor.device) - (counts.cumsum(0) - counts)[anchor]
    index = column.new_zeros(positive.shape[0], width)
    index[anchor, slot] = column
    real = torch.arange(width, device=anchor.device) < counts.unsqueeze(1)
    return index, real


def hardest(distance: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
    """Farthest positive and nearest negative of each row, [m]; arbitrary where there is none.

    The lowest index among equals.
    """
    far = distance.masked_fill(~positive, -torch.inf).argmax(1)
    near = distance.masked_fill(~negative, torch.inf).argmin(1)
    return far, near


@torch.no_grad()
def semihard(distance: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Positive and negative of every (a, p), each [m, P], and which entries are real.

    The negative is the nearest one strictly farther than p, else the farthest; the lowest index among equals.
    """
    index, real = padded_positives(positive)
    ascending, order = distance.masked_fill(~negative, torch.inf).sort(dim=1, stable=True)
    last = (negative.sum(1, keepdim=True, dtype=torch.int32).long() - 1).clamp(min=0)
    farthest = torch.searchsorted(ascending, ascending.gather(1, last))  # the first of those equal to it
    farther = torch.searchsorted(ascending, distance.gather(1, index).contiguous(), right=True)
    chosen = torch.where(farther > last, farthest.clamp(max=distance.shape[1] - 1), farther)
    return index, order.gather(1, chosen), real & negative.any(1, keepdim=True)


def _hard_rows(
    distance: Tensor, positive: Tensor, negative: Tensor, *, margin: float, soft_margin: bool
) -> Rows:
    far, near = hardest(distance.detach(), positive, negative)
    valid = positive.any(1) & negative.any(1)
    to_positive = distance.gather(1, far.unsqueeze(1)).squeeze(1)
    to_negative = distance.gather(1, near.unsqueeze(1)).squeeze(1)
    losses = triplet_losses(to_positive - to_negative + margin, soft_margin)
    sums = torch.where(valid, losses, 0.0).unsqueeze(0)
    counts = valid.to(sums.dtype).unsqueeze(0)
    return Rows(sums, counts, counts if soft_margin else (sums > 0).to(sums.dtype))


def _semihard_rows(
    distance: Tensor, positive: Tensor, negative: Tensor, *, margin: float, soft_margin: bool
) -> Rows:
    to_positive, to_negative, real = semihard(distance.detach(), positive, negative)
    violation = distance.gather(1, to_positive) - distance.gather(1, to_negative) + margin
    losses = torch.where(real, triplet_losses(violation, soft_margin), 0.0)
    counts = real.sum(1).to(losses.dtype).unsqueeze(0)
    active = counts if soft_margin else losses.count_nonzero(1).to(losses.dtype).unsqueeze(0)
    return Rows(losses.sum(1).unsqueeze(0), counts, active)


def _hinge_rows(distance: Tensor, positive: Tensor, negative: Tensor, *, margin: float, band: bool) -> Rows:
    """Every triplet (or every one of the band 0 < d_an − d_ap ≤ margin) in O(N log P) a row."""
    with torch.no_grad():
        index, real = padded_positives(positive)
        ascending, order = distance.gather(1, index).masked_fill(~real, torch.inf).sort(1)
        index, positives = index.gather(1, order), real.sum(1, keepdim=True)
        # of the sorted positives, those from rank `closed` on violate the margin with this negative
        query, members = distance.contiguous(), negative.long()  # [m, N]
        closed = torch.searchsorted(ascending + margin, query, right=True)
        violating = _ranked_below(
            closed, members, ascending.shape[1]
        )  # negatives each positive violates, [m, P]
        violated = positives - closed  # positives each negative violates
        if band:  # of them, only those before rank `opened` are nearer than the negative
            opened = torch.searchsorted(ascending, query).clamp_(min=closed)
            violating -= _ranked_below(opened, members, ascending.shape[1])
            violated = opened - closed
        violated *= members
        slope = -violated.to(distance.dtype)
        slope.scatter_add_(1, index, (violating * real).to(distance.dtype))
        # a row's slopes add up to zero: measured from near its positives, the sum loses nothing to
        # cancellation
        origin = ascending.masked_fill(ascending == torch.inf, 0).sum(1, keepdim=True) / positives.clamp(
            min=1
        )
        active = violated.sum(1).to(distance.dtype)
        counts = positives.squeeze(1) * members.sum(1)
    sums = (slope * (distance - origin)).sum(1) + margin * active
    return Rows(sums.unsqueeze(0), counts.to(distance.dtype).unsqueeze(0), active.unsqueeze(0))


def _ranked_below(ranks: Tensor, members: Tensor, width: int) -> Tensor:
    """[m, P]: for each r in 0 … P − 1 the number of members (1 or 0, [m, N]) whose rank is at most r."""
    histogram = ranks.new_zeros(ranks.shape[0], width + 1)
    return histogram.scatter_add_(1, ranks, members).cumsum(1)[:, :width]


def _soft_rows(distance: Tensor, positive: Tensor, negative: Tensor, *, margin: float, band: bool) -> Rows:
    """Softplus of every triplet (of the band): one pass over the negatives for each positive, O(N·P) a row.

    Value and slopes are summed without a graph; the last line hands both to autograd.
    """
    with torch.no_grad():
        index, real = padded_positives(positive)
        counts = real.sum(1) * negative.sum(1)
        value, active = distance.new_zeros(distance.shape[0]), distance.new_zeros(distance.shape[0])
        slope, pull = torch.zeros_like(distance), distance.new_zeros(index.shape)
        for slot in range(index.shape[1]):
            gap = distance - distance.gather(1, index[:, slot : slot + 1])  # d_an − d_ap, [m, N]
            member = negative & real[:, slot : slot + 1]
            if band:
                member &= (gap > 0) & (gap <= margin)
            violation = margin - gap
            losses = torch.where(member, functional.softplus(violation), 0.0)
            value += losses.sum(1)
            active += member.sum(1)
            push = torch.where(member, violation.sigmoid(), 0.0)
            slope -= push
            pull[:, slot] = push.sum(1)
        slope.scatter_add_(1, index, pull)
    sums = value + (slope * (distance - distance.detach())).sum(1)
    return Rows(sums.unsqueeze(0), counts.to(distance.dtype).unsqueeze(0), active.unsqueeze(0))


def rows(
    distance: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    mining: Mining,
    margin: float,
    soft_margin: bool,
) -> Rows:
    """Sum over the triplets that `mining` takes from each row of `distance` [m, N]."""
    if mining == "hard":
        return _hard_rows(distance, positive, negative, margin=margin, soft_margin=soft_margin)
    if mining == "semihard":
        return _semihard_rows(distance, positive, negative, margin=margin, soft_margin=soft_margin)
    every = _soft_rows if soft_margin else _hinge_rows
    return every(distance, positive, negative, margin=margin, band=mining == "semihard_all")


def judged_rows(
    distance: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    between: Tensor,
    nearest: bool,
    closer_than: float,
    mining: Mining,
    margin: float,
    soft_margin: bool,
) -> Rows:
    """Sum over the hard or semihard triplets of each row whose negative `between` [N, N] chooses or lets through.

    Those nearer than `closer_than` to the positive are left out; of the others the nearest to the positive is taken
    (`nearest`), or the nearest to the anchor, as mining has it.
    """
    sums, counts, active = distance.new_zeros(3, distance.shape[0]).unbind(0)
    for anchor, own in enumerate(distance):
        positives = positive[anchor].nonzero().squeeze(1)
        if mining == "hard" and len(positives) > 0:
            positives = positives[own.detach()[positives].argmax()].unsqueeze(0)
        losses = []
        for p in positives:
            allowed = negative[anchor] & (between[p] >= closer_than)
            chosen = allowed & (own.detach() > own.detach()[p]) if mining == "semihard" else allowed
            key = between[p] if nearest else own.detach()
            if chosen.any():
                n = key.masked_fill(~chosen, torch.inf).argmin()
            elif allowed.any():
                n = own.detach().masked_fill(~allowed, -torch.inf).argmax()
            else:
                continue
            losses.append(triplet_losses(own[p] - own[n] + margin, soft_margin))
        if losses:
            each = torch.stack(losses)
            sums = sums.index_add(0, positives.new_tensor([anchor]), each.sum().unsqueeze(0))
            counts[anchor] = len(losses)
            active[anchor] = len(losses) if soft_margin else (each > 0).sum()
    return Rows(sums.unsqueeze(0), counts.unsqueeze(0), active.unsqueeze(0))


def triplet_margin_loss(
    embeddings: Tensor,
    labels: Tensor | None = None,
    *,
    gallery: Tensor | None = None,
    gallery_labels: Tensor | None = None,
    mining_embeddings: Tensor | None = None,
    margin: float = 0.2,
    mining: Mining = "semihard",
    soft_margin: bool = False,
    symmetric: bool = False,
    exclude_closer_than: float | None = None,
    normalize: bool = True,
    metric: Metric = "euclidean",
    reduction: Reduction | None = None,
    pairwise: Pairwise | None = None,
) -> Tensor:
    """Dense oracle of `fused_rank.TripletMarginLoss` (without explicit triplets)."""
    options: dict[str, Any] = {"mining": mining, "margin": margin, "soft_margin": soft_margin}

    def direction(candidates: Tensor) -> Callable[..., Rows]:
        if mining_embeddings is None and not exclude_closer_than:
            return partial(rows, **options)
        judge = (candidates if mining_embeddings is None else mining_embeddings).detach()
        judge = judge.to(accumulation_dtype(judge.dtype))
        judge = unit_rows(judge) if normalize or metric == "cosine" else judge
        return partial(
            judged_rows,
            between=(pairwise or distance_matrix)(judge, judge, metric),
            nearest=mining_embeddings is not None,
            closer_than=exclude_closer_than or 0.0,
            **options,
        )

    return dense_loss(
        direction(embeddings if gallery is None else gallery),
        embeddings,
        labels,
        gallery,
        gallery_labels,
        metric=metric,
        normalize=normalize,
        reduction=reduction or default_reduction(mining),
        pairwise=pairwise,
        symmetric=symmetric,
        turned=direction(embeddings),
    )


def default_reduction(mining: Mining) -> Reduction:
    """``"mean"`` for one triplet a pair or anchor, ``"mean_active"`` where most of the triplets are satisfied."""
    return "mean" if mining in ("hard", "semihard") else "mean_active"
