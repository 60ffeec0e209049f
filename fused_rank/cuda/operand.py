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
from ..reference.distance import accumulation_dtype
from .centres import Centres, choose_centres, no_centre
from .rows import Rows, describe

_LANE = 4  # widths are multiples of it: kernels load four numbers at a time


class Side(NamedTuple):
    """What kernels see of a side of R rows, in sorted order; T is fp32 or fp64."""

    rows: Tensor  # [R, W] T: relative to the row's centre; zeros beyond D, and in rows that are not finite
    low: Tensor  # [R, W] fp32: what `rows` lost to rounding; empty for fp64
    norm: Tensor  # [C, R] T: |p|² + 2 p · (own centre − centre)
    centre: Tensor  # [R] int32
    finite: Tensor  # [R] uint8
    index: Tensor  # type: ignore[assignment]  # [R] int64: the original row


@dataclass(frozen=True, slots=True)
class Operand:
    """A packed side and what it was made of."""

    side: Side
    source: Rows
    centres: Centres
    lost: Tensor  # bool [R], original order: its results are NaN

    @property
    def size(self) -> int:
        return self.source.size

    def gradient(self, pulled: Tensor, mass: Tensor) -> Tensor:
        """The gradient of the source [R, D], in its dtype and order, from what kernels give in sorted order:
        Σ_j c_ij q_j [R, W], and Σ c_ij over the j of each centre [R, C].

        Σ_j c_ij (x_i − y_j) = Σ_e mass_ie (x_i − e) − Σ_j c_ij q_j
        """
        place = torch.argsort(self.side.index)  # original row -> sorted position
        weights = mass.double()[place]
        middle = self.centres.at[0]  # relative to it the first sum keeps its digits
        towards = weights @ (self.centres.at - middle)
        own = weights.sum(1, keepdim=True) * (self.source.exact - middle)
        return self.finish(own - towards - pulled[:, : self.source.width].double()[place])

    def finish(self, grad: Tensor) -> Tensor:
        """The gradient of the source, from that of the rows as packed, fp64 [R, D] in original order."""
        grad = self.source.project(grad).masked_fill(self.lost.unsqueeze(1), torch.nan)
        return grad.to(self.source.source.dtype)


@dataclass(frozen=True, slots=True)
class Packed:
    """Both sides; in self form they are one object."""

    query: Operand
    gallery: Operand
    gap: Tensor  # [C, C] T: squared distances between the centres

    @property
    def self_form(self) -> bool:
        return self.query is self.gallery


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
    sides = [query] if gallery is None else [query, other]
    centres = choose_centres(sides) if centre else no_centre(query)
    dtype = accumulation_dtype(x.dtype)
    all_finite = other.finite.all()
    if gallery is None:
        packed = Operand(
            _side(query, order.query, centres, dtype), query, centres, ~all_finite.expand(x.shape[0])
        )
        return Packed(packed, packed, centres.gaps.to(dtype))
    return Packed(
        Operand(_side(query, order.query, centres, dtype), query, centres, ~(query.finite & all_finite)),
        # a gallery row loses its gradient to any other that is lost
        Operand(_side(other, order.gallery, centres, dtype), other, centres, ~(other.finite & all_finite)),
        centres.gaps.to(dtype),
    )


def _side(rows: Rows, order: Tensor, centres: Centres, dtype: torch.dtype) -> Side:
    exact, finite = rows.exact[order], rows.finite[order]
    own = centres.nearest(exact)
    exact = (exact - centres.at[own]).masked_fill_(~finite.unsqueeze(1), 0)
    padding = (0, -rows.width % _LANE)
    high = torch.nn.functional.pad(exact.to(dtype), padding)
    low = high.new_empty(0)
    if dtype == torch.float32:
        low = torch.nn.functional.pad((exact - exact.float()).float(), padding)
    stored = exact.to(dtype).double()  # what the product sees
    turned = stored @ (centres.at - centres.at[0]).t()  # [R, C]: p · centre
    norm = stored.square().sum(1, keepdim=True) + 2 * (turned.gather(1, own.unsqueeze(1)) - turned)
    return Side(
        high.contiguous(),
        low.contiguous(),
        norm.to(dtype).t().contiguous(),
        own.int(),
        finite.to(torch.uint8),
        order,
    )
