"""The statistics sweep: every pair into a few numbers of its row, in partial sums that are merged in a fixed order.

One program owns a block of rows and a share of the columns. The live map has one byte for each tile of LIVE_TILE ×
LIVE_TILE pairs: does any of them contribute? Backward visits live tiles only.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..gpu.order import LabelOrder
from .configs import LIVE_TILE, SUM_BLOCK, precision, splits, tiles
from .fold import fold_tile, store_members
from .launch import launch
from .near import near_statistics
from .operand import Packed
from .terms import Term
from .tile import any_set, band, kinds, load_ranges, product_distances, to_metric

_MOST_SPLITS = 16


@triton.jit(do_not_specialize=["rows", "columns", "parts", "slots"])
def statistics_kernel(
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
    block = tl.program_id(0)
    part = tl.program_id(1)
    i = block * BM + tl.arange(0, BM)
    first, last = load_ranges(begin, end, i, rows)
    some, most = band(first, last, i, rows)
    row = TERM.start(BM, p)
    count = tl.cdiv(columns, BN)
    share = tl.cdiv(count, parts)
    for t in range(part * share, tl.minimum((part + 1) * share, count)):
        j = t * BN + tl.arange(0, BN)
        squared, close = product_distances(x, y, i, j, rows, columns, width, SELF, PRECISION, BK)
        positive, negative = kinds(i, j, first, last, rows, columns, SELF)
        some_positive = (some < t * BN + BN) & (most > t * BN)
        d = to_metric(squared, METRIC)
        row, alive = fold_tile(row, d, positive & ~close, negative & ~close, some_positive, p, TERM)
        at = tl.cast(block, tl.int64) * count + t
        tl.store(live + at, alive.to(tl.uint8))
        tl.store(near + at, any_set(close).to(tl.uint8))
    store_members(partial, row, i, rows, part, slots)


@triton.jit(do_not_specialize=["rows", "columns", "parts"])
def finish_kernel(
    partial,
    begin,
    end,
    index,
    lost,
    results,
    state,
    p,
    rows,
    columns,
    parts,
    TERM: tl.constexpr,
    SELF: tl.constexpr,
    KEEP: tl.constexpr,
    BM: tl.constexpr,
):
    """Merge the parts of each row and write its channels (sums, counts, active) and state in original order."""
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    row = TERM.start(BM, p)
    count: tl.constexpr = TERM.row_members
    for part in range(parts):
        other = ()
        for m in tl.static_range(count):
            at = tl.cast(m * parts + part, tl.int64) * rows
            other = other + (tl.load(partial + at + i, mask=i < rows, other=0.0),)  # type: ignore[assignment]
        row = TERM.merge(row, other, p)
    first, last = load_ranges(begin, end, i, rows)
    positives = (last - first).to(tl.float32)
    negatives = columns - positives
    if SELF:
        positives -= 1.0
    sums, counts, active, kept = TERM.finish(row, positives, negatives, p)
    at = tl.load(index + i, mask=i < rows, other=0)
    nowhere = tl.load(lost + at, mask=i < rows, other=0) != 0
    channels: tl.constexpr = len(sums)
    for c in tl.static_range(channels):
        value = tl.where(nowhere, float("nan"), sums[c])
        tl.store(results + tl.cast(c * rows, tl.int64) + at, value, mask=i < rows)
        tl.store(results + tl.cast((channels + c) * rows, tl.int64) + at, counts[c], mask=i < rows)
        tl.store(results + tl.cast((2 * channels + c) * rows, tl.int64) + at, active[c], mask=i < rows)
    for k in tl.static_range(KEEP):
        tl.store(state + tl.cast(k * rows, tl.int64) + at, kept[k], mask=i < rows)


class Statistics(NamedTuple):
    """What the forward pass gives and keeps, in original order."""

    results: Tensor  # [3 · channels, M]: sums, counts, active
    state: Tensor  # [state rows, M]
    live: Tensor  # uint8 [row tiles · column tiles + 1], see `live_map`


def live_map(queries: int, gallery: int, like: Tensor) -> Tensor:
    """An empty map, row by row of tiles, with one byte to spare: never one long, which compilers would make a case
    of.
    """
    count = triton.cdiv(queries, LIVE_TILE) * triton.cdiv(gallery, LIVE_TILE)
    return like.new_empty(count + 1, dtype=torch.uint8)


def statistics(
    packed: Packed,
    order: LabelOrder,
    term: Term,
    params: tuple[float, ...],
    metric: str,
    channels: int,
    state_rows: int,
) -> Statistics:
    """Fold every pair into its query's row; `channels` and `state_rows` are what `term` finishes into."""
    x, y = packed.query, packed.gallery
    shape = tiles("statistics", x.source.dtype, x.width)
    blocks, count = triton.cdiv(x.size, LIVE_TILE), triton.cdiv(y.size, LIVE_TILE)
    parts = splits(blocks, count, _MOST_SPLITS)
    partial = x.source.new_empty(term.row_members, 2 * parts, x.size, dtype=torch.float32)
    live = live_map(x.size, y.size, x.source)
    arguments: dict[str, Any] = {
        "x": x.side,
        "y": y.side,
        "begin": order.begin,
        "end": order.end,
        "partial": partial,
        "near": torch.empty_like(live),
        "live": live,
        "p": params,
        "rows": x.size,
        "columns": y.size,
        "width": x.width,
        "parts": parts,
        "slots": 2 * parts,  # of all pairs, of close pairs
    }
    constexprs: dict[str, Any] = {
        "TERM": term,
        "METRIC": metric,
        "SELF": packed.self_form,
        "PRECISION": precision(x.source.dtype),
        "BM": LIVE_TILE,
        "BN": LIVE_TILE,
        "BK": shape.depth,
    }
    launch(statistics_kernel, (blocks, parts), arguments, constexprs, **shape.options)
    near_statistics(arguments, constexprs, blocks)
    results, state = finish(partial, packed, order, term, params, channels, state_rows)
    return Statistics(results, state, live)


def finish(
    partial: Tensor,
    packed: Packed,
    order: LabelOrder,
    term: Term,
    params: tuple[float, ...],
    channels: int,
    state_rows: int,
) -> tuple[Tensor, Tensor]:
    """Results [3 · channels, M] and state [state_rows, M] from partial rows [members, parts, M]."""
    x = packed.query
    results = partial.new_empty(3 * channels, x.size)
    state = partial.new_empty(state_rows, x.size)
    arguments: dict[str, Any] = {
        "partial": partial,
        "begin": order.begin,
        "end": order.end,
        "index": x.side.index,
        "lost": x.lost,
        "results": results,
        "state": state,
        "p": params,
        "rows": x.size,
        "columns": packed.gallery.size,
        "parts": partial.shape[1],
    }
    constexprs = {"TERM": term, "SELF": packed.self_form, "KEEP": state_rows, "BM": SUM_BLOCK}
    blocks = (triton.cdiv(x.size, SUM_BLOCK),)
    launch(finish_kernel, blocks, arguments, constexprs, num_warps=4, num_stages=1)
    return results, state
