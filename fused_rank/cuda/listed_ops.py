"""The operators on listed pairs: paired distances and explicit triplets."""

import torch
from torch import Tensor

from ..gpu.edges import Edges, to_metric
from ..ops.options import Metric
from ..ops.validation import refuse_outside
from ..reference.distance import accumulation_dtype
from .listed import add_edges, edge_factors, listed_squares
from .rows import Rows, describe


def _listed(
    x: Tensor, gallery: Tensor | None, i: Tensor | None, j: Tensor | None, unit_rows: bool
) -> tuple[Rows, Rows, Tensor, Tensor]:
    """Both sides and the pairs' rows; without lists row by row."""
    query = describe(x, unit_rows)
    others = query if gallery is None else describe(gallery, unit_rows)
    for index, side in ((i, query), (j, others)):
        if index is not None:
            refuse_outside(index, side.size)
    length = x.shape[0] if i is None else i.shape[0]
    every = torch.arange(length, device=x.device)
    return query, others, every if i is None else i.contiguous(), every if j is None else j.contiguous()


def indexed_distance(
    x: Tensor, gallery: Tensor | None, i: Tensor | None, j: Tensor | None, metric: Metric, normalize: bool
) -> Tensor:
    """Distance of each listed pair [L], fp32, or fp64 of fp64 rows."""
    sides = _listed(x, gallery, i, j, normalize or metric == "cosine")
    return to_metric(listed_squares(*sides), metric).to(accumulation_dtype(x.dtype))


def indexed_distance_backward(
    grad: Tensor,
    x: Tensor,
    gallery: Tensor | None,
    i: Tensor | None,
    j: Tensor | None,
    metric: Metric,
    normalize: bool,
    need_x: bool,
    need_gallery: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of the listed distances, each empty where it is not needed."""
    query, others, i, j = _listed(x, gallery, i, j, normalize or metric == "cosine")
    factor = edge_factors(listed_squares(query, others, i, j), metric)
    edges = Edges(i, j, grad.double() * factor)
    need_gallery = need_gallery and gallery is not None
    to_query = torch.zeros_like(query.exact) if need_x else None
    to_gallery = torch.zeros_like(others.exact) if need_gallery else None
    add_edges(edges, query, others, to_query, to_gallery)
    return (
        x.new_empty(0) if to_query is None else query.project(to_query).to(x.dtype),
        x.new_empty(0) if to_gallery is None else others.project(to_gallery).to(x.dtype),
    )
