"""The gradient sweep, strip by strip: coefficients of some queries against the whole gallery, then their products.

c_ij is the slope of pair (i, j) in the losses that move its ends, times the derivative of the distance's edge; a row's
gradient is Σ_j c_ij (x_i − y_j), for inner products Σ_j c_ij y_j. The coefficients of a strip lie in memory once and
serve the query end, as their product with the gallery, and the gallery end, transposed. Close pairs are taken out of
them and added by direct difference.
"""

import torch
from torch import Tensor

from . import kernels
from .operand import Operand
from .pair import PairProblem
from .strips import Strip, strips

_QUERY, _BOTH = 0, 1  # whose losses a coefficient is made of
_OF_QUERY, _OF_GALLERY = 0, 1  # whose gradient a product is


def gradients(
    problem: PairProblem, scales: Tensor, live: Tensor, *, query_only: bool, need_x: bool, need_gallery: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of both sources, None where not needed; scales [members, R] in sorted order.

    In self form both ends of a pair are x: with `query_only` the losses move only their own row.
    """
    packed = problem.packed
    pull_x = _Pull(problem, packed.query, packed.gallery.size, _OF_QUERY) if need_x else None
    pull_y = _Pull(problem, packed.gallery, packed.query.size, _OF_GALLERY) if need_gallery else None
    both = problem.symmetric or (packed.self_form and not query_only)
    for strip in strips(packed, near=problem.metric != "dot"):
        _coefficients(problem, strip, scales, live, _BOTH if both else _QUERY)
        wanted = [pull for pull in (pull_x, pull_y) if pull is not None]
        for pull in wanted:
            pull.add_near(strip)
        if strip.near_tiles is not None:
            kernels.run("clear_near", [strip.values, strip.near_tiles, strip.near_bits], strip.sizes)
        for pull in wanted:
            pull.add_product(strip, live)
    lost = problem.lost.any() if problem.symmetric else None  # there every gradient hangs on every row
    return tuple(None if pull is None else pull.finish(lost) for pull in (pull_x, pull_y))  # type: ignore[return-value]


def _coefficients(problem: PairProblem, strip: Strip, scales: Tensor, live: Tensor, ends: int) -> None:
    arrays, sizes = problem.arguments
    kernels.run(
        "coefficients",
        [*arrays, scales, live, strip.values, strip.near_tiles, strip.near_bits],
        [*sizes, *strip.sizes, problem.rows, ends],
        problem.term.numbers,
        problem.term.name,
    )


class _Pull:
    """The gradient of one side while strips come in, in sorted order."""

    def __init__(self, problem: PairProblem, owner: Operand, others: int, which: int) -> None:
        self._problem, self._owner, self._which = problem, owner, which
        packed = problem.packed
        self._centred = problem.metric != "dot"
        self._total = packed.gap.new_zeros(owner.size, packed.width, dtype=torch.float64)
        self._mass = packed.gap.new_zeros(packed.points.shape[0], owner.size, dtype=torch.float64)

    def _rows(self, strip: Strip) -> slice:
        """The owner's rows that a strip has."""
        if self._which == _OF_QUERY:
            return slice(strip.first, strip.first + strip.rows)
        return slice(0, strip.columns)

    def add_near(self, strip: Strip) -> None:
        """Close pairs, by direct difference; before they are cleared."""
        if strip.near_tiles is None:
            return
        rows = self._rows(strip)
        sums = strip.values.new_zeros(rows.stop - rows.start, self._total.shape[1])
        arrays, sizes = self._problem.arguments
        kernels.run(
            "near_pull",
            [*arrays, strip.values, strip.near_tiles, strip.near_bits, sums],
            [*sizes, *strip.sizes, 0, self._which],
        )
        self._total[rows] += sums

    def add_product(self, strip: Strip, live: Tensor) -> None:
        """All other pairs."""
        rows = self._rows(strip)
        owners, width = rows.stop - rows.start, self._total.shape[1]
        others = strip.columns if self._which == _OF_QUERY else strip.rows
        (parts,) = kernels.ask("product_parts", strip.values.dtype, (owners, others, width))
        sums = strip.values.new_empty(parts, owners, width)
        mass = strip.values.new_empty(self._mass.shape[0], owners) if self._centred else None
        arrays, sizes = self._problem.arguments
        kernels.run(
            "product",
            [*arrays, strip.values, live, sums, mass],
            [*sizes, *strip.sizes, 0, parts, self._which],
        )
        total = sums.sum(0, dtype=torch.float64)
        if mass is None:
            self._total[rows] += total
        else:
            self._total[rows] -= total
            self._mass[:, rows] += mass

    def finish(self, lost: Tensor | None) -> Tensor:
        """In the source's dtype and order; NaN where `lost`, else where the side says so."""
        total = self._total
        if self._centred:
            total[:, : self._owner.source.width] += self._owner.own_pull(self._mass)
        return self._owner.gradient(total, None if lost is None else lost.expand(self._owner.size))
