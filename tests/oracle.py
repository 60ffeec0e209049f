"""The fp64 oracle: every loss as its plain definition, independent of the library and of its reference.

Distances are taken by direct difference, not by |x|² + |y|² − 2x·y, triplets by walking over anchors,
gradients by autograd. Nothing here imports fused_rank. Each loss returns its `Rows`: what each query contributes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

Pairs = tuple[Tensor, Tensor]  # positive, negative: bool [M, N]


@dataclass
class Rows:
    """Per channel and query: sum of the losses, how many there are, how many are above 0.

    `gap` [M] is the smallest distance of a query from any of its decisions (a hinge's corner, a set's edge,
    a tie): arithmetic in another precision may decide otherwise where the gap is below its rounding error.
    """

    sums: Tensor  # [C, M]
    counts: Tensor  # [C, M]
    active: Tensor  # [C, M]
    gap: Tensor  # [M]

    def reduce(self, reduction: str) -> Tensor:
        if reduction == "none":
            return self.sums.sum(0) / self.counts.sum(0).clamp(min=1)
        if reduction == "sum":
            return self.sums.sum()
        if reduction == "mean":
            return self.sums.sum() / self.counts.sum().clamp(min=1)
        if reduction == "mean_active":
            return (self.sums.sum(1) / self.active.sum(1).clamp(min=1)).sum()
        raise AssertionError(reduction)


def unit(x: Tensor) -> Tensor:
    """x / |x|; a zero row stays zero and gets no gradient."""
    squares = x.square().sum(1, keepdim=True)
    zero = squares == 0
    return torch.where(zero, 0.0, x / squares.masked_fill(zero, 1).sqrt())


def root(squares: Tensor) -> Tensor:
    """sqrt with the zero subgradient at 0."""
    zero = squares == 0
    return squares.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


def from_squares(squares: Tensor, metric: str) -> Tensor:
    return {"euclidean": root, "sqeuclidean": lambda s: s, "cosine": lambda s: s / 2}[metric](squares)


def distances(
    x: Tensor, y: Tensor, metric: str = "euclidean", normalize: bool = False, chunk: int = 16
) -> Tensor:
    """[M, N] by direct difference, `chunk` rows at a time."""
    if normalize or metric == "cosine":
        x, y = unit(x), unit(y)
    squares = torch.cat([(rows[:, None] - y[None]).square().sum(2) for rows in x.split(chunk)])
    return from_squares(squares, metric)


def pairs(labels: Tensor | None, gallery_labels: Tensor | None, m: int, n: int, self_form: bool) -> Pairs:
    """Which pairs are positive and which negative."""
    if labels is None:
        same = torch.eye(m, n, dtype=torch.bool)
        return same, ~same
    others = labels if self_form else gallery_labels
    assert others is not None
    same = labels[:, None] == others[None]
    other = ~same
    if self_form:
        same = same & ~torch.eye(m, dtype=torch.bool)
    return same, other


def smallest(values: Tensor, mask: Tensor) -> Tensor:
    """Row minima of |values| where mask holds, infinite in rows without any."""
    if values.shape[1] == 0:
        return values.new_full((len(values),), torch.inf)
    return values.detach().abs().masked_fill(~mask, torch.inf).amin(1)


def weighted_mean(
    margin: Tensor, members: Tensor, support: Tensor, temperature: float, eps: float, fixed: bool
) -> Tensor:
    """Row by row Σ w·margin over members / (Σ w over support + eps), w = exp(temperature·max(0, margin))."""
    exponent = (temperature * margin.clamp(min=0)).masked_fill(~support, -torch.inf)
    shift = exponent.detach().amax(1, keepdim=True).clamp(min=0)  # only against overflow
    weight = (exponent - shift).exp()
    denominator = weight.sum(1, keepdim=True) + eps * (-shift).exp()
    if fixed:
        weight, denominator = weight.detach(), denominator.detach()
    top = (weight * margin).masked_fill(~members, 0).sum(1)
    bottom = denominator.squeeze(1)
    empty = ~members.any(1)
    return (top / bottom.masked_fill(empty, 1)).masked_fill(empty, 0)


def ranked_list(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    *,
    alpha: float = 1.2,
    margin: float = 0.4,
    temperature_neg: float = 10.0,
    temperature_pos: float = 0.0,
    pos_weight: float = 1.0,
    neg_weight: float = 1.0,
    gradient: str = "query",
    positive_mean: str = "active",
    eps: float = 0.0,
    metric: str = "euclidean",
    normalize: bool = True,
) -> Rows:
    y = x if gallery is None else gallery
    same, other = pairs(labels, gallery_labels, len(x), len(y), gallery is None)
    d = distances(x, y.detach() if gradient == "query" else y, metric, normalize)
    bound, fixed = alpha - margin, gradient != "exact"
    far, near = same & (d > bound), other & (d < alpha)
    support = same if positive_mean == "all" else far
    positive_part = weighted_mean(d - bound, far, support, temperature_pos, eps, fixed)
    negative_part = weighted_mean(alpha - d, near, near, temperature_neg, eps, fixed)
    sums = (pos_weight * positive_part + neg_weight * negative_part)[None]
    gap = torch.minimum(smallest(d - bound, same), smallest(d - alpha, other))
    return Rows(sums, torch.ones_like(sums), (sums > 0).to(sums), gap)


def contrastive(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    *,
    pos_margin: float = 0.0,
    neg_margin: float = 1.0,
    power: int = 2,
    metric: str = "euclidean",
    normalize: bool = True,
) -> Rows:
    y = x if gallery is None else gallery
    same, other = pairs(labels, gallery_labels, len(x), len(y), gallery is None)
    d = distances(x, y, metric, normalize)
    pull = (d - pos_margin).clamp(min=0).pow(power).masked_fill(~same, 0)
    push = (neg_margin - d).clamp(min=0).pow(power).masked_fill(~other, 0)
    gap = torch.minimum(smallest(d - pos_margin, same), smallest(d - neg_margin, other))
    return Rows(
        torch.stack([pull.sum(1), push.sum(1)]),
        torch.stack([same.sum(1), other.sum(1)]).to(d),
        torch.stack([(pull > 0).sum(1), (push > 0).sum(1)]).to(d),
        gap,
    )


def triplet_margin(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    *,
    margin: float = 0.2,
    mining: str = "semihard",
    soft_margin: bool = False,
    metric: str = "euclidean",
    normalize: bool = True,
) -> Rows:
    y = x if gallery is None else gallery
    same, other = pairs(labels, gallery_labels, len(x), len(y), gallery is None)
    d = distances(x, y, metric, normalize)
    sums, counts, active, gaps = [], [], [], []
    for row, positives, negatives in zip(d.unbind(), same, other, strict=True):
        mined = MINERS[mining](row[positives], row[negatives], margin)
        violation = mined.positive - mined.negative + margin
        loss = torch.nn.functional.softplus(violation) if soft_margin else violation.clamp(min=0)
        corner = [] if soft_margin else [violation.detach().abs().flatten()]
        sums.append(loss.sum())
        counts.append(mined.count)
        active.append(int((loss > 0).sum()))
        gaps.append(torch.cat([*corner, mined.gaps.flatten(), d.new_tensor([torch.inf])]).min())
    numbers = [torch.tensor([values], dtype=d.dtype) for values in (counts, active)]
    return Rows(torch.stack(sums)[None], *numbers, torch.stack(gaps).detach())


def softmax_row(positive: Tensor, negative: Tensor) -> Tensor:
    """log Σ exp over both − mean of the positives' logits, written so that autograd cancels no 1 − softmax."""
    if not len(positive):
        return positive.sum() + 0 * negative.sum()
    uneven = positive.logsumexp(0) - positive.mean()
    if not len(negative):
        return uneven
    gap = negative.logsumexp(0) - positive.logsumexp(0)
    return uneven + torch.nn.functional.softplus(gap, threshold=50)


def sup_con(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    *,
    temperature: float = 0.1,
) -> Rows:
    y = x if gallery is None else gallery
    same, other = pairs(labels, gallery_labels, len(x), len(y), gallery is None)
    logits = -distances(x, y, "cosine") / temperature
    losses = [softmax_row(row[p], row[n]) for row, p, n in zip(logits, same, other, strict=True)]
    sums = torch.stack(losses)[None]
    never = sums.new_full((len(x),), torch.inf)
    return Rows(sums, same.any(1)[None].to(sums), (sums > 0).to(sums), never)


def info_nce(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor,
    gallery_labels: Tensor | None,
    *,
    temperature: float = 0.07,
    symmetric: bool = False,
) -> Rows:
    there = sup_con(x, labels, gallery, gallery_labels, temperature=temperature)
    if not symmetric:
        return there
    back = sup_con(gallery, gallery_labels, x, labels, temperature=temperature)
    return Rows(
        *(torch.cat(both, -1) for both in zip(vars(there).values(), vars(back).values(), strict=True))
    )


@dataclass
class Mined:
    """One anchor's triplets: distances to positive and negative, the mean's count, the choices' gaps."""

    positive: Tensor
    negative: Tensor
    count: int
    gaps: Tensor


def steps(values: Tensor) -> Tensor:
    """Differences of neighbours in sorted order: how far from a tie."""
    return values.detach().sort().values.diff()


def mine_hard(positive: Tensor, negative: Tensor, margin: float) -> Mined:
    if not (len(positive) and len(negative)):
        return Mined(positive[:0], negative[:0], 0, positive.detach()[:0])
    gaps = torch.cat([steps(positive)[-1:], steps(negative)[:1]])
    return Mined(positive.max()[None], negative.min()[None], 1, gaps)


def mine_semihard(positive: Tensor, negative: Tensor, margin: float) -> Mined:
    if not (len(positive) and len(negative)):
        return Mined(positive[:0], negative[:0], 0, positive.detach()[:0])
    p, n = positive.detach()[:, None], negative.detach()[None]
    farther = n > p
    choices = torch.where(farther.any(1, keepdim=True), torch.where(farther, n, torch.inf), -n)
    runners_up = choices.sort(1).values.diff(dim=1)[:, :1]
    gaps = torch.cat([(n - p).abs().flatten(), runners_up.flatten()])
    return Mined(positive, negative[choices.argmin(1)], len(positive), gaps)


def mine_all(positive: Tensor, negative: Tensor, margin: float) -> Mined:
    p, n = positive[:, None].expand(-1, len(negative)), negative[None].expand(len(positive), -1)
    return Mined(p.flatten(), n.flatten(), p.numel(), positive.detach()[:0])


def mine_semihard_all(positive: Tensor, negative: Tensor, margin: float) -> Mined:
    every = mine_all(positive, negative, margin)
    excess = every.negative - every.positive
    band = (excess > 0) & (excess <= margin)
    gaps = torch.cat([excess.detach().abs(), (excess.detach() - margin).abs()])
    return Mined(every.positive[band], every.negative[band], every.count, gaps)


MINERS = {"hard": mine_hard, "semihard": mine_semihard, "all": mine_all, "semihard_all": mine_semihard_all}
LOSSES = {
    "ranked_list": ranked_list,
    "contrastive": contrastive,
    "triplet": triplet_margin,
    "sup_con": sup_con,
    "info_nce": info_nce,
}
