"""The gradient sweep of pair losses: coefficients of some queries against the gallery, then their products.

c_ij is the slope of pair (i, j) in the losses that move its ends, times the derivative of the distance's edge.
"""

from torch import Tensor

from . import kernels
from .pair import PairProblem
from .pull import OF_GALLERY, OF_QUERY, Pull, add_strip
from .strips import Strip, strips, triangle_pays

_QUERY, _BOTH = 0, 1  # whose losses a coefficient is made of


def gradients(
    problem: PairProblem, scales: Tensor, live: Tensor, *, query_only: bool, need_x: bool, need_gallery: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of both sources, None where not needed; scales [members, R] in sorted order.

    In self form both ends of a pair are x: with `query_only` the losses move only their own row.
    """
    packed, order, metric = problem.packed, problem.order, problem.metric
    pull_x = Pull(packed, order, metric, OF_QUERY) if need_x else None
    pull_y = Pull(packed, order, metric, OF_GALLERY) if need_gallery else None
    both = problem.symmetric or (packed.self_form and not query_only)
    # in self form those of both ends are symmetric: each is computed once
    triangle = packed.self_form and both and triangle_pays(packed)
    if triangle and pull_x is not None:
        pull_y = Pull(packed, order, metric, OF_GALLERY, into=pull_x, beyond=True)
    for strip in strips(packed, near=metric != "dot", triangle=triangle):
        _coefficients(problem, strip, scales, live, _BOTH if both else _QUERY)
        add_strip(strip, [pull for pull in (pull_x, pull_y) if pull is not None], live)
    lost = problem.lost.any() if problem.symmetric else None  # there every gradient hangs on every row
    grad_x = None if pull_x is None else pull_x.finish(lost)
    return grad_x, None if pull_y is None or packed.self_form else pull_y.finish(lost)


def _coefficients(problem: PairProblem, strip: Strip, scales: Tensor, live: Tensor, ends: int) -> None:
    arrays, sizes = problem.arguments
    kernels.run(
        "coefficients",
        [*arrays, scales, live, strip.values, strip.near_tiles, strip.near_bits],
        [*sizes, *strip.sizes, problem.rows, ends],
        problem.term.numbers,
        problem.term.name,
    )
