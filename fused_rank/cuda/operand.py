"""Both sides of the pair matrix, packed for the CUDA kernels, and the way back from their gradient.

Rows are normalised and centred in fp64 and rounded once, to fp32 (for fp32, bf16 and fp16 embeddings) or fp64. With
rows stored as p = x − c and q = y − e, for centres c and e,
    d² = (|p|² + 2 p · (c − e)) + (|q|² + 2 q · (e − c)) + |c − e|² − 2 p · q,
where the brackets are each row's own: `Side.norm`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..gpu.order import LabelOrder
from ..ops.options import RETRIEVAL_METRICS, RetrievalMetric
from ..reference.distance import accumulation_dtype
from .centres import Centres, choose_centres, no_centre
from .rows import Rows, describe

_LANE = 4  # widths are multiples of it: kernels load four numbers at a time


class Side(NamedTuple):
    """What kernels see of a side of R rows, in sorted order; T is fp32 or fp64."""

    rows: Tensor  # [R, W] T: relative to the row's centre; zeros beyond D, and in rows that are not finite
    low: (
        Tensor | None
    )  # [R, W] fp32: what `rows` lost to rounding; None for fp64 and where nothing is centred
    norm: Tensor  # [C, R] T: |p|² + 2 p · (own centre − centre)
    centre: Tensor | None  # [R] uint8; None where there is one centre
    finite: Tensor  # [R] uint8
    index: Tensor  # type: ignore[assignment]  # [R] int64: the original row


@dataclass(frozen=True, slots=True)
class Operand:
    """A packed side and what it was made of."""

    side: Side
    source: Rows
    centres: Centres
    place: Tensor  # int64 [R]: original row -> sorted position
    lost: Tensor  # bool [R], original order: its results are NaN

    @property
    def size(self) -> int:
        return self.source.size

    def own_pull(self, mass: Tensor) -> Tensor:
        """Σ_j c_ij (x_i − e_j) in sorted order, fp64 [R, D], of the sums of c_ij over the j of each centre [C, R].

        With the y_j as stored, q_j = y_j − e_j, this is what Σ_j c_ij (x_i − y_j) has besides −Σ_j c_ij q_j.
        """
        weights = mass.double().t()
        middle = self.centres.at[0]  # relative to it both sums keep their digits
        own = weights.sum(1, keepdim=True) * (self.source.exact[self.side.index] - middle)
        return own - weights @ (self.centres.at - middle)

    def gradient(self, grad: Tensor, lost: Tensor | None = None) -> Tensor:
        """The gradient of the source, in its dtype and order, from that of the (normalised) rows, fp64 [R, ≥ D] in
        sorted order. NaN for rows that are lost.
        """
        lost = self.lost if lost is None else lost
        grad = self.source.project(grad[self.place, : self.source.width])
        return grad.masked_fill(lost.unsqueeze(1), torch.nan).to(self.source.source.dtype)


@dataclass(frozen=True, slots=True)
class Packed:
    """Both sides; in self form they are one object."""

    query: Operand
    gallery: Operand
    gap: Tensor  # [C, C] T: squared distances between the centres
    points: Tensor  # [C, W] fp64: the centres

    @property
    def self_form(self) -> bool:
        return self.query is self.gallery

    @property
    def dtype(self) -> torch.dtype:
        """T."""
        return self.gap.dtype

    @property
    def width(self) -> int:
        """W."""
        return self.points.shape[1]

    def arguments(self, order: LabelOrder, metric: RetrievalMetric) -> tuple[list[Tensor | None], list[int]]:
        """What most kernels begin with: arrays and sizes of `csrc/cuda/calls_common.h`."""
        several = self.points.shape[0] > 1
        ends = [self.gap, self.points] if several else [None, None]
        arrays = [*self.query.side, *self.gallery.side, order.begin, order.end, *ends]
        code = RETRIEVAL_METRICS.index(metric)
        sizes = [
            self.query.size,
            self.gallery.size,
            self.width,
            self.points.shape[0],
            code,
            int(self.self_form),
        ]
        return arrays, sizes


def pack(
    x: Tensor, gallery: Tensor | None, order: LabelOrder, *, unit_rows: bool, centre: bool = True
) -> Packed:
    """Pack x [M, D] and gallery [N, D] (None: self form) in label order.

    Args:
        unit_rows: divide rows by their norms.
        centre: store rows relative to centres; not for inner products.
    """
    query = describe(x, unit_rows)
    other = query if gallery is None else describe(gallery, unit_rows)
    centres = choose_centres([query] if gallery is None else [query, other]) if centre else no_centre(query)
    dtype = accumulation_dtype(x.dtype)
    gap, points = centres.gaps.to(dtype), _padded(centres.at)
    all_finite = other.finite.all()
    if gallery is None:
        lost = ~all_finite.expand(x.shape[0])
        packed = _operand(query, order.query, centres, dtype, lost, keep_low=centre)
        return Packed(packed, packed, gap, points)
    return Packed(
        _operand(query, order.query, centres, dtype, ~(query.finite & all_finite), keep_low=centre),
        # a gallery row loses its gradient to any other that is lost
        _operand(other, order.gallery, centres, dtype, ~(other.finite & all_finite), keep_low=centre),
        gap,
        points,
    )


def _operand(
    rows: Rows, order: Tensor, centres: Centres, dtype: torch.dtype, lost: Tensor, *, keep_low: bool
) -> Operand:
    exact, finite = rows.exact[order], rows.finite[order]
    own = centres.nearest(exact)
    exact = (exact - centres.at[own]).masked_fill_(~finite.unsqueeze(1), 0)
    high = exact.to(dtype)
    stored = high.double()  # what the product sees
    low = _padded((exact - stored).float()) if keep_low and dtype == torch.float32 else None
    turned = stored @ (centres.at - centres.at[0]).t()  # [R, C]: p · centre
    norm = stored.square().sum(1, keepdim=True) + 2 * (turned.gather(1, own.unsqueeze(1)) - turned)
    side = Side(
        _padded(high),
        low,
        norm.to(dtype).t().contiguous(),
        own.to(torch.uint8) if centres.count > 1 else None,
        finite.to(torch.uint8),
        order,
    )
    return Operand(side, rows, centres, torch.argsort(order), lost)


def _padded(rows: Tensor) -> Tensor:
    """[R, D] -> [R, W]."""
    return torch.nn.functional.pad(rows, (0, -rows.shape[1] % _LANE)).contiguous()
