"""A term applied to a tile: pairs into rows' accumulators, distances into slopes."""

import triton
import triton.language as tl

from .tile import any_set


@triton.jit
def fold_tile(row, d, positive, negative, some_positive, p, TERM: tl.constexpr):
    """Fold distances d of a tile into the rows' accumulators; also whether any pair of it contributes."""
    live = any_set(negative & TERM.active_negative(d, p))
    if live > 0:
        row = TERM.fold_negative(row, d, negative, p)
    if some_positive:
        row = TERM.fold_positive(row, d, positive, p)
        live = tl.maximum(live, any_set(positive & TERM.active_positive(d, p)))
    return row, live


@triton.jit
def store_members(pointer, members, i, rows, part, parts):
    """A tuple of vectors [I] into a table [members, parts, rows]."""
    for m in tl.static_range(len(members)):
        at = tl.cast(m * parts + part, tl.int64) * rows
        tl.store(pointer + at + i, members[m], mask=i < rows)


@triton.jit
def slopes(d, scale, positive, negative, some_positive, p, TERM: tl.constexpr):
    """d loss / d distance of a tile's pairs, for queries of that scale; 0 outside both masks."""
    slope = tl.where(negative, TERM.slope_negative(d, scale, p), 0.0)
    if some_positive:
        slope = tl.where(positive, TERM.slope_positive(d, scale, p), slope)
    return slope
