"""The ranked list loss; `csrc/terms/ranked_list.h`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import triton
import triton.language as tl

from ...ops.options import PairMetric
from .term import Term


class RankedListParams(NamedTuple):
    """With border = alpha − margin; slope temperatures are 0 where weights count as constants."""

    alpha: float
    border: float
    temperature_neg: float
    temperature_pos: float
    pos_weight: float
    neg_weight: float
    slope_temperature_neg: float
    slope_temperature_pos: float
    all_positives: float  # 1: inactive positives, of weight exp(0), count in the mean
    eps: float


# P* = {positive, d > border}, N* = {negative, d < alpha}:
#   L_P = Σ_P* w_p (d − border) / (Σ w_p + eps),    w_p = exp(temperature_pos (d − border))
#   L_N = Σ_N* w_n (alpha − d) / (Σ w_n + eps),     w_n = exp(temperature_neg (alpha − d))
# A row: Σ w h and Σ w of positives and of negatives; while streaming also the hardest pair that weights are relative
# to: the largest excess d − border of a positive, the nearest active negative.

FAR = tl.constexpr(1e30)


@triton.jit
def _ranked_start(BM: tl.constexpr, inputs, p):
    zero = tl.zeros([BM], tl.float32)
    return zero, zero, zero, zero


@triton.jit
def _streamed_start(BM: tl.constexpr, inputs, p):
    zero = tl.zeros([BM], tl.float32)
    return zero, zero, zero, zero, zero, zero + FAR


@triton.jit
def _positive_sums(d, excess, mask, p):
    h = tl.maximum(d - p.border, 0.0)
    w = tl.exp(p.temperature_pos * (h - excess))
    counted = tl.where(h > 0.0, w, w * p.all_positives)
    return tl.sum(tl.where(mask, w * h, 0.0), 1), tl.sum(tl.where(mask, counted, 0.0), 1)


@triton.jit
def _negative_sums(d, nearest, active, p):
    w = tl.where(active, tl.exp(p.temperature_neg * (nearest - d)), 0.0)
    return tl.sum(w * tl.where(active, p.alpha - d, 0.0), 1), tl.sum(w, 1)


@triton.jit
def _ranked_fold_positive(row, d, mask, p):
    total, mass = _positive_sums(d, 0.0, mask, p)
    return row[0] + total, row[1] + mass, row[2], row[3]


@triton.jit
def _ranked_fold_negative(row, d, mask, p):
    total, mass = _negative_sums(d, 0.5 * p.alpha, mask & (d < p.alpha), p)
    return row[0], row[1], row[2] + total, row[3] + mass


@triton.jit
def _streamed_fold_positive(row, d, mask, p):
    excess = tl.maximum(row[4], tl.max(tl.where(mask, d - p.border, 0.0), 1))
    shrink = tl.exp(p.temperature_pos * (row[4] - excess))
    total, mass = _positive_sums(d, excess[:, None], mask, p)
    return row[0] * shrink + total, row[1] * shrink + mass, row[2], row[3], excess, row[5]


@triton.jit
def _streamed_fold_negative(row, d, mask, p):
    active = mask & (d < p.alpha)
    nearest = tl.minimum(row[5], tl.min(tl.where(active, d, FAR), 1))
    shrink = tl.exp(p.temperature_neg * (nearest - row[5]))
    total, mass = _negative_sums(d, nearest[:, None], active, p)
    return row[0], row[1], row[2] * shrink + total, row[3] * shrink + mass, row[4], nearest


@triton.jit
def _ranked_merge(row, other, p):
    return row[0] + other[0], row[1] + other[1], row[2] + other[2], row[3] + other[3]


@triton.jit
def _streamed_merge(row, other, p):
    excess = tl.maximum(row[4], other[4])
    nearest = tl.minimum(row[5], other[5])
    own_pos = tl.exp(p.temperature_pos * (row[4] - excess))
    own_neg = tl.exp(p.temperature_neg * (nearest - row[5]))
    pos = tl.exp(p.temperature_pos * (other[4] - excess))
    neg = tl.exp(p.temperature_neg * (nearest - other[5]))
    return (
        row[0] * own_pos + other[0] * pos,
        row[1] * own_pos + other[1] * pos,
        row[2] * own_neg + other[2] * neg,
        row[3] * own_neg + other[3] * neg,
        excess,
        nearest,
    )


@triton.jit
def _ranked_active_positive(row, d, p):
    return d > p.border


@triton.jit
def _ranked_active_negative(row, d, p):
    return d < p.alpha


@triton.jit
def _ranked_means(row, excess, nearest, p):
    """Channel and state of finished sums, whose weights are relative to `excess` and `nearest`."""
    some_pos = row[1] > 0.0
    some_neg = row[3] > 0.0
    pos_mass = row[1] + p.eps * tl.exp(-p.temperature_pos * excess)
    neg_mass = row[3] + p.eps * tl.exp(-p.temperature_neg * (p.alpha - nearest))
    inverse_pos = tl.where(some_pos, 1.0 / tl.where(some_pos, pos_mass, 1.0), 0.0)
    inverse_neg = tl.where(some_neg, 1.0 / tl.where(some_neg, neg_mass, 1.0), 0.0)
    pos = row[0] * inverse_pos
    neg = row[2] * inverse_neg
    loss = p.pos_weight * pos + p.neg_weight * neg
    one = loss * 0.0 + 1.0
    state = (inverse_neg, neg, inverse_pos, pos, excess, nearest)
    return (loss,), (one,), (tl.where(loss > 0.0, 1.0, 0.0),), state


@triton.jit
def _ranked_finish(row, positives, negatives, p):
    zero = row[0] * 0.0
    return _ranked_means(row, zero, zero + 0.5 * p.alpha, p)


@triton.jit
def _streamed_finish(row, positives, negatives, p):
    return _ranked_means(row, row[4], tl.where(row[3] > 0.0, row[5], p.alpha), p)


@triton.jit
def _ranked_scale(state, grads, p):
    positive = p.pos_weight * grads[0] * state[2]
    negative = p.neg_weight * grads[0] * state[0]
    positive_bias = positive * p.slope_temperature_pos * state[3]
    negative_bias = negative * p.slope_temperature_neg * state[1]
    return positive, negative, positive_bias, negative_bias, state[4], state[5]


@triton.jit
def _ranked_unit(like, p):
    zero = like * 0.0
    return zero + 1.0, zero + 1.0, zero, zero, zero, zero + 0.5 * p.alpha


@triton.jit
def _ranked_slope_positive(d, scale, p):
    h = d - p.border
    w = tl.exp(p.temperature_pos * (tl.maximum(h, 0.0) - scale[4]))
    slope = w * (scale[0] * (1.0 + p.slope_temperature_pos * h) - scale[2])
    return tl.where(h > 0.0, slope, 0.0)


@triton.jit
def _ranked_slope_negative(d, scale, p):
    h = p.alpha - d
    w = tl.exp(p.temperature_neg * (scale[5] - d))
    slope = w * (scale[3] - scale[1] * (1.0 + p.slope_temperature_neg * h))
    return tl.where(h > 0.0, slope, 0.0)


# Exponents known to be small share one shift, and sums add up in any order.
RANKED_LIST = Term(
    name="ranked_list",
    row_members=4,
    scale_members=6,
    state_rows=6,
    separable=True,
    start=_ranked_start,
    fold_positive=_ranked_fold_positive,
    fold_negative=_ranked_fold_negative,
    merge=_ranked_merge,
    active_positive=_ranked_active_positive,
    active_negative=_ranked_active_negative,
    finish=_ranked_finish,
    scale=_ranked_scale,
    unit=_ranked_unit,
    slope_positive=_ranked_slope_positive,
    slope_negative=_ranked_slope_negative,
)
RANKED_LIST_STREAMED = replace(
    RANKED_LIST,
    name="ranked_list_streamed",
    row_members=6,
    separable=False,
    start=_streamed_start,
    fold_positive=_streamed_fold_positive,
    fold_negative=_streamed_fold_negative,
    merge=_streamed_merge,
    finish=_streamed_finish,
)


def make(params: Sequence[float], metric: PairMetric, unit_rows: bool) -> tuple[Term, RankedListParams]:
    """[alpha, margin, temperature_neg, temperature_pos, pos_weight, neg_weight, exact, all positives, eps]"""
    alpha, margin, temperature_neg, temperature_pos, pos_weight, neg_weight, exact, every, eps = params
    border = alpha - margin
    ranked = RankedListParams(
        alpha,
        border,
        temperature_neg,
        temperature_pos,
        pos_weight,
        neg_weight,
        temperature_neg * exact,
        temperature_pos * exact,
        every,
        eps,
    )
    reach = (4.0 if metric == "sqeuclidean" else 2.0) if unit_rows else float("inf")
    steepest = temperature_pos * (reach - border) if temperature_pos else 0.0
    bounded = temperature_neg * alpha <= 120.0 and steepest <= 60.0
    return (RANKED_LIST if bounded else RANKED_LIST_STREAMED), ranked
