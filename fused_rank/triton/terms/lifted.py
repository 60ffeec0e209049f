"""The generalised lifted structure loss: [log Σ_p exp(d − pos_margin) + log Σ_n exp(neg_margin − d)]₊, where the
logarithm of an empty sum is 0.
"""

from collections.abc import Sequence
from typing import NamedTuple

import triton
import triton.language as tl

from ...ops.options import PairMetric
from .both_sums import merge, scale, start
from .logits import always, fold_exponentials, log_sum
from .term import Term


class LiftedParams(NamedTuple):
    pos_margin: float
    neg_margin: float


@triton.jit
def _fold_positive(row, d, mask, p):
    peak, total = fold_exponentials(row[0], row[1], d - p.pos_margin, mask)
    return peak, total, row[2], row[3]


@triton.jit
def _fold_negative(row, d, mask, p):
    peak, total = fold_exponentials(row[2], row[3], p.neg_margin - d, mask)
    return row[0], row[1], peak, total


@triton.jit
def _finish(row, positives, negatives, p):
    pull = tl.where(positives > 0.0, log_sum(row[0], row[1]), 0.0)
    push = tl.where(negatives > 0.0, log_sum(row[2], row[3]), 0.0)
    loss = tl.maximum(pull + push, 0.0)
    active = (loss > 0.0).to(tl.float32)
    return (loss,), (loss * 0.0 + 1.0,), (active,), (pull, push, active)


@triton.jit
def _slope_positive(d, scale, p):
    return scale[0] * tl.exp(d - p.pos_margin - scale[1])


@triton.jit
def _slope_negative(d, scale, p):
    return -scale[0] * tl.exp(p.neg_margin - d - scale[2])


LIFTED = Term(
    name="lifted",
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


def make(params: Sequence[float], metric: PairMetric, unit_rows: bool) -> tuple[Term, LiftedParams]:
    """[pos_margin, neg_margin]"""
    return LIFTED, LiftedParams(*params)
