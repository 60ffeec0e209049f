"""Statistics and the queries' gradient in one sweep, where slopes need no more of the statistics than a factor.

Row-owned: a program owns a block of rows, a slice of the features and a share of the columns. Negatives are one
launch over all tiles, positives another over the narrow band where they lie, each with one accumulator on chip, which
it leaves at unit scale. The finished rows scale and add the two; backward multiplies by the upstream gradient.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from .configs import splits, tiles
from .fold import store_members
from .gradient import make_scales
from .launch import launch
from .near import near_gradient, near_statistics
from .pairs import Pairs
from .pull import finish_pull, pull_far
from .statistics import Statistics, finish, live_map
from .tile import any_set, band, by_rows, edge_factor, kinds, load_ranges, tile_distances, tiles_of

_MOST_SPLITS = 4


@triton.jit(do_not_specialize=["rows", "columns", "apart", "parts", "slot", "slots"])
def one_pass_kernel(
    x,
    y,
    begin,
    end,
    partial,
    live,
    out,
    p,
    rows,
    columns,
    width,
    apart,
    parts,
    slot,
    slots,
    TERM: tl.constexpr,
    KIND: tl.constexpr,
    METRIC: tl.constexpr,
    PRECISION: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    DS: tl.constexpr,
):
    """Pairs of one KIND, "positive" or "negative": row sums into slot `slot` + part of `slots`, gradients into out
    [parts, M, D].
    """
    block = tl.program_id(0)
    part = tl.program_id(2)
    i = block * BM + tl.arange(0, BM)
    f = tl.program_id(1) * DS + tl.arange(0, DS)
    first, last = load_ranges(begin, end, i, rows)
    some, most = band(first, last, i, rows)
    count = tl.cdiv(columns, BN)
    start, stop = tiles_of(part, parts, count, some, most, BN, KIND == "positive")
    row = TERM.start(BM, (), p)
    unit = by_rows(TERM.unit(tl.zeros([BM], tl.float32), p))
    sums = tl.zeros([BM, DS], tl.float32)
    mass = tl.zeros([BM], tl.float32)
    for t in range(start, stop):
        j = t * BN + tl.arange(0, BN)
        d, close = tile_distances(x, y, i, j, rows, columns, width, apart, METRIC, PRECISION, BK)
        positive, negative = kinds(i, j, first, last, rows, columns, apart)
        if KIND == "positive":
            here = positive & ~close
            row = TERM.fold_positive(row, d, here, p)
            slope = tl.where(here, TERM.slope_positive(d, unit, p), 0.0)
        else:
            here = negative & ~close
            row = TERM.fold_negative(row, d, here, p)
            slope = tl.where(here, TERM.slope_negative(d, unit, p), 0.0)
            if tl.program_id(1) == 0:
                tl.store(live + tl.cast(block, tl.int64) * count + t, (3 * any_set(close)).to(tl.uint8))
        if any_set(slope != 0.0) > 0:
            sums, mass = pull_far(
                sums, mass, slope * edge_factor(d, METRIC), y, j, f, columns, width, PRECISION
            )
    total = finish_pull(sums, mass, x, i, f, rows, width, METRIC)
    at = tl.load(x.index + i, mask=i < rows, other=0) + tl.cast(part, tl.int64) * rows
    tl.store(out + at[:, None] * width + f[None, :], total, mask=(i < rows)[:, None] & (f < width)[None, :])
    if tl.program_id(1) == 0:
        store_members(partial, row, i, rows, slot + part, slots, TERM)


def statistics_and_gradient(pairs: Pairs, channels: int, state_rows: int) -> tuple[Statistics, torch.Tensor]:
    """Statistics, and the gradient of each query's own loss with respect to it, fp32 [M, D].

    For terms of one channel whose scales begin with a factor for positives and one for negatives, and are `unit`
    otherwise.
    The live map stays unwritten: this gradient needs no other sweep.
    """
    x, y, term = pairs.own, pairs.other, pairs.term
    shape = tiles("gradient", x.source.dtype, x.width)
    blocks, slices = triton.cdiv(x.size, shape.rows), triton.cdiv(x.width, shape.features)
    count = triton.cdiv(y.size, shape.columns)
    parts = splits(blocks * slices, count, _MOST_SPLITS)
    slots = 2 * parts + 1  # of negatives, of close pairs, of positives
    partial = x.source.new_empty(term.row_members, slots, x.size, dtype=torch.float32)
    positive, negative = (partial.new_empty(n, x.size, x.width) for n in (1, parts))
    arguments: dict[str, Any] = {
        **pairs.arguments,
        "partial": partial,
        "live": torch.empty(blocks * count, dtype=torch.uint8, device=partial.device),
        "live_row": count,
        "live_column": 1,
        "slots": slots,
    }
    constexprs: dict[str, Any] = {
        **pairs.constexprs,
        "BM": shape.rows,
        "BN": shape.columns,
        "BK": shape.depth,
        "DS": shape.features,
    }
    for kind, out, slot in (("negative", negative, 0), ("positive", positive, 2 * parts)):
        share = {"out": out, "parts": out.shape[0], "slot": slot}
        grid = (blocks, slices, out.shape[0])
        hot = {name: given for name, given in arguments.items() if not name.startswith("live_")}
        launch(one_pass_kernel, grid, {**hot, **share}, {**constexprs, "KIND": kind}, **shape.options)
        close = {**arguments, **share, "own_scales": None, "other_scales": None}
        ends = {"OF_ROWS": True, "OF_COLUMNS": False}
        near_gradient(close, {**constexprs, **ends}, blocks, live_columns=shape.columns, unit=kind)
    given = {**arguments, "inputs": None, "parts": parts}
    near_statistics(given, constexprs, blocks, live_columns=shape.columns)
    results, state = finish(partial, pairs, None, channels, state_rows)
    ones = torch.ones_like(results[:channels])
    factors, _ = make_scales(torch.arange(x.size, device=results.device), state, ones, term, pairs.params)
    gradient = factors[0].unsqueeze(1) * positive[0] + factors[1].unsqueeze(1) * negative.sum(0)
    return Statistics(results, state, live_map(x.size, y.size, x.source)), x.project(gradient).float()
