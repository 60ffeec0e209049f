"""Statistics and the queries' gradient in one sweep, where slopes need no more of the statistics than a factor.

Row-owned: a program owns a block of rows, a slice of the features and a share of the columns. It walks the band of its rows'
positives first, then its share for negatives, with one accumulator on chip for both in turn, and leaves the two sums at unit scale.
The finished rows scale and add them; backward multiplies by the upstream gradient.
"""

from typing import Any

import torch
import triton
import triton.language as tl

from .configs import precision, splits, tiles
from .fold import store_members
from .gradient import make_scales
from .launch import launch
from .near import near_gradient, near_statistics
from .operand import Packed
from .order import LabelOrder
from .pull import finish_pull, pull_far
from .statistics import Statistics, finish, live_map
from .terms import Term
from .tile import any_set, band, by_rows, edge_factor, kinds, load_ranges, product_distances, to_metric

_MOST_SPLITS = 4


@triton.jit
def _store_gradient(out, value, at, f, inside, width):
    """Rows of a gradient at features f, by original row."""
    tl.store(out + at[:, None] * width + f[None, :], value, mask=inside[:, None] & (f < width)[None, :])


@triton.jit(do_not_specialize=["rows", "columns", "parts"])
def one_pass_kernel(
    x,
    y,
    begin,
    end,
    partial,
    near,
    positive_out,
    negative_out,
    p,
    rows,
    columns,
    width,
    parts,
    TERM: tl.constexpr,
    METRIC: tl.constexpr,
    SELF: tl.constexpr,
    PRECISION: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    DS: tl.constexpr,
):
    block = tl.program_id(0)
    part = tl.program_id(2)
    i = block * BM + tl.arange(0, BM)
    f = tl.program_id(1) * DS + tl.arange(0, DS)
    at = tl.load(x.index + i, mask=i < rows, other=0) + tl.cast(part, tl.int64) * rows
    first, last = load_ranges(begin, end, i, rows)
    some, most = band(first, last, i, rows)
    row = TERM.start(BM, p)
    unit = by_rows(TERM.unit(tl.zeros([BM], tl.float32), p))
    sums = tl.zeros([BM, DS], tl.float32)
    mass = tl.zeros([BM], tl.float32)
    count = tl.cdiv(columns, BN)
    share = tl.cdiv(count, parts)
    start = part * share
    stop = tl.minimum(start + share, count)
    # One of the programs that share a row block takes its whole band.
    banded = tl.where((block % parts == part) & (some < most), tl.cdiv(most, BN) - some // BN, 0)
    for step in range(0, banded + stop - start):
        positives = step < banded
        if step == banded:
            total = finish_pull(sums, mass, x, i, f, rows, width)
            _store_gradient(positive_out, total, at, f, i < rows, width)
            sums = tl.zeros([BM, DS], tl.float32)
            mass = tl.zeros([BM], tl.float32)
        t = tl.where(positives, some // BN + step, start + step - banded)
        j = t * BN + tl.arange(0, BN)
        squared, close = product_distances(x, y, i, j, rows, columns, width, SELF, PRECISION, BK)
        d = to_metric(squared, METRIC)
        positive, negative = kinds(i, j, first, last, rows, columns, SELF)
        slope = tl.zeros([BM, BN], tl.float32)
        if positives:
            row = TERM.fold_positive(row, d, positive & ~close, p)
            slope = tl.where(positive & ~close, TERM.slope_positive(d, unit, p), 0.0)
        else:
            row = TERM.fold_negative(row, d, negative & ~close, p)
            slope = tl.where(negative & ~close, TERM.slope_negative(d, unit, p), 0.0)
            if tl.program_id(1) == 0:
                tl.store(near + tl.cast(block, tl.int64) * count + t, any_set(close).to(tl.uint8))
        if any_set(slope != 0.0) > 0:
            sums, mass = pull_far(sums, mass, slope * edge_factor(d, METRIC), y, j, f, columns, width, PRECISION)
    total = finish_pull(sums, mass, x, i, f, rows, width)
    _store_gradient(negative_out, total, at, f, i < rows, width)
    if tl.program_id(1) == 0:
        store_members(partial, row, i, rows, part, 2 * parts)


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

    For terms of one channel whose scales begin with a factor for positives and one for negatives, and are otherwise `unit`.
    The live map stays unwritten: this gradient needs no other sweep.
    """
    x, y = packed.query, packed.gallery
    shape = tiles("gradient", x.source.dtype, x.width)
    blocks, slices = triton.cdiv(x.size, shape.rows), triton.cdiv(x.width, shape.features)
    parts = splits(blocks * slices, triton.cdiv(y.size, shape.columns), _MOST_SPLITS)
    partial = x.source.new_empty(term.row_members, 2 * parts, x.size, dtype=torch.float32)
    positive = partial.new_empty(parts, x.size, x.width)
    negative = torch.empty_like(positive)
    count = triton.cdiv(y.size, shape.columns)
    arguments: dict[str, Any] = {
        "x": x.side,
        "y": y.side,
        "begin": order.begin,
        "end": order.end,
        "partial": partial,
        "near": torch.empty(blocks * count, dtype=torch.uint8, device=partial.device),
        "positive_out": positive,
        "negative_out": negative,
        "p": params,
        "rows": x.size,
        "columns": y.size,
        "width": x.width,
        "parts": parts,
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
    launch(one_pass_kernel, (blocks, slices, parts), arguments, constexprs, **shape.options)
    arguments |= {"live": None, "scales": None}
    near_statistics(arguments, constexprs, blocks, mark=False)
    for unit, out in (("positive", positive), ("negative", negative)):
        near_gradient({**arguments, "out": out}, constexprs, blocks, ends=(True, False), unit=unit)
    results, state = finish(partial, packed, order, term, params, channels, state_rows)
    ones = torch.ones_like(results[:channels])
    factors = make_scales(torch.arange(x.size, device=results.device), state, ones, term, params)
    gradient = factors[0].unsqueeze(1) * positive.sum(0) + factors[1].unsqueeze(1) * negative.sum(0)
    return Statistics(results, state, live_map(x.size, y.size, x.source)), x.project(gradient).float()
