"""The rank sweep: anchors against whole rows of squared distances, positives resident a chunk at a time.

A program owns ROWS anchors. Labels are sorted, so an anchor's positives are the entries [begin, end) of its own row;
they have slots, in that order, its own position left out. Chunks of POSITIVES slots are compared with chunks of COLUMNS
entries, elementwise, and reduced over the columns once, after the last of them. Sums have one order: same input, same
bits.
"""

import triton
import triton.language as tl

from .keys import NOBODY, farthest_first, nearest_first, value_of_far, value_of_near
from .tile import to_metric

STATE_SLOTS = 64  # per anchor, what a forward pass keeps for its backward


@triton.jit
def softplus(x):
    """log(1 + exp(x)), right to the last digits on both sides."""
    e = tl.exp(-tl.abs(x))
    return tl.maximum(x, 0.0) + tl.where(e < 1e-2, e * (1.0 - e * (0.5 - e / 3.0)), tl.log(1.0 + e))


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
def load_anchors(Begin, End, first, rows, SELF: tl.constexpr, ROWS: tl.constexpr):
    """The program's rows of the strip [ROWS], their anchors, which exist, ranges and counts of positives."""
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
    """Positions [ROWS, POSITIVES] of these slots' positives, distances (infinite where none), and which exist."""
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
    """For each (anchor, positive) the nearest negative strictly farther, else the farthest; and their losses."""
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
        if SOFT:
            active += tl.sum(found.to(tl.float32), axis=1)
        else:
            active += tl.sum((loss > 0.0).to(tl.float32), axis=1)
    tl.store(Rows + anchor, total, mask=there)
    tl.store(Rows + anchors + anchor, found_count, mask=there)
    tl.store(Rows + 2 * anchors + anchor, active, mask=there)
