"""The supervised contrastive loss and InfoNCE: log Σ_j exp(l_ij) − mean_p l_ip with l = scale · d."""

from collections.abc import Sequence
from typing import NamedTuple

import triton
import triton.language as tl

from ...ops.options import PairMetric
from ..ranks import softplus
from .logits import LOWEST, always, fold_exponentials, log_sum, merge_exponentials
from .term import Term


class SupConParams(NamedTuple):
    scale: float


# A row: the sum of its positives' logits; peak and total of their exponentials, of its negatives'. With w = exp(l) / E
# for E of all pairs the slopes are w of a negative and w − 1 / P of a positive. For P = 1 that is −Σ_n w, which keeps
# its digits however small it is.


@triton.jit
def _start(BM: tl.constexpr, inputs, p):
    zero = tl.zeros([BM], tl.float32)
    return zero, zero + LOWEST, zero, zero + LOWEST, zero


@triton.jit
def _fold_positive(row, d, mask, p):
    logits = p.scale * d
    peak, total = fold_exponentials(row[1], row[2], logits, mask)
    return row[0] + tl.sum(tl.where(mask, logits, 0.0), 1), peak, total, row[3], row[4]


@triton.jit
def _fold_negative(row, d, mask, p):
    peak, total = fold_exponentials(row[3], row[4], p.scale * d, mask)
    return row[0], row[1], row[2], peak, total


@triton.jit
def _merge(row, other, p):
    pos_peak, pos_total = merge_exponentials(row[1], row[2], other[1], other[2])
    neg_peak, neg_total = merge_exponentials(row[3], row[4], other[3], other[4])
    return row[0] + other[0], pos_peak, pos_total, neg_peak, neg_total


@triton.jit
def _finish(row, positives, negatives, p):
    counted = positives > 0.0
    peak = tl.maximum(row[1], row[3])
    pull, push = log_sum(row[1], row[2]), log_sum(row[3], row[4])
    uneven = tl.where(positives > 1.0, pull - row[0] / tl.maximum(positives, 1.0), 0.0)
    loss = tl.where(counted, uneven + softplus(push - pull), 0.0)
    own, others = row[2] * tl.exp(row[1] - peak), row[4] * tl.exp(row[3] - peak)
    every = own + others
    every = tl.where(every > 0.0, every, 1.0)
    share = tl.where(positives > 1.0, 1.0 / tl.maximum(positives, 1.0), -others / every)
    state = (counted.to(tl.float32), peak + tl.log(every), share)
    return (loss,), (state[0],), ((loss > 0.0).to(tl.float32),), state


@triton.jit
def _scale(state, grads, p):
    """Upstream times d logit / d distance, 0 without positives; log E; 1 / P, or −Σ_n w for a single positive."""
    return p.scale * grads[0] * state[0], state[1], state[2]


@triton.jit
def _slope_negative(d, scale, p):
    return scale[0] * tl.exp(p.scale * d - scale[1])


@triton.jit
def _slope_positive(d, scale, p):
    w = tl.exp(p.scale * d - scale[1])
    return scale[0] * tl.where(scale[2] > 0.0, w - scale[2], scale[2])


SUP_CON = Term(
    name="sup_con",
    row_members=5,
    scale_members=3,
    state_rows=3,
    start=_start,
    fold_positive=_fold_positive,
    fold_negative=_fold_negative,
    merge=_merge,
    active_positive=always,
    active_negative=always,
    finish=_finish,
    scale=_scale,
    slope_positive=_slope_positive,
    slope_negative=_slope_negative,
)


def make(params: Sequence[float], metric: PairMetric, unit_rows: bool) -> tuple[Term, SupConParams]:
    """[scale]"""
    return SUP_CON, SupConParams(*params)
