"""The contrastive loss; `csrc/terms/contrastive.h`."""

from collections.abc import Sequence
from typing import NamedTuple

import triton
import triton.language as tl

from ...ops.options import PairMetric
from .term import Term


class ContrastiveParams(NamedTuple):
    """Positive pairs pay max(0, d − pos_margin)^power, negative pairs max(0, neg_margin − d)^power."""

    pos_margin: float
    neg_margin: float
    squared: float  # 1: power 2; 0: power 1


@triton.jit
def _start(BM: tl.constexpr, inputs, p):
    zero = tl.zeros([BM], tl.float32)
    return zero, zero, zero, zero


@triton.jit
def _sums(h, mask, p):
    active = mask & (h > 0.0)
    loss = tl.where(p.squared > 0.0, h * h, h)
    return tl.sum(tl.where(active, loss, 0.0), 1), tl.sum(tl.where(active, 1.0, 0.0), 1)


@triton.jit
def _fold_positive(row, d, mask, p):
    loss, active = _sums(d - p.pos_margin, mask, p)
    return row[0] + loss, row[1], row[2] + active, row[3]


@triton.jit
def _fold_negative(row, d, mask, p):
    loss, active = _sums(p.neg_margin - d, mask, p)
    return row[0], row[1] + loss, row[2], row[3] + active


@triton.jit
def _merge(row, other, p):
    return row[0] + other[0], row[1] + other[1], row[2] + other[2], row[3] + other[3]


@triton.jit
def _active_positive(row, d, p):
    return d > p.pos_margin


@triton.jit
def _active_negative(row, d, p):
    return d < p.neg_margin


@triton.jit
def _finish(row, positives, negatives, p):
    return (row[0], row[1]), (positives, negatives), (row[2], row[3]), (row[0],)


@triton.jit
def _scale(state, grads, p):
    return grads[0], grads[1]


@triton.jit
def _unit(like, p):
    return like * 0.0 + 1.0, like * 0.0 + 1.0


@triton.jit
def _slope(h, p):
    return tl.where(h > 0.0, tl.where(p.squared > 0.0, 2.0 * h, 1.0), 0.0)


@triton.jit
def _slope_positive(d, scale, p):
    return scale[0] * _slope(d - p.pos_margin, p)


@triton.jit
def _slope_negative(d, scale, p):
    return -scale[1] * _slope(p.neg_margin - d, p)


CONTRASTIVE = Term(
    name="contrastive",
    row_members=4,
    scale_members=2,
    state_rows=0,
    separable=True,
    start=_start,
    fold_positive=_fold_positive,
    fold_negative=_fold_negative,
    merge=_merge,
    active_positive=_active_positive,
    active_negative=_active_negative,
    finish=_finish,
    scale=_scale,
    unit=_unit,
    slope_positive=_slope_positive,
    slope_negative=_slope_negative,
)


def make(params: Sequence[float], metric: PairMetric, unit_rows: bool) -> tuple[Term, ContrastiveParams]:
    """[pos_margin, neg_margin, power]"""
    pos_margin, neg_margin, power = params
    return CONTRASTIVE, ContrastiveParams(pos_margin, neg_margin, float(power == 2.0))
