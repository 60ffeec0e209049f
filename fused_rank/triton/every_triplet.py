"""The rank sweep of losses that sum over every triplet of an anchor, or every one in a band of d_an - d_ap.

O(N · P) pairs of distances an anchor: each is compared on chip with a chunk of the positives at a time.
"""

import triton
import triton.language as tl

from .ranks import STATE_SLOTS, load_anchors, load_negatives, load_positives, triplet_loss
from .tile import edge_factor

_STATE_SLOTS = tl.constexpr(STATE_SLOTS)


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    e = tl.exp(-tl.abs(x))
    return tl.where(x >= 0.0, 1.0, e) / (1.0 + e)


@triton.jit
def triplet_slope(ap, an, margin, SOFT: tl.constexpr):
    """d loss / d d_ap, which is minus d loss / d d_an."""
    violation = (ap - an) + margin
    if SOFT:
        slope = sigmoid(violation)
    else:
        slope = tl.where(violation > 0.0, 1.0, 0.0)
    return slope


@triton.jit
def in_band(ap, an, margin):
    """0 < d_an - d_ap <= margin."""
    return (an > ap) & (an - ap <= margin)


@triton.jit(do_not_specialize=["first", "rows", "columns", "anchors"])
def all_forward_kernel(
    Square,
    Begin,
    End,
    Rows,  # fp32 [3, anchors]
    Slopes,  # fp32 [STATE_SLOTS, anchors]: each slot's slopes, summed over the negatives
    stride,
    margin,
    first,
    rows,
    columns,
    anchors,
    METRIC: tl.constexpr,
    SOFT: tl.constexpr,
    BAND: tl.constexpr,
    SELF: tl.constexpr,
    ROWS: tl.constexpr,
    POSITIVES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Sums over every triplet, or every one in the band."""
    row, anchor, there, begin, end, count = load_anchors(Begin, End, first, rows, SELF, ROWS)
    total = tl.zeros((ROWS,), tl.float32)
    active = tl.zeros((ROWS,), tl.float32)
    for start in range(0, tl.max(count, 0), POSITIVES):
        slot = start + tl.arange(0, POSITIVES)
        _, ap, real = load_positives(Square, stride, row, anchor, begin, count, slot, METRIC, SELF)
        losses = tl.zeros((ROWS, POSITIVES, COLUMNS), tl.float32)
        actives = tl.zeros((ROWS, POSITIVES, COLUMNS), tl.float32)
        slopes = tl.zeros((ROWS, POSITIVES, COLUMNS), tl.float32)
        near = tl.where(real, ap, 0.0)[:, :, None]
        for from_column in range(0, columns, COLUMNS):
            column = from_column + tl.arange(0, COLUMNS)
            an = load_negatives(Square, stride, row, there, begin, end, column, columns, METRIC)
            far = an[:, None, :]
            member = real[:, :, None] & (far < float("inf"))
            if BAND:
                member = member & in_band(near, far, margin)
            loss = tl.where(member, triplet_loss(near, far, margin, SOFT), 0.0)
            losses += loss
            if SOFT:
                actives += member.to(tl.float32)  # every softplus is above zero, even where it rounds to it
                slopes += tl.where(member, triplet_slope(near, far, margin, SOFT), 0.0)
            else:
                actives += (loss > 0.0).to(tl.float32)
        active_of_slot = tl.sum(actives, axis=2)
        if SOFT:
            slope = tl.sum(slopes, axis=2)
        else:
            slope = active_of_slot
        place = slot[None, :].to(tl.int64) * anchors + anchor[:, None]
        tl.store(Slopes + place, slope, mask=real & (slot < _STATE_SLOTS)[None, :])
        total += tl.sum(tl.sum(losses, axis=2), axis=1)
        active += tl.sum(active_of_slot, axis=1)
    negatives = columns - (end - begin)
    tl.store(Rows + anchor, total, mask=there)
    tl.store(Rows + anchors + anchor, count.to(tl.float32) * negatives.to(tl.float32), mask=there)
    tl.store(Rows + 2 * anchors + anchor, active, mask=there)


@triton.jit
def slopes_of_slots(
    Square,
    stride,
    margin,
    row,
    there,
    begin,
    end,
    ap,
    real,
    columns,
    METRIC: tl.constexpr,
    SOFT: tl.constexpr,
    BAND: tl.constexpr,
    ROWS: tl.constexpr,
    POSITIVES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """[ROWS, POSITIVES]: slopes of these positives, summed over the negatives."""
    slopes = tl.zeros((ROWS, POSITIVES, COLUMNS), tl.float32)
    for from_column in range(0, columns, COLUMNS):
        column = from_column + tl.arange(0, COLUMNS)
        an = load_negatives(Square, stride, row, there, begin, end, column, columns, METRIC)
        slopes += member_slopes(ap, real, an, margin, SOFT, BAND)
    return tl.sum(slopes, axis=2)


@triton.jit
def member_slopes(ap, real, an, margin, SOFT: tl.constexpr, BAND: tl.constexpr):
    """[ROWS, POSITIVES, COLUMNS]: slope of every triplet that takes part."""
    near = tl.where(real, ap, 0.0)[:, :, None]
    far = an[:, None, :]
    member = real[:, :, None] & (far < float("inf"))
    if BAND:
        member = member & in_band(near, far, margin)
    return tl.where(member, triplet_slope(near, far, margin, SOFT), 0.0)


@triton.jit(do_not_specialize=["first", "rows", "columns", "anchors"])
def all_backward_kernel(
    Square,
    Coefficient,  # fp32 [rows, stride]: factor of x_anchor - x_j in the gradient, 0 where it has none
    Begin,
    End,
    Slopes,
    Upstream,  # fp32, by anchor
    stride,
    margin,
    first,
    rows,
    columns,
    anchors,
    METRIC: tl.constexpr,
    SOFT: tl.constexpr,
    BAND: tl.constexpr,
    SELF: tl.constexpr,
    ROWS: tl.constexpr,
    POSITIVES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Distances become coefficients: the negatives' first, then the positives', summed again beyond the kept slots."""
    row, anchor, there, begin, end, count = load_anchors(Begin, End, first, rows, SELF, ROWS)
    upstream = tl.load(Upstream + anchor, mask=there, other=0.0)
    most = tl.max(count, 0)
    for from_column in range(0, columns, COLUMNS):
        column = from_column + tl.arange(0, COLUMNS)
        an = load_negatives(Square, stride, row, there, begin, end, column, columns, METRIC)
        slopes = tl.zeros((ROWS, COLUMNS), tl.float32)
        for start in range(0, most, POSITIVES):
            slot = start + tl.arange(0, POSITIVES)
            _, ap, real = load_positives(Square, stride, row, anchor, begin, count, slot, METRIC, SELF)
            slopes += tl.sum(member_slopes(ap, real, an, margin, SOFT, BAND), axis=1)
        real_negative = an < float("inf")
        factor = edge_factor(tl.where(real_negative, an, 0.0), METRIC)
        place = row[:, None].to(tl.int64) * stride + column[None, :]
        # Of the entries in the anchor's range only its own place, which is no pair, is written here.
        other = (column[None, :] < begin[:, None]) | (column[None, :] >= end[:, None])
        if SELF:
            other = other | (column[None, :] == anchor[:, None])
        value = tl.where(real_negative, -upstream[:, None] * slopes * factor, 0.0)
        tl.store(Coefficient + place, value, mask=there[:, None] & other & (column < columns)[None, :])
    for start in range(0, most, POSITIVES):
        slot = start + tl.arange(0, POSITIVES)
        position, ap, real = load_positives(Square, stride, row, anchor, begin, count, slot, METRIC, SELF)
        if start < _STATE_SLOTS:
            kept = slot[None, :].to(tl.int64) * anchors + anchor[:, None]
            slope = tl.load(Slopes + kept, mask=real, other=0.0)
        else:
            slope = slopes_of_slots(
                Square,
                stride,
                margin,
                row,
                there,
                begin,
                end,
                ap,
                real,
                columns,
                METRIC,
                SOFT,
                BAND,
                ROWS,
                POSITIVES,
                COLUMNS,
            )
        value = upstream[:, None] * slope * edge_factor(tl.where(ap < float("inf"), ap, 0.0), METRIC)
        place = row[:, None].to(tl.int64) * stride + position
        tl.store(Coefficient + place, tl.where(ap < float("inf"), value, 0.0), mask=real)
