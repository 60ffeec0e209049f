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


# A row: the sum of its positives' logits; peak and total of their exponentials, of its negatives'. With e = exp(l),
# E_P = Σ_p e and E_N = Σ_n e the slopes are e / (E_P + E_N) of a negative and (P e − E_P − E_N) / (P (E_P + E_N)) of a
# positive: for P = 1 what remains is E_N alone, and keeps its digits however small it is.


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
    state = (row[2] * tl.exp(row[1] - peak), row[4] * tl.exp(row[3] - peak), positives, peak)
    return (loss,), (counted.to(tl.float32),), ((loss > 0.0).to(tl.float32),), state


@triton.jit
def _scale(state, grads, p):
    """Of a negative's exponential, of a positive's; P; E_P and E_N; what exponents are relative to."""
    counted = state[2] > 0.0
    push = tl.where(counted, p.scale * grads[0] / tl.where(counted, state[0] + state[1], 1.0), 0.0)
    return push, push / tl.maximum(state[2], 1.0), state[2], state[0], state[1], state[3]


@triton.jit
def _slope_negative(d, scale, p):
    return scale[0] * tl.exp(p.scale * d - scale[5])


@triton.jit
def _slope_positive(d, scale, p):
    e = tl.exp(p.scale * d - scale[5])
    more = tl.where(scale[2] > 1.0, scale[2] * e - scale[3], 0.0)
    return scale[1] * (more - scale[4])


SUP_CON = Term(
    name="sup_con",
    row_members=5,
    scale_members=6,
    state_rows=4,
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
