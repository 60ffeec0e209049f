"""Listed pairs: distances by direct difference in fp64, and gradients summed row by row in the order of the list.

O(pairs · D) work and no product, so fp64 costs little and no digit is lost between near-duplicates.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..ops.options import Metric
from . import kernels
from .rows import Rows


def listed_squares(query: Rows, gallery: Rows, i: Tensor, j: Tensor) -> Tensor:
    """Squared distances of the pairs (i, j), int64 [L] each, fp64 [L]; NaN where a row is not finite."""
    square = query.exact.new_empty(i.shape[0])
    kernels.run(
        "listed_squares",
        [query.exact, gallery.exact, i, j, square],
        [query.size, gallery.size, query.width, i.shape[0]],
    )
    return square.masked_fill_(~(query.finite[i] & gallery.finite[j]), torch.nan)


@dataclass(frozen=True, slots=True)
class Edges:
    """Pairs of query row and gallery row with d loss / d distance · edge factor, which moves both ends."""

    query: Tensor  # int64 [E], original rows
    gallery: Tensor
    coefficient: Tensor  # fp64 [E]


def add_edges(
    edges: Edges, query: Rows, gallery: Rows, to_query: Tensor | None, to_gallery: Tensor | None
) -> None:
    """Adds the edges' gradients to fp64 [M, D] and [N, D]. In self form (one side) both ends move `to_query`."""
    if query is gallery:
        if to_query is not None:
            target = torch.cat((edges.query, edges.gallery))
            other = torch.cat((edges.gallery, edges.query))
            _add_to(to_query, target, other, edges.coefficient.repeat(2), query, query)
        return
    if to_query is not None:
        _add_to(to_query, edges.query, edges.gallery, edges.coefficient, query, gallery)
    if to_gallery is not None:
        _add_to(to_gallery, edges.gallery, edges.query, edges.coefficient, gallery, query)


def _add_to(
    total: Tensor, target: Tensor, other: Tensor, coefficient: Tensor, own: Rows, others: Rows
) -> None:
    """Edges in the order of their target row, equal ones as listed, so that a row's sum has one order."""
    target, order = target.sort(stable=True)
    start = torch.searchsorted(target, torch.arange(own.size + 1, device=target.device))
    kernels.run(
        "edge_sums",
        [own.exact, others.exact, start, other[order], coefficient[order], total],
        [own.size, others.size, own.width, order.shape[0]],
    )


def edge_factors(square: Tensor, metric: Metric) -> Tensor:
    """d distance / d x = factor · (x − y), from fp64 squared distances: 0 at a euclidean distance of 0, NaN of NaN."""
    if metric == "euclidean":
        return square.rsqrt().masked_fill(square == 0, 0)
    factor = torch.full_like(square, 2.0 if metric == "sqeuclidean" else 1.0)
    return factor.masked_fill_(square.isnan(), torch.nan)


def to_metric(square: Tensor, metric: Metric) -> Tensor:
    """The distance of a squared difference (of unit rows, for cosine)."""
    if metric == "euclidean":
        return square.sqrt()
    return square / 2 if metric == "cosine" else square
