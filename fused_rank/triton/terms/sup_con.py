"""The supervised contrastive loss and InfoNCE: log Σ_j exp(l_ij) − mean_p l_ip with l = scale · d."""

from collections.abc import Sequence
from typing import NamedTuple

import triton
import triton.language as tl

from ...ops.options import PairMetric
from .logits import LOWEST, always, fold_exponentials, log_sum, merge_exponentials
from .term import Term


class SupConParams(NamedTuple):
    scale: float


# A row: peak and total of all its exponentials, the sum of its positives' logits.


@triton.jit
def _start(BM: tl.constexpr, inputs, p):
    zero = tl.zeros([BM], tl.float32)
    return zero + LOWEST, zero, zero


@triton.jit
def _fold_positive(row, d, mask, p):
    logits = p.scale * d
    peak, total = fold_exponentials(row[0], row[1], logits, mask)
    return peak, total, row[2] + tl.sum(tl.where(mask, logits, 0.0), 1)


@triton.jit
def _fold_negative(row, d, mask, p):
    peak, total = fold_exponentials(row[0], row[1], p.scale * d, mask)
    return peak, total, row[2]


@triton.jit
def _merge(row, other, p):
    peak, total = merge_exponentials(row[0], row[1], other[0], other[1])
    return peak, total, row[2] + other[2]


@triton.jit
def _finish(row, positives, negatives, p):
    counted = positives > 0.0
    level = log_sum(row[0], row[1])
    share = tl.where(counted, 1.0 / tl.maximum(positives, 1.0), 0.0)
    loss = tl.where(counted, level - row[2] * share, 0.0)
    return (loss,), (counted.to(tl.float32),), ((loss > 0.0).to(tl.float32),), (level, share)


@triton.jit
def _scale(state, grads, p):
    """Upstream (0 without positives) and upstream by positive, each times d logit / d distance; the log-sum-exp."""
    pulled = p.scale * grads[0]
    return tl.where(state[1] > 0.0, pulled, 0.0), pulled * state[1], state[0]


@triton.jit
def _slope_negative(d, scale, p):
    return scale[0] * tl.exp(p.scale * d - scale[2])


@triton.jit
def _slope_positive(d, scale, p):
    return scale[0] * tl.exp(p.scale * d - scale[2]) - scale[1]


SUP_CON = Term(
    name="sup_con",
    row_members=3,
    scale_members=3,
    state_rows=2,
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
