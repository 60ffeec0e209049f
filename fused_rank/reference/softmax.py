"""What losses over logits are made of: a stable log-sum-exp over masked rows, and the two halves of NT-Xent.

A logit is scale · d + shift: with d = 1 − cos and scale = −1/T it is cos/T up to a constant.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ..ops.reduction import Rows

NOTHING = -1e30  # the log-sum-exp of no logits, finite: every softplus of it and its derivative are 0


def log_sum_exp(logits: Tensor, members: Tensor) -> Tensor:
    """log Σ exp(logit) over each row's members [m, N] (bool); `NOTHING` for a row without any."""
    chosen = logits.masked_fill(~members, -torch.inf)
    peak = chosen.detach().amax(1, keepdim=True)
    peak = peak.masked_fill(peak == -torch.inf, 0)
    total = (chosen - peak).exp().sum(1)
    empty = ~members.any(1)
    return (total.masked_fill(empty, 1).log() + peak.squeeze(1)).masked_fill(empty, NOTHING)


def softplus(x: Tensor) -> Tensor:
    """log(1 + eˣ), linear only where that is exact in fp64 too."""
    return functional.softplus(x, threshold=40)


def negatives_lse(
    distance: Tensor, positive: Tensor, negative: Tensor, *, scale: float, shift: float
) -> Rows:
    """The log-sum-exp of each row's negatives; counted where there is one."""
    sums = log_sum_exp(scale * distance + shift, negative).unsqueeze(0)
    present = negative.any(1).to(sums.dtype).unsqueeze(0)
    return Rows(sums, present, present)


def softplus_negatives(
    distance: Tensor, positive: Tensor, negative: Tensor, inputs: Tensor, *, scale: float
) -> Rows:
    """log(1 + Σ_n exp(scale · d_in − c_i)) with c = inputs[0], the row's own number; nothing without a negative."""
    present = negative.any(1)
    losses = softplus(log_sum_exp(scale * distance, negative) - inputs[0]).masked_fill(~present, 0)
    sums, counts, active = (each.to(losses.dtype).unsqueeze(0) for each in (losses, present, losses > 0))
    return Rows(sums, counts, active)


def softplus_positives(
    distance: Tensor, positive: Tensor, negative: Tensor, inputs: Tensor, *, scale: float, shift: float
) -> Rows:
    """Σ_p softplus(c_i − logit_ip) with c = inputs[0], the row's own number; nothing where c is `NOTHING`."""
    level = inputs[0].unsqueeze(1)
    pulled = positive & (level > NOTHING / 2)
    losses = softplus(level - scale * distance - shift).masked_fill(~pulled, 0)
    sums, counts = (each.sum(1).unsqueeze(0) for each in (losses, pulled.to(losses.dtype)))
    return Rows(sums, counts, counts)
