"""One side of the pair matrix, packed for the tile product, and the way back from its gradient.

fp32 rows are normalised and centred in fp64 and rounded once; what the rounding left is kept apart, for pairs so
close that their difference needs it. 16-bit rows are multiplied as they came, in label order, and carry their inverse
norms.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..gpu.finite import finite_rows
from ..gpu.order import LabelOrder
from .clusters import FEWEST, describe_clusters
from .side import Side


@dataclass(frozen=True, slots=True)
class Operand:
    """A packed side and what it was made of; the tensors that are not in `side` are in original order."""

    side: Side
    source: Tensor  # [R, D] as it came
    inverse_norm: Tensor | None  # [R] fp64, 0 for a zero row; None where rows are not normalised
    lost: Tensor  # bool [R]: its results are NaN
    adrift: Tensor  # bool [R]: its gradient is NaN

    @property
    def size(self) -> int:
        return self.source.shape[0]

    @property
    def width(self) -> int:
        return self.source.shape[1]

    def project(self, grad: Tensor) -> Tensor:
        """From the gradient of the (normalised) rows [R, D] to that of the source; NaN for rows that are adrift.

        Through x̂ = x / |x|: (g − x̂ (x̂ · g)) / |x|, nothing for a zero row.
        """
        if self.inverse_norm is not None:
            inverse = self.inverse_norm.unsqueeze(1)
            unit = self.source.double().mul_(inverse)
            along = (unit * grad).sum(1, keepdim=True)
            grad = inverse * (grad - along * unit)
        return grad.masked_fill(self.adrift.unsqueeze(1), torch.nan)

    def gradient(self, grad: Tensor) -> Tensor:
        """The same in the source's dtype."""
        return self.project(grad).to(self.source.dtype)


@dataclass(frozen=True, slots=True)
class Packed:
    """Both sides; in self form they are one object."""

    query: Operand
    gallery: Operand

    @property
    def self_form(self) -> bool:
        return self.query is self.gallery


def pack(
    x: Tensor,
    gallery: Tensor | None,
    order: LabelOrder,
    *,
    unit_rows: bool,
    centre: bool = True,
    both_ways: bool = False,
) -> Packed:
    """Pack x [M, D] and gallery [N, D] (None: self form) in label order.

    Args:
        unit_rows: divide rows by their norms.
        centre: subtract the common mean from fp32 rows, and describe tight clusters; not for inner products.
        both_ways: gallery rows have losses as well, which any query that is not finite makes NaN.
    """
    query = _describe(x.detach(), unit_rows)
    other = query if gallery is None else _describe(gallery.detach(), unit_rows)
    offset = None
    if centre and x.dtype == torch.float32:
        offset = _common_mean([query] if gallery is None else [query, other])
    clustered = centre and min(len(query.source), len(other.source)) >= FEWEST
    queries_finite, all_finite = query.finite.all(), other.finite.all()
    lost = ~(query.finite & all_finite), ~(other.finite & (queries_finite if both_ways else all_finite))
    adrift = lost  # a gallery row has its gradient from queries, and loses it to any other that is lost
    if gallery is None or both_ways:
        any_lost = ~(queries_finite & all_finite)
        adrift = any_lost.repeat(len(query.source)), any_lost.repeat(len(other.source))
        lost = lost if both_ways else adrift
    packed = _pack(query, order.query, offset, (lost[0], adrift[0]), clustered)
    if gallery is None:
        both = Packed(packed, packed)
    else:
        both = Packed(packed, _pack(other, order.gallery, offset, (lost[1], adrift[1]), clustered))
    if clustered:
        describe_clusters(both.query.side, both.gallery.side)
    return both


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows in original order; those that are not finite are zero."""

    source: Tensor
    exact: Tensor  # [R, D] fp64, normalised if asked
    square: Tensor  # [R] fp64: |x|² of the source
    inverse_norm: Tensor | None  # [R] fp64
    finite: Tensor  # bool [R]


def _describe(source: Tensor, unit_rows: bool) -> _Rows:
    exact = source.double()
    square = (exact * exact).sum(1)
    finite = finite_rows(square, source.dtype.itemsize, unit_rows=unit_rows)
    square = square.where(finite, 0)
    exact = exact.masked_fill(~finite.unsqueeze(1), 0)
    if not unit_rows:
        return _Rows(source, exact, square, None, finite)
    inverse = square.rsqrt().masked_fill(square == 0, 0)
    return _Rows(source, exact * inverse.unsqueeze(1), square, inverse, finite)


def _common_mean(sides: list[_Rows]) -> Tensor:
    """The mean of all rows [D], on a grid about as fine as the rows are spread out.

    A grid point centres as well, and rows on a grid of their own (small integers) keep exact distances: equal ones tie.
    """
    count = torch.stack([side.finite.sum() for side in sides]).sum().clamp(min=1)
    mean = torch.stack([side.exact.sum(0) for side in sides]).sum(0) / count
    square = torch.stack([side.exact.square().sum() for side in sides]).sum() / count
    spread = square - mean.dot(mean)
    step = torch.exp2(torch.floor(0.5 * torch.log2(spread.clamp(min=1e-300) / mean.shape[0])))
    gridded = step * torch.round(mean / step)
    return torch.where(spread > 1e-12 * square, gridded, mean)  # below, no grid is fine enough to help


def _pack(
    rows: _Rows, order: Tensor, offset: Tensor | None, lost: tuple[Tensor, Tensor], clustered: bool
) -> Operand:
    finite = rows.finite[order]
    if rows.source.dtype == torch.float32:
        exact = rows.exact[order]
        if offset is not None:
            exact = (exact - offset).masked_fill_(~finite.unsqueeze(1), 0)
        high = exact.float()
        low = (exact - high).float()
        inverse = torch.ones_like(finite, dtype=torch.float32)
        norm = high.double().square_().sum(1).float()
    else:
        high = rows.source[order].masked_fill(~finite.unsqueeze(1), 0).contiguous()
        low = high
        inverse = torch.ones_like(finite, dtype=torch.float32)
        if rows.inverse_norm is not None:
            inverse = rows.inverse_norm[order].float()
        norm = (rows.square[order] * inverse.double().square()).float()
    cluster = torch.full_like(order, -1, dtype=torch.int32)
    local = torch.zeros_like(high, dtype=torch.float32) if clustered else norm
    local_norm = torch.zeros_like(norm) if clustered else norm
    side = Side(high, low, inverse, norm, finite.to(torch.uint8), order, cluster, local, local_norm)
    return Operand(side, rows.source, rows.inverse_norm, *lost)
