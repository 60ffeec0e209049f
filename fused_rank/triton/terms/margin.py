"""The margin loss, about a border b of each query's own: positive pairs pay [d − b + margin]₊, negative pairs
[b − d + margin]₊.
"""

from collections.abc import Sequence
from typing import NamedTuple

import triton
import triton.language as tl

from ...ops.options import PairMetric
from .term import Term


class MarginParams(NamedTuple):
    margin: float


# A row: sums of positives and of negatives, how many of each are active; then b, its input.


@triton.jit
def _start(BM: tl.constexpr, inputs, p):
    zero = tl.zeros([BM], tl.float32)
    return zero, zero, zero, zero, inputs[0]


@triton.jit
def _sums(h, mask):
    h = tl.where(mask, tl.maximum(h, 0.0), 0.0)
    return tl.sum(h, 1), tl.sum((h > 0.0).to(tl.float32), 1)


@triton.jit
def _fold_positive(row, d, mask, p):
    loss, active = _sums(d - row[4][:, None] + p.margin, mask)
    return row[0] + loss, row[1], row[2] + active, row[3], row[4]


@triton.jit
def _fold_negative(row, d, mask, p):
    loss, active = _sums(row[4][:, None] - d + p.margin, mask)
    return row[0], row[1] + loss, row[2], row[3] + active, row[4]


@triton.jit
def _merge(row, other, p):
    return row[0] + other[0], row[1] + other[1], row[2] + other[2], row[3] + other[3], row[4]


@triton.jit
def _active_positive(row, d, p):
    return d - row[4][:, None] + p.margin > 0.0


@triton.jit
def _active_negative(row, d, p):
    return row[4][:, None] - d + p.margin > 0.0


@triton.jit
def _finish(row, positives, negatives, p):
    return (row[0], row[1]), (positives, negatives), (row[2], row[3]), (row[4], row[2], row[3])


@triton.jit
def _scale(state, grads, p):
    return grads[0], grads[1], state[0]


@triton.jit
def _slope_positive(d, scale, p):
    return tl.where(d - scale[2] + p.margin > 0.0, scale[0], 0.0)


@triton.jit
def _slope_negative(d, scale, p):
    return tl.where(scale[2] - d + p.margin > 0.0, -scale[1], 0.0)


@triton.jit
def _input_gradient(state, grads, p):
    return (grads[1] * state[2] - grads[0] * state[1],)


MARGIN = Term(
    name="margin",
    row_members=4,
    scale_members=3,
    state_rows=3,
    inputs=1,
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


def make(params: Sequence[float], metric: PairMetric, unit_rows: bool) -> tuple[Term, MarginParams]:
    """[margin]"""
    return MARGIN, MarginParams(*params)
