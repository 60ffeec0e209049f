"""From coefficients to gradients, strip by strip.

With coefficients c_ij a row's gradient is Σ_j c_ij (x_i − y_j), for inner products Σ_j c_ij y_j. The coefficients of a
strip lie in memory once and serve the query end, as their product with the gallery, and the gallery end, transposed.
Close pairs are taken out of them and added by direct difference.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..gpu.order import LabelOrder
from ..ops.options import RetrievalMetric
from . import kernels
from .operand import Packed
from .strips import Strip

OF_QUERY, OF_GALLERY = 0, 1  # whose gradient a product is


class Pull:
    """The gradient of one side while strips come in, in sorted order.

    Args:
        into: the sums are this one's, which has begun.
        beyond: of the gallery only columns that come after a strip's rows: the mirror image of a triangle.
    """

    def __init__(
        self,
        packed: Packed,
        order: LabelOrder,
        metric: RetrievalMetric,
        which: int,
        into: "Pull | None" = None,
        beyond: bool = False,
    ) -> None:
        self._arguments = packed.arguments(order, metric)
        self._which = which
        self._beyond = beyond
        self._owner = packed.query if which == OF_QUERY else packed.gallery
        self._centred = metric != "dot"
        shape = (self._owner.size, packed.width), (packed.points.shape[0], self._owner.size)
        self._total: Tensor
        self._mass: Tensor
        if into is not None:
            self._total, self._mass = into._total, into._mass
        else:
            self._total, self._mass = (packed.gap.new_zeros(s, dtype=torch.float64) for s in shape)

    def _rows(self, strip: Strip) -> tuple[int, slice]:
        """The first owner wanted within a strip, and the owner's rows from there on that the strip has."""
        if self._which == OF_QUERY:
            return 0, slice(strip.first, strip.first + strip.rows)
        first = strip.rows if self._beyond else 0
        return first, slice(strip.first_column + first, strip.first_column + strip.columns)

    def add_near(self, strip: Strip) -> None:
        """Close pairs, by direct difference; before they are cleared."""
        first, rows = self._rows(strip)
        if strip.near_tiles is None or rows.start == rows.stop:
            return
        sums = strip.values.new_zeros(rows.stop - rows.start, self._total.shape[1])
        arrays, sizes = self._arguments
        kernels.run(
            "near_pull",
            [*arrays, strip.values, strip.near_tiles, strip.near_bits, sums],
            [*sizes, *strip.sizes, first, self._which],
        )
        self._total[rows] += sums

    def add_product(self, strip: Strip, live: Tensor | None) -> None:
        """All other pairs."""
        first, rows = self._rows(strip)
        owners, width = rows.stop - rows.start, self._total.shape[1]
        if owners == 0:
            return
        others = strip.columns if self._which == OF_QUERY else strip.rows
        (parts,) = kernels.ask("product_parts", strip.values.dtype, (owners, others, width))
        sums = strip.values.new_empty(parts, owners, width)
        mass = strip.values.new_empty(self._mass.shape[0], owners) if self._centred else None
        arrays, sizes = self._arguments
        kernels.run(
            "product",
            [*arrays, strip.values, live, sums, mass],
            [*sizes, *strip.sizes, first, parts, self._which],
        )
        total = sums.sum(0, dtype=torch.float64)
        if mass is None:
            self._total[rows] += total
        else:
            self._total[rows] -= total
            self._mass[:, rows] += mass

    def finish(self, lost: Tensor | None = None) -> Tensor:
        """In the source's dtype and order; NaN where `lost`, else where the side says so."""
        total = self._total
        if self._centred:
            total[:, : self._owner.source.width] += self._owner.own_pull(self._mass)
        return self._owner.gradient(total, None if lost is None else lost.expand(self._owner.size))


def add_strip(strip: Strip, pulls: Sequence[Pull], live: Tensor | None = None) -> None:
    """A strip of coefficients into each of the gradients; it is changed. `live`: of the whole pair matrix."""
    for pull in pulls:
        pull.add_near(strip)
    if strip.near_tiles is not None:
        kernels.run("clear_near", [strip.values, strip.near_tiles, strip.near_bits], strip.sizes)
    for pull in pulls:
        pull.add_product(strip, live)
