"""Listed pairs: distances by direct difference in fp64, and gradients summed row by row in the order of the list.

O(pairs · D) work and no product, so fp64 costs little and no digit is lost between near-duplicates.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..gpu.edges import Edges, sum_edges
from ..gpu.finite import finite_rows
from .configs import blocks
from .launch import launch
from .tile import split_factor


@dataclass(frozen=True, slots=True)
class Source:
    """Rows as the caller gave them, and what turns them into the rows that a metric sees."""

    rows: Tensor  # [R, D], contiguous
    inverse: (
        Tensor  # fp64 [R]: 1 / norm where rows are normalised, else 1; 0 for rows that are zero or not finite
    )
    finite: Tensor  # bool [R]
    unit: bool

    @property
    def size(self) -> int:
        return self.rows.shape[0]

    @property
    def width(self) -> int:
        return self.rows.shape[1]

    def gradient(self, total: Tensor) -> Tensor:
        """Gradient of the caller's tensor, in its dtype, from that of the metric's rows, fp64 [R, D]."""
        if self.unit:
            inverse = self.inverse[:, None]
            unit = self.rows.double() * inverse
            total = (total - unit * (unit * total).sum(1, keepdim=True)) * inverse
        return total.to(self.rows.dtype)


def source_of(x: Tensor, *, unit: bool) -> Source:
    """Describes rows [R, D]; norms are computed in fp64 from the rows as they came."""
    x = x.detach().contiguous()
    norm = torch.linalg.vector_norm(x, dim=1, dtype=torch.float64)
    finite = finite_rows(norm.square(), x.dtype.itemsize, unit_rows=unit)
    inverse = torch.where(norm > 0, 1 / norm, 0.0) if unit else torch.ones_like(norm)
    return Source(x, inverse.masked_fill(~finite, 0.0), finite, unit)


@triton.jit
def scaled_difference(x, y, u, v):
    """x·u − y·v in fp64, exactly 0 for copies: a fused multiply-add of the plain form leaves a rounding error.

    Powers of two come out first, exactly, so that the two terms are of one size however long x and y are.
    """
    power_x, rest_x = split_factor(u)
    power_y, rest_y = split_factor(v)
    x = x.to(tl.float64) * power_x
    y = y.to(tl.float64) * power_y
    return (x - y) * (0.5 * (rest_x + rest_y)) + (rest_x - rest_y) * (0.5 * (x + y))


@triton.jit(do_not_specialize=["pairs"])
def listed_square_kernel(
    X,
    Y,
    InverseX,  # fp64, by row
    InverseY,
    First,  # int64 [pairs], row of X
    Second,
    Square,  # fp64 [pairs]
    pairs,
    width,
    PAIRS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """|x_i - y_j|² of each pair."""
    pair = tl.program_id(0).to(tl.int64) * PAIRS + tl.arange(0, PAIRS)
    there = pair < pairs
    i = tl.load(First + pair, mask=there, other=0)
    j = tl.load(Second + pair, mask=there, other=0)
    scale_x = tl.load(InverseX + i, mask=there, other=0.0)[:, None]
    scale_y = tl.load(InverseY + j, mask=there, other=0.0)[:, None]
    square = tl.zeros((PAIRS,), tl.float64)
    for start in range(0, width, DEPTH):
        k = start + tl.arange(0, DEPTH)
        mask = there[:, None] & (k < width)[None, :]
        x = tl.load(X + i[:, None] * width + k[None, :], mask=mask, other=0.0)
        y = tl.load(Y + j[:, None] * width + k[None, :], mask=mask, other=0.0)
        difference = scaled_difference(x, y, scale_x, scale_y)
        square += tl.sum(difference * difference, axis=1)
    tl.store(Square + pair, square, mask=there)


def listed_squares(query: Source, gallery: Source, i: Tensor, j: Tensor) -> Tensor:
    """Squared distances of the pairs (i, j), int64 [L] each, fp64 [L]."""
    square = torch.empty(i.shape[0], dtype=torch.float64, device=i.device)
    tile = blocks("listed")
    launch(
        listed_square_kernel,
        (triton.cdiv(i.shape[0], tile.shape["PAIRS"]),),
        {
            "X": query.rows,
            "Y": gallery.rows,
            "InverseX": query.inverse,
            "InverseY": gallery.inverse,
            "First": i,
            "Second": j,
            "Square": square,
            "pairs": i.shape[0],
            "width": query.width,
        },
        tile.shape,
        **tile.options,
    )
    return square


@triton.jit(do_not_specialize=["rows"])
def edge_sum_kernel(
    X,  # the rows that the sums belong to
    Y,  # the rows at the edges' other ends
    InverseX,
    InverseY,
    Start,  # int64 [rows + 1]: each row's edges in Other and Coefficient
    Other,  # int64 [edges]
    Coefficient,  # fp64 [edges]
    Total,  # fp64 [rows, width], added to
    rows,
    width,
    ROWS: tl.constexpr,
    EDGES: tl.constexpr,
    DEPTH: tl.constexpr,
):
    """Each row's sum of coefficient (x - y) over its edges, in their order."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    k = tl.program_id(1) * DEPTH + tl.arange(0, DEPTH)
    there = row < rows
    begin = tl.load(Start + row, mask=there, other=0)
    end = tl.load(Start + row + 1, mask=there, other=0)
    inside = there[:, None] & (k < width)[None, :]
    place = row[:, None].to(tl.int64) * width + k[None, :]
    scale = tl.load(InverseX + row, mask=there, other=0.0)[:, None]
    x = tl.load(X + place, mask=inside, other=0.0)
    total = tl.load(Total + place, mask=inside, other=0.0)
    for first in range(0, tl.max(end - begin, 0), EDGES):
        edge = begin[:, None] + first + tl.arange(0, EDGES)[None, :]
        real = edge < end[:, None]
        other = tl.load(Other + edge, mask=real, other=0)
        coefficient = tl.load(Coefficient + edge, mask=real, other=0.0)
        scale_y = tl.load(InverseY + other, mask=real, other=0.0)
        mask = real[:, :, None] & (k < width)[None, None, :]
        y = tl.load(Y + other[:, :, None] * width + k[None, None, :], mask=mask, other=0.0)
        difference = scaled_difference(x[:, None, :], y, scale[:, :, None], scale_y[:, :, None])
        total += tl.sum(coefficient[:, :, None] * difference, axis=1)
    tl.store(Total + place, total, mask=inside)


def add_edges(
    edges: Edges, query: Source, gallery: Source, to_query: Tensor | None, to_gallery: Tensor | None
) -> None:
    """Adds the edges' gradients to fp64 [M, D] and [N, D]. In self form (one source) both ends move `to_query`."""
    sum_edges(edges, query, gallery, to_query, to_gallery, _sums)


def _sums(
    total: Tensor, start: Tensor, other: Tensor, coefficient: Tensor, own: Source, others: Source
) -> None:
    tile = blocks("edges")
    launch(
        edge_sum_kernel,
        (
            triton.cdiv(own.size, tile.shape["ROWS"]),
            triton.cdiv(own.width, tile.shape["DEPTH"]),
        ),
        {
            "X": own.rows,
            "Y": others.rows,
            "InverseX": own.inverse,
            "InverseY": others.inverse,
            "Start": start,
            "Other": other,
            "Coefficient": coefficient,
            "Total": total,
            "rows": own.size,
            "width": own.width,
        },
        tile.shape,
        **tile.options,
    )


def edge_factors(square: Tensor, metric: str) -> Tensor:
    """d distance / d x = factor · (x − y), from fp64 squared distances: 0 at a euclidean distance of 0."""
    if metric == "euclidean":
        return square.rsqrt().masked_fill(square == 0, 0)
    return torch.full_like(square, 2.0 if metric == "sqeuclidean" else 1.0)
