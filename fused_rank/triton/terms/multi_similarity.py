"""The multi-similarity loss, with s = 1 − d: log(1 + Σ_p exp(−α(s − base)))/α + log(1 + Σ_n exp(β(s − base)))/β, over
the positives farther than a query's first input and the negatives nearer than its second.
"""

from collections.abc import Sequence
from typing import NamedTuple

import triton
import triton.language as tl

from ...ops.options import PairMetric
from ..ranks import softplus
from .logits import LOWEST, fold_exponentials, log_sum, merge_exponentials
from .term import Term


class MultiSimilarityParams(NamedTuple):
    """Logits are alpha (d − middle) of positives and beta (middle − d) of negatives."""

    alpha: float
    beta: float
    middle: float


# A row: peak and total of its positives' exponentials, of its negatives'; then the thresholds, its inputs.


@triton.jit
def _start(BM: tl.constexpr, inputs, p):
    zero = tl.zeros([BM], tl.float32)
    return zero + LOWEST, zero, zero + LOWEST, zero, inputs[0], inputs[1]


@triton.jit
def _fold_positive(row, d, mask, p):
    kept = mask & (d > row[4][:, None])
    peak, total = fold_exponentials(row[0], row[1], p.alpha * (d - p.middle), kept)
    return peak, total, row[2], row[3], row[4], row[5]


@triton.jit
def _fold_negative(row, d, mask, p):
    kept = mask & (d < row[5][:, None])
    peak, total = fold_exponentials(row[2], row[3], p.beta * (p.middle - d), kept)
    return row[0], row[1], peak, total, row[4], row[5]


@triton.jit
def _merge(row, other, p):
    pos_peak, pos_total = merge_exponentials(row[0], row[1], other[0], other[1])
    neg_peak, neg_total = merge_exponentials(row[2], row[3], other[2], other[3])
    return pos_peak, pos_total, neg_peak, neg_total, row[4], row[5]


@triton.jit
def _active_positive(row, d, p):
    return d > row[4][:, None]


@triton.jit
def _active_negative(row, d, p):
    return d < row[5][:, None]


@triton.jit
def _finish(row, positives, negatives, p):
    pull = softplus(log_sum(row[0], row[1]))
    push = softplus(log_sum(row[2], row[3]))
    loss = pull / p.alpha + push / p.beta
    return (loss,), (loss * 0.0 + 1.0,), ((loss > 0.0).to(tl.float32),), (pull, push, row[4], row[5])


@triton.jit
def _scale(state, grads, p):
    """Upstream; log(1 + Σ) of both kinds; the thresholds."""
    return grads[0], state[0], state[1], state[2], state[3]


@triton.jit
def _slope_positive(d, scale, p):
    weight = tl.exp(p.alpha * (d - p.middle) - scale[1])
    return tl.where(d > scale[3], scale[0] * weight, 0.0)


@triton.jit
def _slope_negative(d, scale, p):
    weight = tl.exp(p.beta * (p.middle - d) - scale[2])
    return tl.where(d < scale[4], -scale[0] * weight, 0.0)


@triton.jit
def _input_gradient(state, grads, p):
    """Thresholds are constants."""
    zero = grads[0] * 0.0
    return zero, zero


MULTI_SIMILARITY = Term(
    name="multi_similarity",
    row_members=4,
    scale_members=5,
    state_rows=4,
    inputs=2,
    start=_start,
    fold_positive=_fold_positive,
    fold_negative=_fold_negative,
    merge=_merge,
    active_positive=_active_positive,
    active_negative=_active_negative,
    finish=_finish,
    scale=_scale,
    slope_positive=_slope_positive,
    slope_negative=_slope_negative,
    input_gradient=_input_gradient,
)


def make(params: Sequence[float], metric: PairMetric, unit_rows: bool) -> tuple[Term, MultiSimilarityParams]:
    """[alpha, beta, base]; whether thresholds were mined makes no difference here."""
    alpha, beta, base = params[:3]
    return MULTI_SIMILARITY, MultiSimilarityParams(alpha, beta, 1.0 - base)
