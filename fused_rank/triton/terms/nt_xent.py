"""The two halves of NT-Xent, N-pairs and the angular loss: the log-sum-exp of a row's negatives, and the softplus of it
less each positive's logit. l = scale · d + shift.
"""

from collections.abc import Sequence
from typing import NamedTuple

import triton
import triton.language as tl

from ...ops.options import PairMetric
from ..ranks import softplus
from .logits import LOWEST, NOTHING, always, fold_exponentials, log_sum, merge_exponentials, sigmoid
from .term import Term


class LogitParams(NamedTuple):
    scale: float
    shift: float


# The negatives' half. A row: peak and total of their exponentials.


@triton.jit
def _start(BM: tl.constexpr, inputs, p):
    zero = tl.zeros([BM], tl.float32)
    return zero + LOWEST, zero


@triton.jit
def _fold_positive(row, d, mask, p):
    return row


@triton.jit
def _fold_negative(row, d, mask, p):
    return fold_exponentials(row[0], row[1], p.scale * d + p.shift, mask)


@triton.jit
def _merge(row, other, p):
    return merge_exponentials(row[0], row[1], other[0], other[1])


@triton.jit
def _never(row, d, p):
    return d != d


@triton.jit
def _finish(row, positives, negatives, p):
    level = log_sum(row[0], row[1])
    present = (negatives > 0.0).to(tl.float32)
    return (level,), (present,), (present,), (level,)


@triton.jit
def _scale(state, grads, p):
    return p.scale * grads[0], p.shift - state[0]


@triton.jit
def _slope_positive(d, scale, p):
    return d * 0.0


@triton.jit
def _slope_negative(d, scale, p):
    return scale[0] * tl.exp(p.scale * d + scale[1])


NEGATIVES_LSE = Term(
    name="negatives_lse",
    row_members=2,
    scale_members=2,
    state_rows=1,
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
)

# The positives' half. A row: Σ softplus(c − l), Σ of its derivative, how many are above 0; then c, its input.


@triton.jit
def _pull_start(BM: tl.constexpr, inputs, p):
    zero = tl.zeros([BM], tl.float32)
    return zero, zero, zero, inputs[0]


@triton.jit
def _pull_fold(row, d, mask, p):
    pulled = mask & (row[3] > 0.5 * NOTHING)[:, None]
    # of NOTHING both are 0: one mask, which no register has to keep
    z = tl.where(pulled, row[3][:, None] - (p.scale * d + p.shift), NOTHING)
    slope = tl.sum(sigmoid(z), 1)
    loss = softplus(z)
    above = tl.sum((loss > 0.0).to(tl.float32), 1)
    return row[0] + tl.sum(loss, 1), row[1] + slope, row[2] + above, row[3]


@triton.jit
def _pull_merge(row, other, p):
    return row[0] + other[0], row[1] + other[1], row[2] + other[2], row[3]


@triton.jit
def _pull_active(row, d, p):
    return (row[3] > 0.5 * NOTHING)[:, None] & (d == d)


@triton.jit
def _pull_finish(row, positives, negatives, p):
    count = tl.where(row[3] > 0.5 * NOTHING, positives, 0.0)
    return (row[0],), (count,), (row[2],), (row[3], row[1])


@triton.jit
def _pull_scale(state, grads, p):
    """A row whose c is NOTHING has no slope: its sigmoid is 0."""
    return -p.scale * grads[0], state[0] - p.shift


@triton.jit
def _pull_slope(d, scale, p):
    return scale[0] * sigmoid(scale[1] - p.scale * d)


@triton.jit
def _pull_input_gradient(state, grads, p):
    return (grads[0] * state[1],)


SOFTPLUS_POSITIVES = Term(
    name="softplus_positives",
    row_members=3,
    scale_members=2,
    state_rows=2,
    inputs=1,
    positives_only=True,
    start=_pull_start,
    fold_positive=_pull_fold,
    merge=_pull_merge,
    active_positive=_pull_active,
    finish=_pull_finish,
    scale=_pull_scale,
    slope_positive=_pull_slope,
    input_gradient=_pull_input_gradient,
)


def make_negatives(params: Sequence[float], metric: PairMetric, unit_rows: bool) -> tuple[Term, LogitParams]:
    """[scale, shift]"""
    return NEGATIVES_LSE, LogitParams(*params)


def make_positives(params: Sequence[float], metric: PairMetric, unit_rows: bool) -> tuple[Term, LogitParams]:
    """[scale, shift]"""
    return SOFTPLUS_POSITIVES, LogitParams(*params)
