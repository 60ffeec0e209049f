"""The losses of exponentials."""

import math
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from .geometry import Rows, nearest, unit

softplus = partial(functional.softplus, threshold=40)  # beyond, e⁻⁴⁰ is nothing to fp64


def sup_con(s: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> Rows:
    """log Σ exp(s / T) over all pairs − the mean of s / T over the positives."""
    logits = s / temperature
    attract, repel = _log_sum(logits, positive), _log_sum(logits, negative)
    mean = (logits * positive).sum(1) / positive.sum(1).clamp(min=1)
    losses = attract - mean + softplus(repel - attract)  # autograd cancels no 1 − softmax
    return losses.masked_fill(~positive.any(1), 0), _undecided(s)


def info_nce(s: Tensor, positive: Tensor, negative: Tensor, temperature: float, symmetric: bool) -> Rows:
    """The same from queries to gallery and, symmetric, after it from gallery to queries."""
    there = sup_con(s, positive, negative, temperature)
    if not symmetric:
        return there
    back = sup_con(s.T, positive.T, negative.T, temperature)
    return torch.cat([there[0], back[0]]), torch.cat([there[1], back[1]])


def nt_xent(s: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> Rows:
    """Mean over positives of log(1 + Σ_n exp((s_n − s_p) / T))."""
    logits = s / temperature
    each = softplus(_log_sum(logits, negative)[:, None] - logits) * positive
    return each.sum(1) / positive.sum(1).clamp(min=1), _undecided(s)


def n_pairs(s: Tensor, chosen: Tensor) -> Rows:
    """Of each chosen pair log Σ exp(s_an − s_ap) over the chosen columns n; 0 for queries with none."""
    anchor, column = chosen.nonzero(as_tuple=True)
    logits = s[anchor][:, column]
    losses = (logits - logits.diagonal()[:, None]).logsumexp(1)
    return s.new_zeros(len(s)).index_add(0, anchor, losses), _undecided(s)


def angular(x: Tensor, y: Tensor, chosen: Tensor, negative: Tensor, degrees: float = 40.0) -> Rows:
    """Mean over a query's chosen pairs of log(1 + Σ_n exp(4t (x_a + x_p)·x_n − 2(1 + t) x_a·x_p)), t = tan²."""
    t = math.tan(math.radians(degrees)) ** 2
    anchor, column = chosen.nonzero(as_tuple=True)
    x_a, x_p = unit(x)[anchor], unit(y)[column]
    against = _log_sum(4 * t * (x_a + x_p) @ unit(y).T, negative[anchor])
    losses = softplus(against - 2 * (1 + t) * (x_a * x_p).sum(1))
    sums = losses.new_zeros(len(x)).index_add(0, anchor, losses)
    return sums / chosen.sum(1).clamp(min=1), _undecided(x)


def multi_similarity(
    s: Tensor, positive: Tensor, negative: Tensor, epsilon: float | None = None, base: float = 0.5
) -> Rows:
    """log(1 + Σ_p exp(−2(s − base))) / 2 + log(1 + Σ_n exp(50(s − base))) / 50.

    With ε over the positives less similar than the likest negative + ε, and the negatives likewise.
    """
    gap = _undecided(s)
    if epsilon is not None:
        fixed = s.detach()
        likest = fixed.masked_fill(~negative, -torch.inf).amax(1, keepdim=True)
        unlikest = fixed.masked_fill(~positive, torch.inf).amin(1, keepdim=True)
        too_like, too_unlike = fixed - epsilon - likest, fixed + epsilon - unlikest
        gap = torch.minimum(nearest(too_like, positive), nearest(too_unlike, negative))
        positive, negative = positive & (too_like < 0), negative & (too_unlike > 0)
    pull, push = (_log_sum(k * (s - base), members) for k, members in ((-2, positive), (50, negative)))
    return softplus(pull) / 2 + softplus(push) / 50, gap


def circle(s: Tensor, positive: Tensor, negative: Tensor, m: float = 0.4, gamma: float = 80.0) -> Rows:
    """log(1 + Σ_n exp(γ [s + m]₊ (s − m)) Σ_p exp(γ [1 + m − s]₊ (1 − m − s))), the [·]₊ constant to the gradient."""
    fixed = s.detach()
    push = _log_sum(gamma * (fixed + m).relu() * (s - m), negative)
    pull = _log_sum(gamma * (1 + m - fixed).relu() * (1 - m - s), positive)
    return softplus(push + pull), _undecided(s)


def lifted(d: Tensor, positive: Tensor, negative: Tensor) -> Rows:
    """max(0, log Σ_p exp(d) + log Σ_n exp(1 − d)), a missing kind's logarithm being 0."""
    pull = _log_sum(d, positive).masked_fill(~positive.any(1), 0)
    total = pull + _log_sum(1 - d, negative)
    return total.relu(), total.detach().abs()


def _log_sum(logits: Tensor, members: Tensor) -> Tensor:
    """log Σ exp over a row's members; −∞ over none."""
    return logits.masked_fill(~members, -torch.inf).logsumexp(1)


def _undecided(rows: Tensor) -> Tensor:
    """The gap of losses that decide nothing."""
    return torch.full_like(rows.detach()[:, 0], torch.inf)
