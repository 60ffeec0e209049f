"""A strip of the pair matrix in memory: a few anchors against the whole gallery, at most 2²³ numbers at a time.

The rank sweep visits an anchor's negatives once for each chunk of its positives, for coefficients once more. Strips are small
enough to stay in the cache, and keep the product apart from that work: tiles are as large as the tensor cores like them, and
whole rows are ranked without a reduction for every tile and positive.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .configs import precision, splits, tiles
from .launch import launch
from .operand import Operand, Packed
from .pull import finish_pull, pull
from .tile import hide_lost, inner_products, squared_distances

_BUDGET = 1 << 23  # numbers in a strip
_BLOCK = 64  # rows of a strip are a multiple of it, as tiles are


@dataclass(frozen=True, slots=True)
class Strip:
    """Anchors [first, first + rows) of the sorted queries."""

    first: int
    rows: int
    stride: int  # of a row, at least the number of columns

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.stride


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
    Close,  # uint8, alike: which pairs are close; None if nobody asks
    first,
    last,
    stride,
    rows,
    columns,
    width,
    SELF: tl.constexpr,
    DOT: tl.constexpr,
    PRECISION: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """Squared distances, or minus inner products, of one tile; infinite where a row is not finite."""
    row = tl.program_id(1) * BM + tl.arange(0, BM)
    i = first + row
    j = tl.program_id(0) * BN + tl.arange(0, BN)
    inside = (i < last)[:, None] & (j < columns)[None, :]
    place = row.to(tl.int64)[:, None] * stride + j[None, :]
    if DOT:
        value = 0.0 - inner_products(x, y, i, j, rows, columns, width, PRECISION, BK)
    else:
        value, close = squared_distances(x, y, i, j, rows, columns, width, SELF, PRECISION, BK)
        if Close is not None:
            tl.store(Close + place, close.to(tl.uint8), mask=inside)
    value = hide_lost(value, x, y, i, j, rows, columns, float("inf"))
    tl.store(Values + place, value, mask=inside)


def fill_strip(
    packed: Packed, strip: Strip, values: Tensor, close: Tensor | None = None, dot: bool = False
) -> None:
    """Computes a strip's squared distances (`dot`: minus inner products) and which of its pairs are close."""
    x, y = packed.query, packed.gallery
    tile = tiles("strip", x.source.dtype, x.width)
    launch(
        strip_kernel,
        (triton.cdiv(y.size, tile.columns), triton.cdiv(strip.rows, tile.rows)),
        {
            "x": x.side,
            "y": y.side,
            "Values": values,
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
            "PRECISION": precision(x.source.dtype, exact=True),
            "BM": tile.rows,
            "BN": tile.columns,
            "BK": tile.depth,
        },
        **tile.options,
    )


@triton.jit(do_not_specialize=["own_first", "owners", "other_first", "others", "parts"])
def strip_pull_kernel(
    x,  # the side that owns the sums
    y,
    Coefficient,  # fp32 [anchors of the strip, stride]
    Close,  # uint8, alike
    Sums,  # fp32 [parts, owners, width]
    stride,
    own_first,  # where the owners start in x, and how many there are
    owners,
    other_first,
    others,
    width,
    parts,  # how many programs share the others
    ANCHORS_OWN: tl.constexpr,  # owners are the strip's anchors, else its columns
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
        close = tl.load(Close + place, mask=inside, other=0) != 0
        j = other_first + other
        sums, mass = pull(
            sums, mass, c, close, x, y, i, j, f, own_first + owners, other_first + others, width, PRECISION
        )
    sums = finish_pull(sums, mass, x, i, f, own_first + owners, width)
    place = (share * owners + own).to(tl.int64)[:, None] * width + f[None, :]
    tl.store(Sums + place, sums, mask=(own < owners)[:, None] & (f < width)[None, :])


def add_strip(
    packed: Packed,
    strip: Strip,
    coefficient: Tensor,
    close: Tensor,
    to_query: Tensor | None,
    to_gallery: Tensor | None,
) -> None:
    """Adds a strip's share of the gradient to the sums, fp32 [R, D] in sorted order; in self form both may be one tensor."""
    query, gallery = packed.query, packed.gallery
    if to_query is not None:
        own = slice(strip.first, strip.first + strip.rows)
        to_query[own] += _pull(query, gallery, strip, coefficient, close, True)
    if to_gallery is not None:
        to_gallery += _pull(gallery, query, strip, coefficient, close, False)


def _pull(
    own: Operand, other: Operand, strip: Strip, coefficient: Tensor, close: Tensor, anchors_own: bool
) -> Tensor:
    anchors, columns = (strip.first, strip.rows), (0, own.size if not anchors_own else other.size)
    (own_first, owners), (other_first, others) = (anchors, columns) if anchors_own else (columns, anchors)
    dtype, width = own.source.dtype, own.width
    tile = tiles("strip_pull", dtype, width)
    grid = (triton.cdiv(owners, tile.rows), triton.cdiv(width, tile.features))
    split = splits(grid[0] * grid[1], triton.cdiv(others, tile.columns), 16)
    sums = torch.empty(split, owners, width, dtype=torch.float32, device=coefficient.device)
    launch(
        strip_pull_kernel,
        (*grid, split),
        {
            "x": own.side,
            "y": other.side,
            "Coefficient": coefficient,
            "Close": close,
            "Sums": sums,
            "stride": strip.stride,
            "own_first": own_first,
            "owners": owners,
            "other_first": other_first,
            "others": others,
            "width": width,
            "parts": split,
        },
        {
            "ANCHORS_OWN": anchors_own,
            "PRECISION": precision(dtype),
            "BM": tile.rows,
            "BN": tile.columns,
            "DS": tile.features,
        },
        **tile.options,
    )
    return sums.sum(0) if split > 1 else sums[0]
