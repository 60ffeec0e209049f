"""Close pairs, which the hot sweeps leave out: a product has too few digits of their distance and of their
difference.

Those sweeps mark tiles with such pairs in a map [row blocks, column tiles]. Here the marked tiles are visited again,
their close pairs recomputed from the rows' difference and added to what the sweep left. That is slow by the pair and,
while few are close, cheap in all; and it keeps the registers that it needs out of the hot sweeps.
"""

from typing import Any

import triton
import triton.language as tl

from .configs import near_tiles
from .fold import fold_tile, slopes, store_members
from .launch import launch
from .pull import pull_near
from .tile import (
    band,
    by_columns,
    by_rows,
    edge_factor,
    kinds,
    load_members,
    load_ranges,
    squared_distances,
    to_metric,
)


@triton.jit(do_not_specialize=["rows", "columns", "parts", "slots"])
def near_statistics_kernel(
    x,
    y,
    begin,
    end,
    partial,
    near,
    live,
    p,
    rows,
    columns,
    width,
    parts,
    slots,
    TERM: tl.constexpr,
    METRIC: tl.constexpr,
    SELF: tl.constexpr,
    PRECISION: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Close pairs into slots of their own, [parts, 2 parts), of the partial rows, and into the live map if there is
    one.
    """
    block = tl.program_id(0)
    part = tl.program_id(1)
    i = block * BM + tl.arange(0, BM)
    first, last = load_ranges(begin, end, i, rows)
    some, most = band(first, last, i, rows)
    row = TERM.start(BM, p)
    count = tl.cdiv(columns, BN)
    share = tl.cdiv(count, parts)
    for t in range(part * share, tl.minimum((part + 1) * share, count)):
        at = tl.cast(block, tl.int64) * count + t
        if tl.load(near + at) != 0:
            j = t * BN + tl.arange(0, BN)
            squared, close = squared_distances(x, y, i, j, rows, columns, width, SELF, PRECISION, BK)
            positive, negative = kinds(i, j, first, last, rows, columns, SELF)
            some_positive = (some < t * BN + BN) & (most > t * BN)
            d = to_metric(squared, METRIC)
            row, alive = fold_tile(row, d, positive & close, negative & close, some_positive, p, TERM)
            if live is not None:
                tl.store(live + at, alive.to(tl.uint8) | tl.load(live + at))
    store_members(partial, row, i, rows, parts + part, slots)


@triton.jit(do_not_specialize=["rows", "columns", "parts"])
def near_gradient_kernel(
    x,
    y,
    begin,
    end,
    scales,
    near,
    out,
    p,
    rows,
    columns,
    width,
    parts,
    TERM: tl.constexpr,
    METRIC: tl.constexpr,
    SELF: tl.constexpr,
    OF_ROWS: tl.constexpr,
    OF_COLUMNS: tl.constexpr,
    UNIT: tl.constexpr,
    PRECISION: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    DS: tl.constexpr,
):
    """Close pairs added to the gradients out [parts, R, D]; with UNIT "positive" or "negative" ones at scale 1."""
    block = tl.program_id(0)
    part = tl.program_id(1)
    i = block * BM + tl.arange(0, BM)
    first, last = load_ranges(begin, end, i, rows)
    some, most = band(first, last, i, rows)
    index = tl.load(x.index + i, mask=i < rows, other=0) + tl.cast(part, tl.int64) * rows
    count = tl.cdiv(columns, BN)
    share = tl.cdiv(count, parts)
    for t in range(part * share, tl.minimum((part + 1) * share, count)):
        if tl.load(near + tl.cast(block, tl.int64) * count + t) != 0:
            j = t * BN + tl.arange(0, BN)
            squared, close = squared_distances(x, y, i, j, rows, columns, width, SELF, PRECISION, BK)
            positive, negative = kinds(i, j, first, last, rows, columns, SELF)
            some_positive = (some < t * BN + BN) & (most > t * BN)
            d = to_metric(squared, METRIC)
            c = tl.zeros([BM, BN], tl.float32)
            if OF_ROWS:
                if UNIT is None:
                    scale = by_rows(load_members(scales, i, rows, TERM.scale_members))
                else:
                    scale = by_rows(TERM.unit(tl.zeros([BM], tl.float32), p))
                c += slopes(d, scale, positive, negative, some_positive, p, TERM)
            if OF_COLUMNS:
                scale = by_columns(load_members(scales, j, columns, TERM.scale_members))
                c += slopes(d, scale, positive, negative, some_positive, p, TERM)
            kept = close
            if UNIT == "positive":
                kept = close & positive
            elif UNIT == "negative":
                kept = close & negative
            c = tl.where(kept, c * edge_factor(d, METRIC), 0.0)
            for f0 in range(0, width, DS):
                f = f0 + tl.arange(0, DS)
                sums = pull_near(tl.zeros([BM, DS], tl.float32), c, x, y, i, j, f, rows, width)
                inside = (i < rows)[:, None] & (f < width)[None, :]
                there = out + index[:, None] * width + f[None, :]
                tl.store(there, tl.load(there, mask=inside, other=0.0) + sums, mask=inside)
                tl.debug_barrier()  # the next tile reads what this one wrote


def near_statistics(arguments: dict[str, Any], constexprs: dict[str, Any], blocks: int) -> None:
    """After a sweep with these arguments that left close pairs out; its partial rows have slots for them after its
    own.
    """
    shape = near_tiles(arguments["x"].rows.dtype, constexprs["BM"])
    launch(
        near_statistics_kernel,
        (blocks, arguments["parts"]),
        {name: arguments[name] for name in _NEAR if name not in ("out", "scales")}
        | {"slots": arguments["slots"]},
        {**_kept(constexprs), "BK": shape.depth},
        **shape.options,
    )


def near_gradient(
    arguments: dict[str, Any],
    constexprs: dict[str, Any],
    blocks: int,
    *,
    ends: tuple[bool, bool],
    unit: str | None = None,
) -> None:
    """After a gradient sweep with these arguments, into its `out`."""
    shape = near_tiles(arguments["x"].rows.dtype, constexprs["BM"])
    launch(
        near_gradient_kernel,
        (blocks, arguments["parts"]),
        {name: arguments[name] for name in _NEAR if name not in ("partial", "live")},
        {
            **_kept(constexprs),
            "OF_ROWS": ends[0],
            "OF_COLUMNS": ends[1],
            "UNIT": unit,
            "BK": shape.depth,
            "DS": shape.features,
        },
        **shape.options,
    )


_NEAR = (
    "x",
    "y",
    "begin",
    "end",
    "partial",
    "scales",
    "near",
    "live",
    "out",
    "p",
    "rows",
    "columns",
    "width",
    "parts",
)


def _kept(constexprs: dict[str, Any]) -> dict[str, Any]:
    return {name: constexprs[name] for name in ("TERM", "METRIC", "SELF", "PRECISION", "BM", "BN")}
