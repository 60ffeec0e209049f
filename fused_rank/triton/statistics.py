"""The statistics sweep: every pair into a few numbers of its row, in partial sums that are merged in a fixed order.

One program owns a block of rows and a share of the columns. The map has one byte for each tile of LIVE_TILE ×
LIVE_TILE pairs: 1 if any of them contributes, and 2 if any is close. Backward visits live tiles only.
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .configs import LIVE_TILE, SUM_BLOCK, splits, tiles
from .fold import fold_tile, load_inputs, store_members
from .launch import launch
from .near import near_statistics
from .pairs import Pairs
from .tile import any_set, band, kinds, load_ranges, tile_distances, tiles_of

_MOST_SPLITS = 16


@triton.jit(do_not_specialize=["rows", "columns", "apart", "parts", "slots"])
def statistics_kernel(
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
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    block = tl.program_id(0)
    part = tl.program_id(1)
    i = block * BM + tl.arange(0, BM)
    first, last = load_ranges(begin, end, i, rows)
    some, most = band(first, last, i, rows)
    row = TERM.start(BM, load_inputs(inputs, i, rows, TERM), p)
    count = tl.cdiv(columns, BN)
    start, stop = tiles_of(part, parts, count, some, most, BN, TERM.positives_only)
    for t in range(start, stop):
        j = t * BN + tl.arange(0, BN)
        d, close = tile_distances(x, y, i, j, rows, columns, width, apart, METRIC, PRECISION, BK)
        positive, negative = kinds(i, j, first, last, rows, columns, apart)
        some_positive = (some < t * BN + BN) & (most > t * BN)
        row, alive = fold_tile(row, d, positive & ~close, negative & ~close, some_positive, p, TERM)
        if METRIC != "dot":
            alive += 2 * any_set(close)
        tl.store(live + tl.cast(block, tl.int64) * count + t, alive.to(tl.uint8))
    store_members(partial, row, i, rows, part, slots, TERM)


@triton.jit(do_not_specialize=["rows", "columns", "apart", "parts"])
def finish_kernel(
    partial,
    begin,
    end,
    inputs,
    index,
    lost,
    results,
    state,
    p,
    rows,
    columns,
    apart,
    parts,
    TERM: tl.constexpr,
    BM: tl.constexpr,
):
    """Merge the parts of each row and write its channels (sums, counts, active) and state in original order."""
    i = tl.program_id(0) * BM + tl.arange(0, BM)
    row = TERM.start(BM, load_inputs(inputs, i, rows, TERM), p)
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
    positives -= (apart == 0).to(tl.float32)
    sums, counts, active, kept = TERM.finish(row, positives, negatives, p)
    at = tl.load(index + i, mask=i < rows, other=0)
    nowhere = tl.load(lost + at, mask=i < rows, other=0) != 0
    channels: tl.constexpr = len(sums)
    for c in tl.static_range(channels):
        value = tl.where(nowhere, float("nan"), sums[c])
        tl.store(results + tl.cast(c * rows, tl.int64) + at, value, mask=i < rows)
        tl.store(results + tl.cast((channels + c) * rows, tl.int64) + at, counts[c], mask=i < rows)
        tl.store(results + tl.cast((2 * channels + c) * rows, tl.int64) + at, active[c], mask=i < rows)
    keep: tl.constexpr = TERM.state_rows
    for k in tl.static_range(keep):
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


def statistics(pairs: Pairs, inputs: Tensor | None, channels: int, state_rows: int) -> Statistics:
    """Fold every pair into its row of `pairs.own`; inputs [k, rows] in sorted order.

    `channels` are as many as the term finishes, `state_rows` no fewer than it keeps.
    """
    x, y, term = pairs.own, pairs.other, pairs.term
    crowded = pairs.constexprs["PRECISION"] == "ieee" or term.positives_only
    many = crowded and x.source.dtype == torch.float32
    shape = tiles("statistics in eight warps" if many else "statistics", x.source.dtype, x.width)
    blocks, count = triton.cdiv(x.size, LIVE_TILE), triton.cdiv(y.size, LIVE_TILE)
    parts = splits(blocks, count, _MOST_SPLITS)
    close = pairs.metric != "dot"
    slots = parts * (1 + close)  # of all pairs, of close pairs
    partial = x.source.new_empty(term.row_members, slots, x.size, dtype=torch.float32)
    live = live_map(x.size, y.size, x.source)
    if term.positives_only:  # most tiles are not visited
        live.zero_()
    arguments: dict[str, Any] = {
        **pairs.arguments,
        "inputs": inputs,
        "partial": partial,
        "live": live,
        "parts": parts,
        "slots": slots,
    }
    constexprs = {**pairs.constexprs, "BM": LIVE_TILE, "BN": LIVE_TILE, "BK": shape.depth}
    launch(statistics_kernel, (blocks, parts), arguments, constexprs, **shape.options)
    if close:
        near_statistics(arguments, {**constexprs, "BN": LIVE_TILE // 2}, blocks, live_columns=LIVE_TILE)
    results, state = finish(partial, pairs, inputs, channels, state_rows)
    if (
        term.inputs and pairs.self_form
    ):  # what is alive for its rows may not be for its columns, and moves both
        live = joined_live(live, live, x.size, x.size)
    return Statistics(results, state, live)


def joined_live(live: Tensor, turned: Tensor, rows: int, columns: int) -> Tensor:
    """A map of tiles that are alive in it or in the map of the same pairs with the sides exchanged."""
    shape = triton.cdiv(rows, LIVE_TILE), triton.cdiv(columns, LIVE_TILE)
    joined = torch.empty_like(live)
    torch.bitwise_or(live[:-1].view(shape), turned[:-1].view(shape[::-1]).T, out=joined[:-1].view(shape))
    return joined


def finish(
    partial: Tensor, pairs: Pairs, inputs: Tensor | None, channels: int, state_rows: int
) -> tuple[Tensor, Tensor]:
    """Results [3 · channels, rows] and state from partial rows [members, parts, rows]."""
    x, term = pairs.own, pairs.term
    results = partial.new_empty(3 * channels, x.size)
    state = partial.new_empty(state_rows, x.size)
    arguments: dict[str, Any] = {
        "partial": partial,
        "begin": pairs.begin,
        "end": pairs.end,
        "inputs": inputs,
        "index": x.side.index,
        "lost": x.lost,
        "results": results,
        "state": state,
        "p": pairs.params,
        "rows": x.size,
        "columns": pairs.other.size,
        "apart": pairs.arguments["apart"],
        "parts": partial.shape[1],
    }
    blocks = (triton.cdiv(x.size, SUM_BLOCK),)
    launch(finish_kernel, blocks, arguments, {"TERM": term, "BM": SUM_BLOCK}, num_warps=4, num_stages=1)
    return results, state
