"""Losses of every triplet of an anchor, or of every one in a band of d_an − d_ap, and their gradient."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from . import kernels
from .distances import fill_strip
from .pull import OF_GALLERY, OF_QUERY, Pull, add_strip
from .strips import strips
from .triplets import Problem


def every_forward(problem: Problem, *, band: bool) -> Tensor:
    """Rows [3, M]: sum, number of triplets, and how many of them are active."""
    packed = problem.packed()
    rows = problem.empty(3, problem.anchors)
    for strip in strips(packed, near=False):
        fill_strip(packed, problem.order, problem.metric, strip, square=False)
        problem.rank("every_triplet", strip, [rows], band=band)
    rows = problem.unsort(rows)
    rows[0].masked_fill_(packed.query.lost, torch.nan)
    return rows


def every_backward(
    problem: Problem, grad_sums: Tensor, need_x: bool, need_gallery: bool, *, band: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of both sides: distances of a strip become coefficients, which are multiplied out."""
    packed, order = problem.packed(), problem.order
    upstream = grad_sums.flatten()[order.query]
    pull_x = Pull(packed, order, problem.metric, OF_QUERY) if need_x else None
    pull_y = Pull(packed, order, problem.metric, OF_GALLERY) if need_gallery else None
    if packed.self_form and need_x:
        pull_y = Pull(packed, order, problem.metric, OF_GALLERY, into=pull_x)
    pulls = [pull for pull in (pull_x, pull_y) if pull is not None]
    (tile,) = kernels.ask("tile", packed.dtype)
    tiles = math.ceil(problem.anchors / tile) * math.ceil(problem.columns / tile)
    live = problem.empty(tiles, dtype=torch.uint8)
    coefficients = None
    for strip in strips(packed, near=True):
        fill_strip(packed, order, problem.metric, strip, square=False)
        if coefficients is None:
            coefficients = torch.empty_like(strip.values)  # the first strip is the largest
        slopes = replace(strip, values=coefficients[: strip.rows])
        problem.rank("every_triplet_slopes", strip, [upstream, slopes.values], band=band)
        kernels.run("live_tiles", [slopes.values, live], [*strip.sizes, problem.anchors])
        add_strip(slopes, pulls, live)
    grad_x = None if pull_x is None else pull_x.finish()
    return grad_x, None if pull_y is None or packed.self_form else pull_y.finish()
