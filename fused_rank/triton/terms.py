"""The mathematics of pair losses on a tile; `csrc/terms/*.h` says the same for the CPU. A sweep calls a term and
knows no loss.

A new loss adds its functions, its parameters and its line in `of`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import triton
import triton.language as tl

from ..ops.options import Metric


@dataclass(frozen=True)
class Term:
    """A loss as kernels take it: `TERM: tl.constexpr`. d is a tile of distances [BM, BN], p the parameters.

    Rows are tuples of accumulators [BM]. Scales are tuples of what slopes need of a query: its statistics times
    its upstream gradient, shaped to broadcast with d.
    """

    name: str
    row_members: int
    scale_members: int
    # slopes at `unit` times the first two scale members are slopes: the gradient can come before the statistics
    separable: bool
    start: Any  # (BM, p) -> row of nothing
    fold_positive: Any  # (row, d, mask, p) -> row
    fold_negative: Any
    merge: Any  # (row, row, p) -> row
    active_positive: Any  # (d, p) -> does a positive at d contribute? Dead tiles are passed over
    active_negative: Any
    finish: Any  # (row, positives, negatives, p) -> (sums, counts, active, state): tuples by channel; state may be (0,)
    scale: Any  # (state, grads by channel, p) -> scale
    unit: Any  # (like, p) -> scale of upstream and statistics 1, where slopes need no others
    slope_positive: Any  # (d, scale, p) -> d loss / d distance
    slope_negative: Any

    @property
    def cache_key(self) -> str:
        """What compilations depend on, as triton asks of constants that hold functions."""
        values = (getattr(self, name) for name in self.__dataclass_fields__)
        return "".join(str(getattr(value, "cache_key", value)) for value in values)

    def __repr__(self) -> str:
        return self.name


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
def _ranked_start(BM: tl.constexpr, p):
    zero = tl.zeros([BM], tl.float32)
    return zero, zero, zero, zero


@triton.jit
def _streamed_start(BM: tl.constexpr, p):
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
def _ranked_active_positive(d, p):
    return d > p.border


@triton.jit
def _ranked_active_negative(d, p):
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


def _ranked_list(name: str, members: int, *functions: Any) -> Term:
    start, fold_positive, fold_negative, merge, finish = functions
    return Term(
        name,
        members,
        6,
        members == 4,
        start,
        fold_positive,
        fold_negative,
        merge,
        _ranked_active_positive,
        _ranked_active_negative,
        finish,
        _ranked_scale,
        _ranked_unit,
        _ranked_slope_positive,
        _ranked_slope_negative,
    )


# Exponents known to be small share one shift, and sums add up in any order.
RANKED_LIST = _ranked_list(
    "ranked_list",
    4,
    _ranked_start,
    _ranked_fold_positive,
    _ranked_fold_negative,
    _ranked_merge,
    _ranked_finish,
)
RANKED_LIST_STREAMED = _ranked_list(
    "ranked_list_streamed",
    6,
    _streamed_start,
    _streamed_fold_positive,
    _streamed_fold_negative,
    _streamed_merge,
    _streamed_finish,
)


class ContrastiveParams(NamedTuple):
    """Positive pairs pay max(0, d − pos_margin)^power, negative pairs max(0, neg_margin − d)^power."""

    pos_margin: float
    neg_margin: float
    squared: float  # 1: power 2; 0: power 1


@triton.jit
def _contrastive_start(BM: tl.constexpr, p):
    zero = tl.zeros([BM], tl.float32)
    return zero, zero, zero, zero


@triton.jit
def _contrastive_sums(h, mask, p):
    active = mask & (h > 0.0)
    loss = tl.where(p.squared > 0.0, h * h, h)
    return tl.sum(tl.where(active, loss, 0.0), 1), tl.sum(tl.where(active, 1.0, 0.0), 1)


@triton.jit
def _contrastive_fold_positive(row, d, mask, p):
    loss, active = _contrastive_sums(d - p.pos_margin, mask, p)
    return row[0] + loss, row[1], row[2] + active, row[3]


@triton.jit
def _contrastive_fold_negative(row, d, mask, p):
    loss, active = _contrastive_sums(p.neg_margin - d, mask, p)
    return row[0], row[1] + loss, row[2], row[3] + active


@triton.jit
def _contrastive_merge(row, other, p):
    return row[0] + other[0], row[1] + other[1], row[2] + other[2], row[3] + other[3]


@triton.jit
def _contrastive_active_positive(d, p):
    return d > p.pos_margin


@triton.jit
def _contrastive_active_negative(d, p):
    return d < p.neg_margin


@triton.jit
def _contrastive_finish(row, positives, negatives, p):
    return (row[0], row[1]), (positives, negatives), (row[2], row[3]), (row[0],)


@triton.jit
def _contrastive_scale(state, grads, p):
    return grads[0], grads[1]


@triton.jit
def _contrastive_unit(like, p):
    return like * 0.0 + 1.0, like * 0.0 + 1.0


@triton.jit
def _contrastive_slope(h, p):
    return tl.where(h > 0.0, tl.where(p.squared > 0.0, 2.0 * h, 1.0), 0.0)


@triton.jit
def _contrastive_slope_positive(d, scale, p):
    return scale[0] * _contrastive_slope(d - p.pos_margin, p)


@triton.jit
def _contrastive_slope_negative(d, scale, p):
    return -scale[1] * _contrastive_slope(p.neg_margin - d, p)


CONTRASTIVE = Term(
    "contrastive",
    4,
    2,
    True,
    _contrastive_start,
    _contrastive_fold_positive,
    _contrastive_fold_negative,
    _contrastive_merge,
    _contrastive_active_positive,
    _contrastive_active_negative,
    _contrastive_finish,
    _contrastive_scale,
    _contrastive_unit,
    _contrastive_slope_positive,
    _contrastive_slope_negative,
)


def for_gradient(term: Term) -> Term:
    """The term with the same scales and slopes: those are compiled once."""
    return RANKED_LIST if term is RANKED_LIST_STREAMED else term


def of(name: str, params: Sequence[float], metric: Metric, unit_rows: bool) -> tuple[Term, tuple[float, ...]]:
    """The term that Python knows by `name`, and its parameters as kernels take them."""
    if name == "contrastive":
        pos_margin, neg_margin, power = params
        return CONTRASTIVE, ContrastiveParams(pos_margin, neg_margin, float(power == 2.0))
    if name == "ranked_list":
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
    raise ValueError(f"unknown term: {name}")
