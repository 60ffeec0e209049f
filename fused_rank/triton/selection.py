"""The selection sweep: the farthest positive and the nearest negative of every anchor, ties to the lowest original row.

In self form only tiles on and above the diagonal are computed (half a product) and each serves its rows and its
columns. Tiles meet in one 64-bit atomic minimum for a row of theirs, on keys of distance and row number: the same bits
in any order.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..gpu.order import LabelOrder
from .configs import local_precision, near_tiles, precision, tiles
from .keys import NOBODY_KEY, farthest_first, nearest_first
from .launch import launch
from .operand import Packed
from .tile import APART, any_set, hide_lost, kinds, load_ranges, near_distances, product_distances


@triton.jit
def offer_nearest(Best, at, there, squared, number, AXIS: tl.constexpr):
    """Each row's (AXIS 1) or column's (AXIS 0) least squared distance and its partner's number, if below infinity."""
    least = tl.min(squared, AXIS)
    equal = squared == tl.expand_dims(least, AXIS)
    partner = tl.min(tl.where(equal, number, 2147483647), AXIS)
    tl.atomic_min(Best + at, nearest_first(least, partner), mask=there & (least < float("inf")))


@triton.jit
def offer_farthest(Best, at, there, squared, number, AXIS: tl.constexpr):
    """The same for the greatest, where at least 0."""
    most = tl.max(squared, AXIS)
    equal = squared == tl.expand_dims(most, AXIS)
    partner = tl.min(tl.where(equal, number, 2147483647), AXIS)
    tl.atomic_min(Best + at, farthest_first(most, partner), mask=there & (most >= 0.0))


@triton.jit(do_not_specialize=["rows", "columns"])
def hard_kernel(
    x,
    y,
    Begin,
    End,
    Nearest,  # int64 [rows]: keys of the nearest negatives
    Farthest,  # int64 [rows]: of the farthest positives
    Near,  # uint8 [row tiles, column tiles]: has the tile close pairs?
    rows,
    columns,
    width,
    SELF: tl.constexpr,
    NEAR: tl.constexpr,  # only close pairs, which the first visit left out
    PRECISION: tl.constexpr,
    LOCAL: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """One tile into the bests of its rows and, in self form, of its columns."""
    row_tile, column_tile = tl.program_id(1), tl.program_id(0)
    if SELF:  # BM = BN
        if column_tile < row_tile:
            return
    tile = Near + row_tile.to(tl.int64) * tl.num_programs(0) + column_tile
    if NEAR:
        if tl.load(tile) == 0:
            return
    i = row_tile * BM + tl.arange(0, BM)
    j = column_tile * BN + tl.arange(0, BN)
    apart: tl.constexpr = 0 if SELF else APART
    if NEAR:
        squared, wanted, _ = near_distances(x, y, i, j, rows, columns, width, apart, PRECISION, LOCAL, BK)
    else:
        squared, close = product_distances(x, y, i, j, rows, columns, width, apart, PRECISION, BK)
        wanted = close == 0
        tl.store(tile, any_set(close).to(tl.uint8))
    squared = hide_lost(squared, x, y, i, j, rows, columns, float("inf"))
    first, last = load_ranges(Begin, End, i, rows)
    positive, negative = kinds(i, j, first, last, rows, columns, apart)
    positive = positive & wanted
    own = tl.load(x.index + i, mask=i < rows, other=0).to(tl.int32)[:, None]
    other = tl.load(y.index + j, mask=j < columns, other=0).to(tl.int32)[None, :]
    near = tl.where(negative & wanted, squared, float("inf"))
    offer_nearest(Nearest, i, i < rows, near, other, 1)
    if SELF:
        if column_tile > row_tile:
            offer_nearest(Nearest, j, j < columns, near, own, 0)
    if any_set(positive) != 0:
        far = tl.where(positive & (squared < float("inf")), squared, -1.0)
        offer_farthest(Farthest, i, i < rows, far, other, 1)
        if SELF:
            if column_tile > row_tile:
                offer_farthest(Farthest, j, j < columns, far, own, 0)


def hardest(packed: Packed, order: LabelOrder) -> tuple[Tensor, Tensor]:
    """Farthest positive and nearest negative (original rows, -1 for none), int64 [M], by original query."""
    x, y = packed.query, packed.gallery
    nearest, farthest = torch.full((2, x.size), NOBODY_KEY, device=order.query.device).unbind(0)
    tile = tiles("selection", x.source.dtype, x.width)
    grid = (triton.cdiv(y.size, tile.columns), triton.cdiv(x.size, tile.rows))
    near = torch.empty(grid[::-1], dtype=torch.uint8, device=nearest.device)
    for again in (False, True):
        shape = near_tiles(x.source.dtype) if again else tile
        launch(
            hard_kernel,
            grid,
            {
                "x": x.side,
                "y": y.side,
                "Begin": order.begin,
                "End": order.end,
                "Nearest": nearest,
                "Farthest": farthest,
                "Near": near,
                "rows": x.size,
                "columns": y.size,
                "width": x.width,
            },
            {
                "SELF": packed.self_form,
                "NEAR": again,
                "PRECISION": precision(x.source.dtype, exact=True),
                "LOCAL": local_precision(exact=True),
                "BM": tile.rows,
                "BN": tile.columns,
                "BK": shape.depth,
            },
            **shape.options,
        )
    return _rows_of(farthest, order), _rows_of(nearest, order)


def _rows_of(keys: Tensor, order: LabelOrder) -> Tensor:
    found = torch.where(keys == NOBODY_KEY, -1, keys & 0x7FFFFFFF)
    result = torch.empty_like(found)
    result[order.query] = found
    return result
