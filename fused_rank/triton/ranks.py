"""The rank sweep's kernels: anchors against their whole rows of squared distances, positives resident a chunk at a time.

A program owns ROWS anchors. Labels are sorted, so an anchor's positives are the entries [begin, end) of its own row; they
have slots, in that order, its own position left out. Chunks of POSITIVES slots are compared with chunks of COLUMNS entries,
elementwise, and reduced over the columns once, after the last of them. Sums have one order: same input, same bits.
"""

import triton
import triton.language as tl

from .keys import NOBODY, farthest_first, nearest_first, value_of_far, value_of_near
from .tile import edge_factor, to_metric

STATE_SLOTS = 64  # per anchor, what a forward pass keeps for its backward
_STATE_SLOTS = tl.constexpr(STATE_SLOTS)


@triton.jit
def softplus(x):
    """log(1 + exp(x)), right to the last digits on both sides."""
    e = tl.exp(-tl.abs(x))
    return tl.maximum(x, 0.0) + tl.where(e < 1e-2, e * (1.0 - e * (0.5 - e / 3.0)), tl.log(1.0 + e))


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    e = tl.exp(-tl.abs(x))
    return tl.where(x >= 0.0, 1.0, e) / (1.0 + e)


@triton.jit
def triplet_loss(ap, an, margin, SOFT: tl.constexpr):
    """Hinge or softplus of d_ap - d_an + margin."""
    violation = (ap - an) + margin
    if SOFT:
        loss = softplus(violation)
    else:
        loss = tl.maximum(violation, 0.0)
    return loss


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


@triton.jit
def load_anchors(Begin, End, first, rows, SELF: tl.constexpr, ROWS: tl.constexpr):
    """The program's rows of the strip [ROWS], their anchors, which exist, and their ranges; an empty range where none does."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    there = row < rows
    anchor = first + row
    begin = tl.load(Begin + anchor, mask=there, other=0)
    end = tl.load(End + anchor, mask=there, other=0)
    count = end - begin
    if SELF:
        count = tl.maximum(count - 1, 0)
    return row, anchor, there, begin, end, count


@triton.jit
def load_positives(
    Square,
    stride,
    row,
    anchor,
    begin,
    count,
    slot,
    METRIC: tl.constexpr,
    SELF: tl.constexpr,
):
    """Positions [ROWS, POSITIVES] of the positives in these slots, their distances (infinite where none), and which exist."""
    real = slot[None, :] < count[:, None]
    position = begin[:, None] + slot[None, :]
    if SELF:
        position += (position >= anchor[:, None]).to(tl.int32)
    place = row[:, None].to(tl.int64) * stride + position
    square = tl.load(Square + place, mask=real, other=float("inf"))
    return position, to_metric(square, METRIC), real


@triton.jit
def load_negatives(
    Square,
    stride,
    row,
    there,
    begin,
    end,
    column,
    columns,
    METRIC: tl.constexpr,
):
    """Distances [ROWS, COLUMNS], infinite where the entry is no negative, or one that is infinitely far."""
    inside = there[:, None] & (column < columns)[None, :]
    place = row[:, None].to(tl.int64) * stride + column[None, :]
    square = tl.load(Square + place, mask=inside, other=float("inf"))
    positive = (column[None, :] >= begin[:, None]) & (column[None, :] < end[:, None])
    return tl.where(positive, float("inf"), to_metric(square, METRIC))


@triton.jit
def farthest_negatives(
    Square,
    stride,
    Number,
    row,
    there,
    begin,
    end,
    columns,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Key of each row's farthest negative, the lowest original row among equals; NOBODY where there is none."""
    best = tl.full((ROWS, COLUMNS), NOBODY, tl.int64)
    for start in range(0, columns, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        square = load_negatives(Square, stride, row, there, begin, end, column, columns, "sqeuclidean")
        number = tl.load(Number + column, mask=column < columns, other=0)
        key = farthest_first(square, number[None, :])
        best = tl.minimum(best, tl.where(square < float("inf"), key, NOBODY))
    return tl.min(best, axis=1)


@triton.jit(do_not_specialize=["slot_stride", "slots", "first", "rows", "columns", "anchors"])
def semihard_kernel(
    Square,  # fp32 [rows, stride]: the strip's squared distances
    Number,  # int32 [columns]: original row of a gallery position
    Begin,  # int32, by anchor
    End,
    Offset,  # int64, by anchor: where its slot 0 goes in Negative
    Negative,  # int32: original row of each slot's negative, -1 for none
    Rows,  # fp32 [3, anchors]: sum, count and number of losses above zero
    stride,
    slot_stride,
    slots,  # how many of an anchor's slots Negative holds
    margin,
    first,  # the strip's first anchor
    rows,
    columns,
    anchors,
    METRIC: tl.constexpr,
    SOFT: tl.constexpr,
    SELF: tl.constexpr,
    ROWS: tl.constexpr,
    POSITIVES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """For each (anchor, positive) the nearest negative strictly farther, else the farthest; and the losses of these triplets."""
    row, anchor, there, begin, end, count = load_anchors(Begin, End, first, rows, SELF, ROWS)
    offset = tl.load(Offset + anchor, mask=there, other=0)
    total = tl.zeros((ROWS,), tl.float32)
    found_count = tl.zeros((ROWS,), tl.float32)
    active = tl.zeros((ROWS,), tl.float32)
    for start in range(0, tl.max(count, 0), POSITIVES):
        slot = start + tl.arange(0, POSITIVES)
        _, ap, real = load_positives(Square, stride, row, anchor, begin, count, slot, "sqeuclidean", SELF)
        best = tl.full((ROWS, POSITIVES, COLUMNS), NOBODY, tl.int64)
        for from_column in range(0, columns, COLUMNS):
            column = from_column + tl.arange(0, COLUMNS)
            an = load_negatives(Square, stride, row, there, begin, end, column, columns, "sqeuclidean")
            number = tl.load(Number + column, mask=column < columns, other=0)
            key = tl.where(an < float("inf"), nearest_first(an, number[None, :]), NOBODY)
            farther = an[:, None, :] > ap[:, :, None]
            best = tl.minimum(best, tl.where(farther, key[:, None, :], NOBODY))
        near = tl.min(best, axis=2)  # [ROWS, POSITIVES]
        square = value_of_near(near)
        negative = (near & 0x7FFFFFFF).to(tl.int32)
        found = near != NOBODY
        if tl.max(tl.max((real & (near == NOBODY)).to(tl.int32), 1), 0) > 0:
            far = farthest_negatives(Square, stride, Number, row, there, begin, end, columns, ROWS, COLUMNS)
            square = tl.where(found, square, value_of_far(far)[:, None])
            negative = tl.where(found, negative, (far & 0x7FFFFFFF).to(tl.int32)[:, None])
            found = found | (far != NOBODY)[:, None]
        found = found & real & (ap < float("inf"))
        place = offset[:, None] + slot[None, :].to(tl.int64) * slot_stride
        tl.store(Negative + place, tl.where(found, negative, -1), mask=real & (slot < slots)[None, :])
        safe = tl.where(found, ap, 0.0)
        loss = triplet_loss(
            to_metric(safe, METRIC),
            to_metric(tl.where(found, square, 0.0), METRIC),
            margin,
            SOFT,
        )
        loss = tl.where(found, loss, 0.0)
        total += tl.sum(loss, axis=1)
        found_count += tl.sum(found.to(tl.float32), axis=1)
        active += tl.sum((loss > 0.0).to(tl.float32), axis=1)
    tl.store(Rows + anchor, total, mask=there)
    tl.store(Rows + anchors + anchor, found_count, mask=there)
    tl.store(Rows + 2 * anchors + anchor, active, mask=there)


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
            actives += (loss > 0.0).to(tl.float32)
            if SOFT:
                slopes += tl.where(member, triplet_slope(near, far, margin, SOFT), 0.0)
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
    """Turns distances into coefficients: of the negatives first, then of the positives, slots beyond the kept ones summed again."""
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
