"""Listed pairs: distances by direct difference in fp64, and gradients summed row by row in the order of the list.

O(pairs · D) work and no product, so fp64 costs little and no digit is lost between near-duplicates.
"""

import torch
from torch import Tensor

from ..gpu.edges import Edges, sum_edges
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


def add_edges(
    edges: Edges, query: Rows, gallery: Rows, to_query: Tensor | None, to_gallery: Tensor | None
) -> None:
    """Adds the edges' gradients to fp64 [M, D] and [N, D]. In self form (one side) both ends move `to_query`."""
    sum_edges(edges, query, gallery, to_query, to_gallery, _sums)


def _sums(total: Tensor, start: Tensor, other: Tensor, coefficient: Tensor, own: Rows, others: Rows) -> None:
    kernels.run(
        "edge_sums",
        [own.exact, others.exact, start, other, coefficient, total],
        [own.size, others.size, own.width, other.shape[0]],
    )


def edge_factors(square: Tensor, metric: Metric) -> Tensor:
    """d distance / d x = factor · (x − y), from fp64 squared distances: 0 at a euclidean distance of 0, NaN of NaN."""
    if metric == "euclidean":
        return square.rsqrt().masked_fill(square == 0, 0)
    factor = torch.full_like(square, 2.0 if metric == "sqeuclidean" else 1.0)
    return factor.masked_fill_(square.isnan(), torch.nan)
