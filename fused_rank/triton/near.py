"""Close pairs, which the hot sweeps leave out: a product has too few digits of their distance and of their
difference.

Those sweeps mark tiles with such pairs by the bit 2 of a map. Here the marked tiles are visited again.
Pairs within a cluster (`clusters.py`) are made right by a second product, of the rows relative to their cluster's
centre, the others from the rows' difference; both are added to what the sweep left. The latter is slow by the pair
and, while few need it, cheap in all; and all this keeps the registers that it needs out of the hot sweeps.
"""

from typing import Any

import triton
import triton.language as tl

from .configs import local_precision, near_tiles
from .fold import coefficients, fold_tile, load_inputs, slopes, store_members
from .launch import launch
from .pull import pull_local, pull_near
from .tile import any_set, band, by_rows, edge_factor, kinds, load_ranges, near_distances, tiles_of, to_metric


@triton.jit(do_not_specialize=["rows", "columns", "apart", "parts", "slots"])
def near_statistics_kernel(
    x,
    y,
    begin,
    end,
    inputs,
    partial,
    live,
    p,
    rows,
    columns,
    width,
    apart,
    parts,
    slots,
    TERM: tl.constexpr,
    METRIC: tl.constexpr,
    PRECISION: tl.constexpr,
    LOCAL: tl.constexpr,
    LIVE: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Close pairs into slots of their own, [parts, 2 parts), of the partial rows, and into the live map
    [row blocks, column tiles of LIVE].
    """
    block = tl.program_id(0)
    part = tl.program_id(1)
    i = block * BM + tl.arange(0, BM)
    first, last = load_ranges(begin, end, i, rows)
    some, most = band(first, last, i, rows)
    row = TERM.start(BM, load_inputs(inputs, i, rows, TERM), p)
    count = tl.cdiv(columns, LIVE)
    start, stop = tiles_of(part, parts, count, some, most, LIVE, TERM.positives_only)
    for t in range(start, stop):
        at = tl.cast(block, tl.int64) * count + t
        marks = tl.load(live + at)
        if (marks & 2) != 0:
            for j0 in range(t * LIVE, t * LIVE + LIVE, BN):
                j = j0 + tl.arange(0, BN)
                squared, close, _ = near_distances(
                    x, y, i, j, rows, columns, width, apart, PRECISION, LOCAL, BK
                )
                positive, negative = kinds(i, j, first, last, rows, columns, apart)
                some_positive = (some < j0 + BN) & (most > j0)
                d = to_metric(squared, METRIC)
                row, alive = fold_tile(row, d, positive & close, negative & close, some_positive, p, TERM)
                marks = marks | alive.to(tl.uint8)
            tl.store(live + at, marks)
    store_members(partial, row, i, rows, parts + part, slots, TERM)


@triton.jit(do_not_specialize=["rows", "columns", "apart", "parts", "live_row", "live_column"])
def near_gradient_kernel(
    x,
    y,
    begin,
    end,
    own_scales,
    other_scales,
    live,
    out,
    p,
    rows,
    columns,
    width,
    apart,
    parts,
    live_row,
    live_column,
    TERM: tl.constexpr,
    METRIC: tl.constexpr,
    OF_ROWS: tl.constexpr,
    OF_COLUMNS: tl.constexpr,
    UNIT: tl.constexpr,
    LIVE: tl.constexpr,
    PRECISION: tl.constexpr,
    LOCAL: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    DS: tl.constexpr,
):
    """Close pairs of live tiles added to the gradients out [parts, R, D]; with UNIT "positive" or "negative" ones at
    scale 1.
    """
    block = tl.program_id(0)
    part = tl.program_id(1)
    i = block * BM + tl.arange(0, BM)
    first, last = load_ranges(begin, end, i, rows)
    some, most = band(first, last, i, rows)
    index = tl.load(x.index + i, mask=i < rows, other=0) + tl.cast(part, tl.int64) * rows
    count = tl.cdiv(columns, BN)
    start, stop = tiles_of(part, parts, count, some, most, BN, TERM.positives_only)
    for t in range(start, stop):
        marks = live + tl.cast(block, tl.int64) * live_row + tl.cast(t * BN // LIVE, tl.int64) * live_column
        if tl.load(marks) == 3:
            j = t * BN + tl.arange(0, BN)
            squared, close, apiece = near_distances(
                x, y, i, j, rows, columns, width, apart, PRECISION, LOCAL, BK
            )
            positive, negative = kinds(i, j, first, last, rows, columns, apart)
            some_positive = (some < t * BN + BN) & (most > t * BN)
            d = to_metric(squared, METRIC)
            if UNIT is None:
                of = (positive, negative, some_positive)
                scales = (own_scales, other_scales)
                c = coefficients(d, i, j, of, scales, p, rows, columns, TERM, OF_ROWS, OF_COLUMNS)
            else:
                unit = by_rows(TERM.unit(tl.zeros([BM], tl.float32), p))
                c = slopes(d, unit, positive, negative, some_positive, p, TERM)
            kept = close
            if UNIT == "positive":
                kept = close & positive
            elif UNIT == "negative":
                kept = close & negative
            c = tl.where(kept, c * edge_factor(d, METRIC), 0.0)
            by_product = tl.where(apiece, 0.0, c)
            by_pair = tl.where(apiece, c, 0.0)
            for f0 in range(0, width, DS):
                f = f0 + tl.arange(0, DS)
                sums = pull_near(tl.zeros([BM, DS], tl.float32), by_pair, x, y, i, j, f, rows, width)
                _add_to(out, index, sums, i, f, rows, width)
            if any_set(by_product != 0.0) > 0:
                for f0 in range(0, width, DS):
                    f = f0 + tl.arange(0, DS)
                    sums = pull_local(by_product, x, y, i, j, f, rows, columns, width, LOCAL)
                    _add_to(out, index, sums, i, f, rows, width)


@triton.jit
def _add_to(out, index, sums, i, f, rows, width):
    inside = (i < rows)[:, None] & (f < width)[None, :]
    there = out + index[:, None] * width + f[None, :]
    tl.store(there, tl.load(there, mask=inside, other=0.0) + sums, mask=inside)
    tl.debug_barrier()  # the next addition reads what this one wrote


def near_statistics(
    arguments: dict[str, Any], constexprs: dict[str, Any], blocks: int, *, live_columns: int
) -> None:
    """After a sweep with these arguments that left close pairs out; its partial rows have slots for them after its
    own, and the live map has tiles of BM × `live_columns`.
    """
    shape = near_tiles(arguments["x"].rows.dtype, constexprs["BM"])
    launch(
        near_statistics_kernel,
        (blocks, arguments["parts"]),
        {name: arguments[name] for name in (*_NEAR, "inputs", "partial", "slots")},
        {**_kept(constexprs), "LIVE": live_columns, "BK": shape.depth},
        **shape.options,
    )


def near_gradient(
    arguments: dict[str, Any],
    constexprs: dict[str, Any],
    blocks: int,
    *,
    live_columns: int,
    unit: str | None = None,
) -> None:
    """After a gradient sweep with these arguments, into its `out`; the live map has tiles of BM × `live_columns`."""
    shape = near_tiles(arguments["x"].rows.dtype, constexprs["BM"])
    launch(
        near_gradient_kernel,
        (blocks, arguments["parts"]),
        {
            name: arguments[name]
            for name in (*_NEAR, "own_scales", "other_scales", "out", "live_row", "live_column")
        },
        {
            **_kept(constexprs),
            "OF_ROWS": constexprs["OF_ROWS"],
            "OF_COLUMNS": constexprs["OF_COLUMNS"],
            "UNIT": unit,
            "LIVE": live_columns,
            "BK": shape.depth,
            "DS": shape.features,
        },
        **shape.options,
    )


_NEAR = ("x", "y", "begin", "end", "live", "p", "rows", "columns", "width", "apart", "parts")


def _kept(constexprs: dict[str, Any]) -> dict[str, Any]:
    kept = {name: constexprs[name] for name in ("TERM", "METRIC", "PRECISION", "BM", "BN")}
    return {**kept, "LOCAL": local_precision()}
