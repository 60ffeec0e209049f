"""Statistics and the queries' gradient in one sweep, where slopes need no more of the statistics than a factor.

Row-owned: a program owns a block of rows, a slice of the features and a share of the columns. Negatives are one
launch over all tiles, positives another over the narrow band where they lie, each with one accumulator on chip, which
it leaves at unit scale. The finished rows scale and add the two; backward multiplies by the upstream gradient.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from ..gpu.order import LabelOrder
from .configs import precision, splits, tiles
from .fold import store_members
from .gradient import make_scales
from .launch import launch
from .near import near_gradient, near_statistics
from .operand import Packed
from .pull import finish_pull, pull_far
from .statistics import Statistics, finish, live_map
from .terms import Term
from .tile import any_set, band, by_rows, edge_factor, kinds, load_ranges, product_distances, to_metric

_MOST_SPLITS = 4


@triton.jit(do_not_specialize=["rows", "columns", "parts", "slot", "slots"])
def one_pass_kernel(
    x,
    y,
    begin,
    end,
    partial,
    near,
    out,
    p,
    rows,
    columns,
    width,
    parts,
    slot,
    slots,
    TERM: tl.constexpr,
    KIND: tl.constexpr,
    METRIC: tl.constexpr,
    SELF: tl.constexpr,
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
    if KIND == "positive":
        start = tl.minimum(some // BN, count)
        stop = tl.cdiv(most, BN)
    else:
        share = tl.cdiv(count, parts)
        start = part * share
        stop = tl.minimum(start + share, count)
    row = TERM.start(BM, p)
    unit = by_rows(TERM.unit(tl.zeros([BM], tl.float32), p))
    sums = tl.zeros([BM, DS], tl.float32)
    mass = tl.zeros([BM], tl.float32)
    for t in range(start, stop):
        j = t * BN + tl.arange(0, BN)
        squared, close = product_distances(x, y, i, j, rows, columns, width, SELF, PRECISION, BK)
        d = to_metric(squared, METRIC)
        positive, negative = kinds(i, j, first, last, rows, columns, SELF)
        if KIND == "positive":
            here = positive & ~close
            row = TERM.fold_positive(row, d, here, p)
            slope = tl.where(here, TERM.slope_positive(d, unit, p), 0.0)
        else:
            here = negative & ~close
            row = TERM.fold_negative(row, d, here, p)
            slope = tl.where(here, TERM.slope_negative(d, unit, p), 0.0)
            if tl.program_id(1) == 0:
                tl.store(near + tl.cast(block, tl.int64) * count + t, any_set(close).to(tl.uint8))
        if any_set(slope != 0.0) > 0:
            sums, mass = pull_far(
                sums, mass, slope * edge_factor(d, METRIC), y, j, f, columns, width, PRECISION
            )
    total = finish_pull(sums, mass, x, i, f, rows, width)
    at = tl.load(x.index + i, mask=i < rows, other=0) + tl.cast(part, tl.int64) * rows
    tl.store(out + at[:, None] * width + f[None, :], total, mask=(i < rows)[:, None] & (f < width)[None, :])
    if tl.program_id(1) == 0:
        store_members(partial, row, i, rows, slot + part, slots)


def statistics_and_gradient(
    packed: Packed,
    order: LabelOrder,
    term: Term,
    params: tuple[float, ...],
    metric: str,
    channels: int,
    state_rows: int,
) -> tuple[Statistics, torch.Tensor]:
    """Statistics, and the gradient of each query's own loss with respect to it, fp32 [M, D].

    For terms of one channel whose scales begin with a factor for positives and one for negatives, and are `unit`
    otherwise.
    The live map stays unwritten: this gradient needs no other sweep.
    """
    x, y = packed.query, packed.gallery
    shape = tiles("gradient", x.source.dtype, x.width)
    blocks, slices = triton.cdiv(x.size, shape.rows), triton.cdiv(x.width, shape.features)
    parts = splits(blocks * slices, triton.cdiv(y.size, shape.columns), _MOST_SPLITS)
    slots = 2 * parts + 1  # of negatives, of close pairs, of positives
    partial = x.source.new_empty(term.row_members, slots, x.size, dtype=torch.float32)
    positive, negative = (partial.new_empty(n, x.size, x.width) for n in (1, parts))
    count = triton.cdiv(y.size, shape.columns)
    arguments: dict[str, Any] = {
        "x": x.side,
        "y": y.side,
        "begin": order.begin,
        "end": order.end,
        "partial": partial,
        "near": torch.empty(blocks * count, dtype=torch.uint8, device=partial.device),
        "p": params,
        "rows": x.size,
        "columns": y.size,
        "width": x.width,
        "slots": slots,
    }
    constexprs: dict[str, Any] = {
        "TERM": term,
        "METRIC": metric,
        "SELF": packed.self_form,
        "PRECISION": precision(x.source.dtype),
        "BM": shape.rows,
        "BN": shape.columns,
        "BK": shape.depth,
        "DS": shape.features,
    }
    for kind, out, slot in (("negative", negative, 0), ("positive", positive, 2 * parts)):
        share = {"out": out, "parts": out.shape[0], "slot": slot}
        grid = (blocks, slices, out.shape[0])
        launch(one_pass_kernel, grid, {**arguments, **share}, {**constexprs, "KIND": kind}, **shape.options)
        near_gradient(
            {**arguments, **share, "scales": None}, constexprs, blocks, ends=(True, False), unit=kind
        )
    near_statistics({**arguments, "parts": parts, "live": None}, constexprs, blocks)
    results, state = finish(partial, packed, order, term, params, channels, state_rows)
    ones = torch.ones_like(results[:channels])
    factors = make_scales(torch.arange(x.size, device=results.device), state, ones, term, params)
    gradient = factors[0].unsqueeze(1) * positive[0] + factors[1].unsqueeze(1) * negative.sum(0)
    return Statistics(results, state, live_map(x.size, y.size, x.source)), x.project(gradient).float()
