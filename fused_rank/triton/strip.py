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

from .configs import near_tiles, precision, splits, tiles
from .launch import launch
from .operand import Operand, Packed
from .pull import finish_pull, pull_far, pull_near
from .tile import any_set, hide_lost, inner_products, product_distances, squared_distances

_BUDGET = 1 << 23  # numbers in a strip
_BLOCK = 64  # rows and columns of a strip's tile; tiles of the gradient nest inside
_TILE = tl.constexpr(_BLOCK)


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
        return triton.cdiv(self.rows, _BLOCK), triton.cdiv(columns, _BLOCK)


def strips(anchors: int, columns: int) -> Iterator[Strip]:
    """Strips that cover all anchors; their size depends on the shape alone."""
    stride = -(-columns // 16) * 16
    rows = max(_BLOCK, _BUDGET // max(stride, 1) // _BLOCK * _BLOCK)
    for first in range(0, anchors, rows):
        yield Strip(first, min(rows, anchors - first), stride)


@triton.jit(do_not_specialize=["first", "last", "rows", "columns"])
def strip_kernel(
    x,
    y,
    Values,  # fp32 [rows of the strip, stride]
    Near,  # uint8 [tile rows, tile columns]: has the tile close pairs?
    Close,  # uint8, as Values: which pairs are close; None if nobody asks
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
    if DOT:
        value = 0.0 - inner_products(x, y, i, j, rows, columns, width, PRECISION, BK)
    elif NEAR:
        value, _ = squared_distances(x, y, i, j, rows, columns, width, SELF, PRECISION, BK)
    else:
        value, close = product_distances(x, y, i, j, rows, columns, width, SELF, PRECISION, BK)
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
                "Close": None if again else close,
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
                "BM": _BLOCK,
                "BN": _BLOCK,
                "BK": shape.depth,
            },
            **shape.options,
        )
    return near


@triton.jit(do_not_specialize=["own_first", "owners", "other_first", "others", "parts", "tile_columns"])
def strip_pull_kernel(
    x,  # the side that owns the sums
    y,
    Coefficient,  # fp32 [anchors of the strip, stride]
    Close,  # uint8, alike
    Near,  # uint8 [tile rows, tile_columns] of the strip
    Sums,  # fp32 [parts, owners, width]
    stride,
    tile_columns,
    own_first,  # where the owners start in x, and how many there are
    owners,
    other_first,
    others,
    width,
    parts,  # how many programs share the others
    ANCHORS_OWN: tl.constexpr,  # owners are the strip's anchors, else its columns
    NEAR: tl.constexpr,  # add close pairs to what the visit of all others left
    PRECISION: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    DS: tl.constexpr,
):
    """Gradient of the owners at a slice of features, from one share of the others: Σ c (x_i − y_j)."""
    own = tl.program_id(0) * BM + tl.arange(0, BM)
    f = tl.program_id(1) * DS + tl.arange(0, DS)
    share = tl.program_id(2)
    i = own_first + own
    sums = tl.zeros([BM, DS], tl.float32)
    mass = tl.zeros([BM], tl.float32)
    for start in range(share * BN, others, parts * BN):
        other = start + tl.arange(0, BN)
        inside = (own < owners)[:, None] & (other < others)[None, :]
        if ANCHORS_OWN:
            place = own.to(tl.int64)[:, None] * stride + other[None, :]
        else:
            place = other.to(tl.int64)[None, :] * stride + own[:, None]
        c = tl.load(Coefficient + place, mask=inside, other=0.0)
        j = other_first + other
        own_tile, other_tile = tl.program_id(0) * BM // _TILE, start // _TILE
        if ANCHORS_OWN:
            near = tl.load(Near + own_tile * tile_columns + other_tile)
        else:
            near = tl.load(Near + other_tile * tile_columns + own_tile)
        if near != 0:
            close = tl.load(Close + place, mask=inside, other=0) != 0
            c = tl.where(close == NEAR, c, 0.0)
            if NEAR:
                sums = pull_near(sums, c, x, y, i, j, f, own_first + owners, width)
        if not NEAR:
            sums, mass = pull_far(sums, mass, c, y, j, f, other_first + others, width, PRECISION)
    place = (share * owners + own).to(tl.int64)[:, None] * width + f[None, :]
    there = (own < owners)[:, None] & (f < width)[None, :]
    if NEAR:
        sums += tl.load(Sums + place, mask=there, other=0.0)
    else:
        sums = finish_pull(sums, mass, x, i, f, own_first + owners, width, METRIC)
    tl.store(Sums + place, sums, mask=there)


@dataclass(frozen=True, slots=True)
class Coefficients:
    """A strip's factors of x_anchor − y_j in the gradient."""

    strip: Strip
    values: Tensor  # fp32 [rows, stride]
    close: Tensor  # uint8, alike: pairs that need direct differences
    near: Tensor  # uint8 [tile rows, tile columns]: tiles that have any


def add_strip(
    packed: Packed, coefficients: Coefficients, to_query: Tensor | None, to_gallery: Tensor | None
) -> None:
    """Adds a strip's share of the gradient to sums, fp32 [R, D] in sorted order; in self form both are one tensor."""
    query, gallery, strip = packed.query, packed.gallery, coefficients.strip
    if to_query is not None:
        to_query[strip.first : strip.first + strip.rows] += _pull(query, gallery, coefficients, True)
    if to_gallery is not None:
        to_gallery += _pull(gallery, query, coefficients, False)


def _pull(own: Operand, other: Operand, coefficients: Coefficients, anchors_own: bool) -> Tensor:
    strip = coefficients.strip
    anchors, columns = (strip.first, strip.rows), (0, other.size if anchors_own else own.size)
    (own_first, owners), (other_first, others) = (anchors, columns) if anchors_own else (columns, anchors)
    dtype, width = own.source.dtype, own.width
    tile = tiles("strip_pull", dtype, width)
    grid = (triton.cdiv(owners, tile.rows), triton.cdiv(width, tile.features))
    parts = splits(grid[0] * grid[1], triton.cdiv(others, tile.columns), 16)
    sums = torch.empty(parts, owners, width, dtype=torch.float32, device=coefficients.values.device)
    for near in (False, True):
        launch(
            strip_pull_kernel,
            (*grid, parts),
            {
                "x": own.side,
                "y": other.side,
                "Coefficient": coefficients.values,
                "Close": coefficients.close,
                "Near": coefficients.near,
                "Sums": sums,
                "stride": strip.stride,
                "tile_columns": coefficients.near.shape[1],
                "own_first": own_first,
                "owners": owners,
                "other_first": other_first,
                "others": others,
                "width": width,
                "parts": parts,
            },
            {
                "ANCHORS_OWN": anchors_own,
                "NEAR": near,
                "PRECISION": precision(dtype),
                "BM": tile.rows,
                "BN": tile.columns,
                "DS": tile.features,
            },
            **(near_tiles(dtype) if near else tile).options,
        )
    return sums.sum(0) if parts > 1 else sums[0]
