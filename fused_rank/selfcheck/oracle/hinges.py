"""The losses of margins: ranked list, contrastive, triplet margin and margin loss."""

import torch
from torch import Tensor

from .geometry import Rows, nearest, steps

ALPHA, MARGIN, TEMPERATURE = 1.2, 0.4, 10.0  # the ranked list loss's defaults
TRIPLET_MARGIN = 0.2


def ranked_list(d: Tensor, positive: Tensor, negative: Tensor, constant_weights: bool) -> Rows:
    """Means of d − (alpha − margin) over the far positives and of alpha − d, weighted, over the near negatives."""
    bound = ALPHA - MARGIN
    far, near = positive & (d > bound), negative & (d < ALPHA)
    weights = torch.exp(TEMPERATURE * (ALPHA - d)) * near
    if constant_weights:
        weights = weights.detach()
    pull = ((d - bound) * far).sum(1) / far.sum(1).clamp(min=1)
    total = weights.sum(1)
    push = (weights * (ALPHA - d)).sum(1) / torch.where(total > 0, total, 1)
    gap = torch.minimum(nearest(d - bound, positive), nearest(d - ALPHA, negative))
    return pull + push, gap


def contrastive(d: Tensor, positive: Tensor, negative: Tensor) -> Rows:
    """Mean over a query's pairs of d² or max(0, 1 − d)²."""
    sums = (d.square() * positive).sum(1) + ((1 - d).relu().square() * negative).sum(1)
    return sums / (positive | negative).sum(1).clamp(min=1), nearest(d - 1, negative)


def triplets(d: Tensor, positive: Tensor, negative: Tensor, mining: str) -> Rows:
    """Mean over the anchor's triplets of max(0, d_ap − d_an + margin)."""
    losses, gaps = [], []
    for row, p, n in zip(d, positive, negative, strict=True):
        to_p, to_n = row[p], row[n]
        violation = to_p[:, None] - to_n + TRIPLET_MARGIN
        hinge = violation.relu()
        apart = (to_n - to_p[:, None]).detach()
        decisions = [violation.detach(), apart, steps(to_p), steps(to_n)]
        gaps.append(torch.cat([v.abs().flatten() for v in decisions] + [d.new_tensor([torch.inf])]).min())
        if not hinge.numel():
            losses.append(row.sum() * 0)
        elif mining == "hard":
            losses.append(hinge[to_p.argmax(), to_n.argmin()])
        elif mining == "semihard":
            losses.append(hinge.gather(1, semihard_choice(apart)[:, None]).mean())
        else:
            taken = (apart > 0) & (apart <= TRIPLET_MARGIN) if mining == "semihard_all" else apart == apart
            losses.append((hinge * taken).sum() / hinge.numel())
    return torch.stack(losses), torch.stack(gaps)


def semihard_choice(apart: Tensor) -> Tensor:
    """Of d_an − d_ap [P, N] for each positive: the nearest farther negative, else the farthest."""
    farther = apart > 0
    return torch.where(farther.any(1), apart.masked_fill(~farther, torch.inf).argmin(1), apart.argmax(1))


def margin(d: Tensor, positive: Tensor, negative: Tensor, border: Tensor, width: float = 0.2) -> Rows:
    """Mean over a query's triplets of max(0, d_ap − β + width) + max(0, β − d_an + width), β = border [M]."""
    beyond = d - border[:, None]
    pull = ((beyond + width).relu() * positive).sum(1) / positive.sum(1).clamp(min=1)
    push = ((width - beyond).relu() * negative).sum(1) / negative.sum(1).clamp(min=1)
    gap = torch.minimum(nearest(beyond + width, positive), nearest(width - beyond, negative))
    return (pull + push) * (positive.any(1) & negative.any(1)), gap
