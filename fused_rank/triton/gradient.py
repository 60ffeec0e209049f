"""The gradient sweep, row-owned: for each row of a block the sum of its pairs' coefficients times the pairs'
differences.

c_ij is the slope of pair (i, j) in the losses of those of its ends that are queries and whose loss moves row i: in
self form with both ends moving C = W + Wᵀ, from the scales of rows and columns; one end otherwise. The gallery of the
two-set form is served by the same sweep with the sides swapped. No atomics: a program owns a block of rows, a slice
of the features and a share of the columns, and shares are added in order.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..gpu.widths import on_chip
from .configs import LIVE_TILE, SUM_BLOCK, splits, tiles
from .fold import coefficients
from .launch import launch
from .near import near_gradient
from .operand import Operand
from .pairs import Pairs
from .pull import finish_pull, pull_far
from .terms import Term
from .tile import band, edge_factor, kinds, load_ranges, tile_distances, tiles_of
from .wide import wide_gradient

_MOST_SPLITS = 4  # gradients [parts, rows, D] are kept apart until they are added


@triton.jit(do_not_specialize=["rows", "columns", "apart", "parts", "live_row", "live_column"])
def gradient_kernel(
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
    PRECISION: tl.constexpr,
    LIVE: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    DS: tl.constexpr,
):
    block = tl.program_id(0)
    part = tl.program_id(2)
    i = block * BM + tl.arange(0, BM)
    f = tl.program_id(1) * DS + tl.arange(0, DS)
    first, last = load_ranges(begin, end, i, rows)
    some, most = band(first, last, i, rows)
    alive = live + (block * BM // LIVE).to(tl.int64) * live_row
    sums = tl.zeros([BM, DS], tl.float32)
    mass = tl.zeros([BM], tl.float32)
    count = tl.cdiv(columns, BN)
    start, stop = tiles_of(part, parts, count, some, most, BN, TERM.positives_only)
    for t in range(start, stop):
        j0 = t * BN
        if (tl.load(alive + tl.cast(j0 // LIVE, tl.int64) * live_column) & 1) != 0:
            j = j0 + tl.arange(0, BN)
            d, close = tile_distances(x, y, i, j, rows, columns, width, apart, METRIC, PRECISION, BK)
            positive, negative = kinds(i, j, first, last, rows, columns, apart)
            some_positive = (some < j0 + BN) & (most > j0)
            scales = (own_scales, other_scales)
            of = (positive, negative, some_positive)
            c = coefficients(d, i, j, of, scales, p, rows, columns, TERM, OF_ROWS, OF_COLUMNS)
            c = tl.where(close, 0.0, c * edge_factor(d, METRIC))
            sums, mass = pull_far(sums, mass, c, y, j, f, columns, width, PRECISION)
    total = finish_pull(sums, mass, x, i, f, rows, width, METRIC)
    at = tl.load(x.index + i, mask=i < rows, other=0) + tl.cast(part, tl.int64) * rows
    tl.store(out + at[:, None] * width + f[None, :], total, mask=(i < rows)[:, None] & (f < width)[None, :])


@triton.jit(do_not_specialize=["rows"])
def scale_kernel(
    state,
    grads,
    index,
    scales,
    input_grads,
    p,
    rows,
    TERM: tl.constexpr,
    CHANNELS: tl.constexpr,
    BM: tl.constexpr,
):
    """What slopes need of each query in `index`, [scale members, M], from state and upstream in original order; and the
    gradients of its inputs, in original order.
    """
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    at = tl.load(index + i, mask=i < rows, other=0)
    inside = i < rows
    kept = ()
    keep: tl.constexpr = TERM.state_rows
    for k in tl.static_range(keep):
        kept = kept + (tl.load(state + tl.cast(k * rows, tl.int64) + at, mask=inside, other=0.0),)  # type: ignore[assignment]
    upstream = ()
    for c in tl.static_range(CHANNELS):
        upstream = upstream + (tl.load(grads + tl.cast(c * rows, tl.int64) + at, mask=inside, other=0.0),)  # type: ignore[assignment]
    scale = TERM.scale(kept, upstream, p)
    count: tl.constexpr = TERM.scale_members
    for m in tl.static_range(count):
        tl.store(scales + tl.cast(m * rows, tl.int64) + i, scale[m], mask=inside)
    if TERM.inputs > 0:
        moved = TERM.input_gradient(kept, upstream, p)
        inputs: tl.constexpr = TERM.inputs
        for k in tl.static_range(inputs):
            tl.store(input_grads + tl.cast(k * rows, tl.int64) + at, moved[k], mask=inside)


def make_scales(
    index: Tensor, state: Tensor, grads: Tensor, term: Term, params: tuple[float, ...]
) -> tuple[Tensor, Tensor]:
    """Scales [members, M] of the queries `index` [M], from state [S, M] and upstream gradients [C, M]; and gradients of
    the inputs [k, M].
    """
    queries = index.shape[0]
    scales = grads.new_empty(term.scale_members, queries)
    input_grads = grads.new_empty(term.inputs, queries)
    launch(
        scale_kernel,
        (triton.cdiv(queries, SUM_BLOCK),),
        {
            "state": state,
            "grads": grads,
            "index": index,
            "scales": scales,
            "input_grads": input_grads if term.inputs else None,
            "p": params,
            "rows": queries,
        },
        {"TERM": term, "CHANNELS": grads.shape[0], "BM": SUM_BLOCK},
        num_warps=4,
        num_stages=1,
    )
    return scales, input_grads


def gradient(
    pairs: Pairs,
    own_scales: Tensor | None,
    other_scales: Tensor | None,
    live: Tensor,
    *,
    turned: bool = False,
) -> Tensor:
    """Gradient of the rows `pairs.own` [R, D], from the losses of those rows whose scales are given.

    `turned`: the live map has the sides the other way round.
    """
    x, y = pairs.own, pairs.other
    tile_rows, tile_columns = (triton.cdiv(side.size, LIVE_TILE) for side in (x, y))
    arguments: dict[str, Any] = {
        **pairs.arguments,
        "own_scales": own_scales,
        "other_scales": other_scales,
        "live": live,
        "live_row": 1 if turned else tile_columns,
        "live_column": tile_rows if turned else 1,
    }
    constexprs: dict[str, Any] = {
        **pairs.constexprs,
        "OF_ROWS": own_scales is not None,
        "OF_COLUMNS": other_scales is not None,
    }
    sweep = _on_chip if on_chip(x.source.dtype, x.width) else wide_gradient
    out = sweep(x, y, arguments, constexprs)
    if pairs.metric != "dot":
        arguments |= {"out": out, "parts": len(out)}
        constexprs |= {"BM": LIVE_TILE, "BN": LIVE_TILE // 2}
        near_gradient(arguments, constexprs, tile_rows, live_columns=LIVE_TILE)
    return x.gradient(out.sum(0))


def _on_chip(x: Operand, y: Operand, arguments: dict[str, Any], constexprs: dict[str, Any]) -> Tensor:
    """[parts, R, D]"""
    shape = tiles("gradient", x.source.dtype, x.width)
    blocks, slices = triton.cdiv(x.size, shape.rows), triton.cdiv(x.width, shape.features)
    columns = triton.cdiv(y.size, shape.columns)
    parts = splits(blocks * slices, columns, _MOST_SPLITS)
    out = torch.empty(parts, x.size, x.width, dtype=torch.float32, device=x.source.device)
    arguments = {**arguments, "out": out, "parts": parts}
    constexprs = {
        **constexprs,
        "LIVE": LIVE_TILE,
        "BM": shape.rows,
        "BN": shape.columns,
        "BK": shape.depth,
        "DS": shape.features,
    }
    launch(gradient_kernel, (blocks, slices, parts), arguments, constexprs, **shape.options)
    return out
