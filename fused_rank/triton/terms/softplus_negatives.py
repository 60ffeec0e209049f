"""The angular loss of a query: log(1 + Σ_n exp(scale · d_n − c)) with a number c of its own; 0 without negatives."""

from collections.abc import Sequence
from typing import NamedTuple

import triton
import triton.language as tl

from ...ops.options import PairMetric
from ..ranks import softplus
from .logits import LOWEST, NOTHING, always, fold_exponentials, log_sum, merge_exponentials, sigmoid
from .term import Term


class SoftplusNegativesParams(NamedTuple):
    scale: float


# A row: peak and total of the exponentials of scale · d; then c, its input.


@triton.jit
def _start(BM: tl.constexpr, inputs, p):
    zero = tl.zeros([BM], tl.float32)
    return zero + LOWEST, zero, inputs[0]


@triton.jit
def _fold_positive(row, d, mask, p):
    return row


@triton.jit
def _fold_negative(row, d, mask, p):
    peak, total = fold_exponentials(row[0], row[1], p.scale * d, mask)
    return peak, total, row[2]


@triton.jit
def _merge(row, other, p):
    peak, total = merge_exponentials(row[0], row[1], other[0], other[1])
    return peak, total, row[2]


@triton.jit
def _never(row, d, p):
    return d != d


@triton.jit
def _finish(row, positives, negatives, p):
    """State: the log-sum-exp, and the sigmoid of it less c, which is 1 − 1 / (1 + Σ)."""
    level = log_sum(row[0], row[1])
    excess = tl.where(negatives > 0.0, level - row[2], NOTHING)
    loss = softplus(excess)
    present = (negatives > 0.0).to(tl.float32)
    return (loss,), (present,), ((loss > 0.0).to(tl.float32),), (level, sigmoid(excess))


@triton.jit
def _scale(state, grads, p):
    return p.scale * grads[0] * state[1], -state[0]


@triton.jit
def _slope_positive(d, scale, p):
    return d * 0.0


@triton.jit
def _slope_negative(d, scale, p):
    return scale[0] * tl.exp(p.scale * d + scale[1])


@triton.jit
def _input_gradient(state, grads, p):
    return (-grads[0] * state[1],)


SOFTPLUS_NEGATIVES = Term(
    name="softplus_negatives",
    row_members=2,
    scale_members=2,
    state_rows=2,
    inputs=1,
    start=_start,
    fold_positive=_fold_positive,
    fold_negative=_fold_negative,
    merge=_merge,
    active_positive=_never,
    active_negative=always,
    finish=_finish,
    scale=_scale,
    slope_positive=_slope_positive,
    slope_negative=_slope_negative,
    input_gradient=_input_gradient,
)


def make(
    params: Sequence[float], metric: PairMetric, unit_rows: bool
) -> tuple[Term, SoftplusNegativesParams]:
    """[scale, reach]; sums follow the largest logit, whatever the reach"""
    return SOFTPLUS_NEGATIVES, SoftplusNegativesParams(params[0])
