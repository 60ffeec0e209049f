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

from ..gpu.order import LabelOrder
from .configs import LIVE_TILE, SUM_BLOCK, precision, splits, tiles
from .fold import slopes
from .launch import launch
from .near import near_gradient
from .operand import Operand, Packed
from .pull import finish_pull, pull_far
from .terms import Term
from .tile import (
    any_set,
    band,
    by_columns,
    by_rows,
    edge_factor,
    kinds,
    load_members,
    load_ranges,
    product_distances,
    to_metric,
)

_MOST_SPLITS = 4  # gradients [parts, rows, D] are kept apart until they are added


@triton.jit(do_not_specialize=["rows", "columns", "parts", "live_row", "live_column"])
def gradient_kernel(
    x,
    y,
    begin,
    end,
    scales,
    live,
    near,
    out,
    p,
    rows,
    columns,
    width,
    parts,
    live_row,
    live_column,
    TERM: tl.constexpr,
    METRIC: tl.constexpr,
    SELF: tl.constexpr,
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
    share = tl.cdiv(count, parts)
    for t in range(part * share, tl.minimum((part + 1) * share, count)):
        j0 = t * BN
        if tl.load(alive + tl.cast(j0 // LIVE, tl.int64) * live_column) != 0:
            j = j0 + tl.arange(0, BN)
            squared, close = product_distances(x, y, i, j, rows, columns, width, SELF, PRECISION, BK)
            d = to_metric(squared, METRIC)
            positive, negative = kinds(i, j, first, last, rows, columns, SELF)
            some_positive = (some < j0 + BN) & (most > j0)
            c = tl.zeros([BM, BN], tl.float32)
            if OF_ROWS:
                scale = by_rows(load_members(scales, i, rows, TERM.scale_members))
                c += slopes(d, scale, positive, negative, some_positive, p, TERM)
            if OF_COLUMNS:
                scale = by_columns(load_members(scales, j, columns, TERM.scale_members))
                c += slopes(d, scale, positive, negative, some_positive, p, TERM)
            c = tl.where(close, 0.0, c * edge_factor(d, METRIC))
            sums, mass = pull_far(sums, mass, c, y, j, f, columns, width, PRECISION)
            if tl.program_id(1) == 0:
                tl.store(near + tl.cast(block, tl.int64) * count + t, any_set(close).to(tl.uint8))
    total = finish_pull(sums, mass, x, i, f, rows, width)
    at = tl.load(x.index + i, mask=i < rows, other=0) + tl.cast(part, tl.int64) * rows
    tl.store(out + at[:, None] * width + f[None, :], total, mask=(i < rows)[:, None] & (f < width)[None, :])


@triton.jit(do_not_specialize=["rows"])
def scale_kernel(
    state,
    grads,
    index,
    scales,
    p,
    rows,
    TERM: tl.constexpr,
    KEEP: tl.constexpr,
    CHANNELS: tl.constexpr,
    BM: tl.constexpr,
):
    """What slopes need of each query in `index`, [scale members, M], from state and upstream in original order."""
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    at = tl.load(index + i, mask=i < rows, other=0)
    inside = i < rows
    kept = ()
    for k in tl.static_range(KEEP):
        kept = kept + (tl.load(state + tl.cast(k * rows, tl.int64) + at, mask=inside, other=0.0),)  # type: ignore[assignment]
    upstream = ()
    for c in tl.static_range(CHANNELS):
        upstream = upstream + (tl.load(grads + tl.cast(c * rows, tl.int64) + at, mask=inside, other=0.0),)  # type: ignore[assignment]
    scale = TERM.scale(kept, upstream, p)
    count: tl.constexpr = TERM.scale_members
    for m in tl.static_range(count):
        tl.store(scales + tl.cast(m * rows, tl.int64) + i, scale[m], mask=inside)


def make_scales(index: Tensor, state: Tensor, grads: Tensor, term: Term, params: tuple[float, ...]) -> Tensor:
    """Scales [members, M] of the queries `index` [M], from state [S, M] and upstream gradients [C, M]."""
    queries = index.shape[0]
    scales = grads.new_empty(term.scale_members, queries)
    launch(
        scale_kernel,
        (triton.cdiv(queries, SUM_BLOCK),),
        {
            "state": state,
            "grads": grads,
            "index": index,
            "scales": scales,
            "p": params,
            "rows": queries,
        },
        {"TERM": term, "KEEP": state.shape[0], "CHANNELS": grads.shape[0], "BM": SUM_BLOCK},
        num_warps=4,
        num_stages=1,
    )
    return scales


def reversed_ranges(order: LabelOrder) -> tuple[Tensor, Tensor]:
    """For each sorted gallery row its positives [begin, end) among the sorted queries: the ranges rise with the
    query.
    """
    place = torch.arange(order.gallery.shape[0], dtype=torch.int32, device=order.begin.device)
    begin = torch.searchsorted(order.end, place, right=True, out_int32=True)
    end = torch.searchsorted(order.begin, place, right=True, out_int32=True)
    return begin, end


def query_gradient(
    packed: Packed,
    order: LabelOrder,
    term: Term,
    params: tuple[float, ...],
    metric: str,
    scales: Tensor,
    live: Tensor,
    *,
    both_ends: bool,
) -> Tensor:
    """Gradient of the queries [M, D]; in self form with `both_ends` each row is moved by every loss that it is part
    of.
    """
    strides = triton.cdiv(packed.gallery.size, LIVE_TILE), 1
    ends = (True, both_ends and packed.self_form)
    sides = packed.query, packed.gallery
    return _gradient(sides, (order.begin, order.end), term, params, metric, scales, live, strides, ends)


def gallery_gradient(
    packed: Packed,
    order: LabelOrder,
    term: Term,
    params: tuple[float, ...],
    metric: str,
    scales: Tensor,
    live: Tensor,
) -> Tensor:
    """Gradient of the gallery of the two-set form [N, D]."""
    strides = 1, triton.cdiv(packed.gallery.size, LIVE_TILE)
    sides = packed.gallery, packed.query
    return _gradient(
        sides, reversed_ranges(order), term, params, metric, scales, live, strides, (False, True)
    )


def _gradient(
    sides: tuple[Operand, Operand],
    ranges: tuple[Tensor, Tensor],
    term: Term,
    params: tuple[float, ...],
    metric: str,
    scales: Tensor,
    live: Tensor,
    live_strides: tuple[int, int],
    ends: tuple[bool, bool],
) -> Tensor:
    x, y = sides
    shape = tiles("gradient", x.source.dtype, x.width)
    blocks, slices = triton.cdiv(x.size, shape.rows), triton.cdiv(x.width, shape.features)
    parts = splits(blocks * slices, triton.cdiv(y.size, shape.columns), _MOST_SPLITS)
    out = scales.new_empty(parts, x.size, x.width)
    near = torch.zeros(blocks * triton.cdiv(y.size, shape.columns), dtype=torch.uint8, device=out.device)
    arguments: dict[str, Any] = {
        "x": x.side,
        "y": y.side,
        "begin": ranges[0],
        "end": ranges[1],
        "scales": scales,
        "live": live,
        "near": near,
        "out": out,
        "p": params,
        "rows": x.size,
        "columns": y.size,
        "width": x.width,
        "parts": parts,
        "live_row": live_strides[0],
        "live_column": live_strides[1],
    }
    constexprs: dict[str, Any] = {
        "TERM": term,
        "METRIC": metric,
        "SELF": x is y,
        "OF_ROWS": ends[0],
        "OF_COLUMNS": ends[1],
        "PRECISION": precision(x.source.dtype),
        "LIVE": LIVE_TILE,
        "BM": shape.rows,
        "BN": shape.columns,
        "BK": shape.depth,
        "DS": shape.features,
    }
    launch(gradient_kernel, (blocks, slices, parts), arguments, constexprs, **shape.options)
    near_gradient(arguments, constexprs, blocks, ends=ends)
    return x.gradient(out.sum(0))
