"""The definitions in fp64, by direct difference: what the operations are held against.

Independent of the library's own arithmetic. Each loss gives per query its value and its gap: the distance from its
nearest decision (a hinge's corner, a set's edge, a tie), below whose rounding error fp32 may decide otherwise.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

Rows: TypeAlias = tuple[Tensor, Tensor]  # loss [M], gap [M]
ALPHA, MARGIN, TEMPERATURE = 1.2, 0.4, 10.0  # the ranked list loss's defaults
TRIPLET_MARGIN = 0.2


def unit(x: Tensor) -> Tensor:
    """x / |x|, row by row."""
    return x / x.square().sum(1, keepdim=True).sqrt()


def distances(x: Tensor, y: Tensor, metric: str, normalize: bool) -> Tensor:
    """[M, N]; the zero subgradient at zero distance."""
    if normalize or metric == "cosine":
        x, y = unit(x), unit(y)
    squares = torch.cat([(x[i : i + 16, None] - y).square().sum(2) for i in range(0, len(x), 16)])
    if metric == "sqeuclidean":
        return squares
    if metric == "cosine":
        return squares / 2
    zero = squares == 0
    return squares.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


def masks(labels: Tensor, others: Tensor | None) -> tuple[Tensor, Tensor]:
    """Positive and negative pairs, bool [M, N]; others None: self form, without a row's pair with itself."""
    same = labels[:, None] == (labels if others is None else others)
    own = torch.eye(len(labels), dtype=torch.bool) if others is None else torch.zeros_like(same)
    return same & ~own, ~same


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
    gap = torch.minimum(_nearest(d - bound, positive), _nearest(d - ALPHA, negative))
    return pull + push, gap


def contrastive(d: Tensor, positive: Tensor, negative: Tensor) -> Rows:
    """Mean over a query's pairs of d² or max(0, 1 − d)²."""
    sums = (d.square() * positive).sum(1) + ((1 - d).relu().square() * negative).sum(1)
    return sums / (positive | negative).sum(1).clamp(min=1), _nearest(d - 1, negative)


def sup_con(d: Tensor, positive: Tensor, negative: Tensor) -> Rows:
    """log Σ exp(s / T) − mean over positives, T = 0.1, with the cosine s = 1 − d² / 2 of unit rows."""
    logits = -5 * d.square()
    attract = logits.masked_fill(~positive, -torch.inf).logsumexp(1)
    repel = logits.masked_fill(~negative, -torch.inf).logsumexp(1)
    mean = (logits * positive).sum(1) / positive.sum(1).clamp(min=1)
    present = positive.any(1) & negative.any(1)
    losses = attract - mean + torch.nn.functional.softplus(repel - attract, threshold=40)
    return losses.masked_fill(~present, 0), torch.full_like(mean, torch.inf).detach()


def triplets(d: Tensor, positive: Tensor, negative: Tensor, mining: str) -> Rows:
    """Mean over the anchor's triplets of max(0, d_ap − d_an + margin)."""
    losses, gaps = [], []
    for row, p, n in zip(d, positive, negative, strict=True):
        to_p, to_n = row[p], row[n]
        violation = to_p[:, None] - to_n + TRIPLET_MARGIN
        hinge = violation.relu()
        apart = (to_n - to_p[:, None]).detach()
        decisions = [violation.detach(), apart, _steps(to_p), _steps(to_n)]
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


def ranked(d: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """The k least of each row in order, their columns, and each row's gap."""
    ordered, columns = d.sort(dim=1, stable=True)
    return ordered[:, :k], columns[:, :k], ordered[:, : k + 1].diff(dim=1).amin(1)


def _nearest(values: Tensor, members: Tensor) -> Tensor:
    return values.detach().abs().masked_fill(~members, torch.inf).amin(1)


def _steps(values: Tensor) -> Tensor:
    return values.detach().sort().values.diff()


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Rows]] = {
    "ranked_list_loss, query": lambda d, p, n: ranked_list(d, p, n, True),
    "ranked_list_loss, both": lambda d, p, n: ranked_list(d, p, n, True),
    "ranked_list_loss, exact": lambda d, p, n: ranked_list(d, p, n, False),
    "contrastive_loss": contrastive,
    "sup_con_loss": sup_con,
    "triplet_margin_loss, hard": lambda d, p, n: triplets(d, p, n, "hard"),
    "triplet_margin_loss, semihard": lambda d, p, n: triplets(d, p, n, "semihard"),
    "triplet_margin_loss, all": lambda d, p, n: triplets(d, p, n, "all"),
    "triplet_margin_loss, band": lambda d, p, n: triplets(d, p, n, "semihard_all"),
}
