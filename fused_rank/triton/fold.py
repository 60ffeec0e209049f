"""A term applied to a tile: pairs into rows' accumulators, distances into slopes."""

import triton
import triton.language as tl

from .tile import any_set, by_columns, by_rows, load_members


@triton.jit
def load_inputs(pointer, i, rows, TERM: tl.constexpr):
    """The inputs of rows i, a tuple of vectors [I], from a table [TERM.inputs, rows]."""
    return load_members(pointer, i, rows, TERM.inputs)


@triton.jit
def fold_tile(row, d, positive, negative, some_positive, p, TERM: tl.constexpr):
    """Fold distances d of a tile into the rows' accumulators; also whether any pair of it contributes."""
    if TERM.positives_only:
        live = 0
    else:
        live = any_set(negative & TERM.active_negative(row, d, p))
        if live > 0:
            row = TERM.fold_negative(row, d, negative, p)
    if some_positive:
        row = TERM.fold_positive(row, d, positive, p)
        live = tl.maximum(live, any_set(positive & TERM.active_positive(row, d, p)))
    return row, live


@triton.jit
def store_members(pointer, row, i, rows, part, parts, TERM: tl.constexpr):
    """A row's accumulators into a table [members, parts, rows]."""
    count: tl.constexpr = TERM.row_members
    for m in tl.static_range(count):
        at = tl.cast(m * parts + part, tl.int64) * rows
        tl.store(pointer + at + i, row[m], mask=i < rows)


@triton.jit
def slopes(d, scale, positive, negative, some_positive, p, TERM: tl.constexpr):
    """d loss / d distance of a tile's pairs, for queries of that scale; 0 outside both masks."""
    if TERM.positives_only:
        slope = tl.zeros(d.shape, tl.float32)
    else:
        slope = tl.where(negative, TERM.slope_negative(d, scale, p), 0.0)
    if some_positive:
        slope = tl.where(positive, TERM.slope_positive(d, scale, p), slope)
    return slope


@triton.jit
def coefficients(
    d,
    i,
    j,
    of,  # (positive, negative, some_positive)
    scales,  # of the rows, of the columns
    p,
    rows,
    columns,
    TERM: tl.constexpr,
    OF_ROWS: tl.constexpr,
    OF_COLUMNS: tl.constexpr,
):
    """A tile's slopes in the losses of its rows, of its columns, or of both."""
    c = tl.zeros(d.shape, tl.float32)
    if OF_ROWS:
        scale = by_rows(load_members(scales[0], i, rows, TERM.scale_members))
        c += slopes(d, scale, of[0], of[1], of[2], p, TERM)
    if OF_COLUMNS:
        scale = by_columns(load_members(scales[1], j, columns, TERM.scale_members))
        c += slopes(d, scale, of[0], of[1], of[2], p, TERM)
    return c
