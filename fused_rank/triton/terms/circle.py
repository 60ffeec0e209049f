"""The circle loss, with s = 1 − d and weights that are constants to the gradient: softplus(A + B) of
A = log Σ_p exp(γ [m + d]₊ (d − m)) and B = log Σ_n exp(γ [s + m]₊ (s − m)); nothing for a query that lacks a kind.
"""

from collections.abc import Sequence
from typing import NamedTuple

import triton
import triton.language as tl

from ...ops.options import PairMetric
from ..ranks import softplus
from .both_sums import merge, scale, start
from .logits import always, fold_exponentials, log_sum, sigmoid
from .term import Term


class CircleParams(NamedTuple):
    m: float
    gamma: float


@triton.jit
def _weight_positive(d, p):
    return p.gamma * tl.maximum(d + p.m, 0.0)


@triton.jit
def _weight_negative(d, p):
    return p.gamma * tl.maximum(1.0 + p.m - d, 0.0)


@triton.jit
def _fold_positive(row, d, mask, p):
    peak, total = fold_exponentials(row[0], row[1], _weight_positive(d, p) * (d - p.m), mask)
    return peak, total, row[2], row[3]


@triton.jit
def _fold_negative(row, d, mask, p):
    peak, total = fold_exponentials(row[2], row[3], _weight_negative(d, p) * (1.0 - p.m - d), mask)
    return row[0], row[1], peak, total


@triton.jit
def _finish(row, positives, negatives, p):
    both = (positives > 0.0) & (negatives > 0.0)
    pull, push = log_sum(row[0], row[1]), log_sum(row[2], row[3])
    loss = tl.where(both, softplus(pull + push), 0.0)
    moved = tl.where(both, sigmoid(pull + push), 0.0)
    one = loss * 0.0 + 1.0
    return (loss,), (one,), ((loss > 0.0).to(tl.float32),), (pull, push, moved)


@triton.jit
def _slope_positive(d, scale, p):
    weight = _weight_positive(d, p)
    share = weight * tl.exp(weight * (d - p.m) - scale[1])
    return tl.where(scale[0] != 0.0, scale[0] * share, 0.0)


@triton.jit
def _slope_negative(d, scale, p):
    weight = _weight_negative(d, p)
    share = weight * tl.exp(weight * (1.0 - p.m - d) - scale[2])
    return tl.where(scale[0] != 0.0, -scale[0] * share, 0.0)


CIRCLE = Term(
    name="circle",
    row_members=4,
    scale_members=3,
    state_rows=3,
    start=start,
    fold_positive=_fold_positive,
    fold_negative=_fold_negative,
    merge=merge,
    active_positive=always,
    active_negative=always,
    finish=_finish,
    scale=scale,
    slope_positive=_slope_positive,
    slope_negative=_slope_negative,
)


def make(params: Sequence[float], metric: PairMetric, unit_rows: bool) -> tuple[Term, CircleParams]:
    """[m, gamma]"""
    return CIRCLE, CircleParams(*params)
