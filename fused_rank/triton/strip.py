"""A strip of the pair matrix in memory: a few anchors against the whole gallery, at most 2²³ numbers at a time.

The rank sweep visits an anchor's negatives once for each chunk of its positives, for coefficients once more. Strips are
small enough to stay in the cache, and keep the product apart from that work: tiles are as large as tensor cores like
them, and whole rows are ranked without a reduction for every tile and positive.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .configs import STRIP_TILE, local_precision, near_tiles, precision, tiles
from .launch import launch
from .operand import Packed
from .tile import APART, any_set, hide_lost, inner_products, near_distances, product_distances

_BUDGET = 1 << 23  # numbers in a strip


@dataclass(frozen=True, slots=True)
class Strip:
    """Anchors [first, first + rows) of the sorted queries."""

    first: int
    rows: int
    stride: int  # of a row, at least the number of columns

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.stride

    def tiles(self, columns: int) -> tuple[int, int]:
        return triton.cdiv(self.rows, STRIP_TILE), triton.cdiv(columns, STRIP_TILE)


def strips(anchors: int, columns: int) -> Iterator[Strip]:
    """Strips that cover all anchors; their size depends on the shape alone."""
    stride = -(-columns // 16) * 16
    rows = max(STRIP_TILE, _BUDGET // max(stride, 1) // STRIP_TILE * STRIP_TILE)
    for first in range(0, anchors, rows):
        yield Strip(first, min(rows, anchors - first), stride)


@triton.jit(do_not_specialize=["first", "last", "rows", "columns"])
def strip_kernel(
    x,
    y,
    Values,  # fp32 [rows of the strip, stride]
    Near,  # uint8 [tile rows, tile columns]: has the tile close pairs?
    Close,  # uint8, as Values: 1 for close pairs, 2 for those that a product cannot serve; None if nobody asks
    first,
    last,
    stride,
    rows,
    columns,
    width,
    SELF: tl.constexpr,
    DOT: tl.constexpr,
    NEAR: tl.constexpr,  # only tiles with close pairs, which the first visit left to be recomputed
    PRECISION: tl.constexpr,
    LOCAL: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Squared distances, or minus inner products, of one tile; infinite where a row is not finite."""
    tile = Near + tl.program_id(1).to(tl.int64) * tl.num_programs(0) + tl.program_id(0)
    if NEAR:
        if tl.load(tile) == 0:
            return
    row = tl.program_id(1) * BM + tl.arange(0, BM)
    i = first + row
    j = tl.program_id(0) * BN + tl.arange(0, BN)
    inside = (i < last)[:, None] & (j < columns)[None, :]
    place = row.to(tl.int64)[:, None] * stride + j[None, :]
    apart: tl.constexpr = 0 if SELF else APART
    if DOT:
        value = 0.0 - inner_products(x, y, i, j, rows, columns, width, PRECISION, BK)
    elif NEAR:
        value, close, apiece = near_distances(x, y, i, j, rows, columns, width, apart, PRECISION, LOCAL, BK)
        if Close is not None:
            tl.store(Close + place, close.to(tl.uint8) + apiece.to(tl.uint8), mask=inside)
    else:
        value, close = product_distances(x, y, i, j, rows, columns, width, apart, PRECISION, BK)
        tl.store(tile, any_set(close & inside).to(tl.uint8))
        if Close is not None:
            tl.store(Close + place, close.to(tl.uint8), mask=inside)
    if SELF and not DOT:
        value = tl.where(i[:, None] == j[None, :], 0.0, value)  # from itself
    value = hide_lost(value, x, y, i, j, rows, columns, float("inf"))
    tl.store(Values + place, value, mask=inside)


def fill_strip(
    packed: Packed, strip: Strip, values: Tensor, close: Tensor | None = None, dot: bool = False
) -> Tensor:
    """Computes a strip's squared distances (`dot`: minus inner products) and which of its pairs are close.

    Returns which of its tiles have close pairs, uint8 [tile rows, tile columns].
    """
    x, y = packed.query, packed.gallery
    tile = tiles("strip", x.source.dtype, x.width)
    near = torch.empty(strip.tiles(y.size), dtype=torch.uint8, device=values.device)
    for again in (False,) if dot else (False, True):
        shape = near_tiles(x.source.dtype) if again else tile
        launch(
            strip_kernel,
            strip.tiles(y.size)[::-1],
            {
                "x": x.side,
                "y": y.side,
                "Values": values,
                "Near": near,
                "Close": close,
                "first": strip.first,
                "last": strip.first + strip.rows,
                "stride": strip.stride,
                "rows": x.size,
                "columns": y.size,
                "width": x.width,
            },
            {
                "SELF": packed.self_form,
                "DOT": dot,
                "NEAR": again,
                "PRECISION": precision(x.source.dtype, exact=True),
                "LOCAL": local_precision(exact=True),
                "BM": STRIP_TILE,
                "BN": STRIP_TILE,
                "BK": shape.depth,
            },
            **shape.options,
        )
    return near
