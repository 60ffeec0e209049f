"""The operators on listed pairs: paired distances and explicit triplets."""

import torch
from torch import Tensor

from ..gpu.edges import Edges, to_metric
from ..ops.validation import refuse_outside
from .listed import Source, add_edges, edge_factors, listed_squares, source_of


def _listed(
    x: Tensor, gallery: Tensor | None, i: Tensor | None, j: Tensor | None, unit: bool
) -> tuple[Source, Source, Tensor, Tensor]:
    """Both sides and the pairs' rows; without lists row by row."""
    query = source_of(x, unit=unit)
    others = query if gallery is None else source_of(gallery, unit=unit)
    every = torch.arange(x.shape[0], device=x.device)
    for index, side in ((i, query), (j, others)):
        if index is not None:
            refuse_outside(index, side.size)
    return query, others, every if i is None else i.contiguous(), every if j is None else j.contiguous()


def indexed_distance(
    x: Tensor, gallery: Tensor | None, i: Tensor | None, j: Tensor | None, metric: str, normalize: bool
) -> Tensor:
    """Distance of each listed pair, fp32 [L]."""
    sides = _listed(x, gallery, i, j, normalize or metric == "cosine")
    return to_metric(listed_squares(*sides), metric).float()


def indexed_distance_backward(
    grad: Tensor,
    x: Tensor,
    gallery: Tensor | None,
    i: Tensor | None,
    j: Tensor | None,
    metric: str,
    normalize: bool,
    need_x: bool,
    need_gallery: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of the listed distances, each empty where it is not needed."""
    query, others, i, j = _listed(x, gallery, i, j, normalize or metric == "cosine")
    factor = edge_factors(listed_squares(query, others, i, j), metric)
    edges = Edges(i, j, grad.double() * factor)
    need_gallery = need_gallery and gallery is not None
    to_query = torch.zeros_like(query.rows, dtype=torch.float64) if need_x else None
    to_gallery = torch.zeros_like(others.rows, dtype=torch.float64) if need_gallery else None
    add_edges(edges, query, others, to_query, to_gallery)
    return (
        x.new_empty(0) if to_query is None else query.gradient(to_query),
        x.new_empty(0) if to_gallery is None else others.gradient(to_gallery),
    )
