"""The k best gallery rows of every query, strip by strip."""

import torch
from torch import Tensor

from ..gpu.order import order_as_given
from ..ops.options import RetrievalMetric
from . import kernels
from .distances import fill_strip
from .operand import pack
from .strips import strips


def topk(
    queries: Tensor,
    gallery: Tensor | None,
    k: int,
    metric: RetrievalMetric,
    normalize: bool,
    exclude_self: bool,
) -> tuple[Tensor, Tensor]:
    """The k best gallery rows of each query [M, k]: values, best first, and int64 rows, the lowest among equals.

    A gallery row that is not finite comes last, as NaN; a query that is not finite gets NaN throughout.
    """
    others = queries if gallery is None else gallery
    dot = metric == "dot"
    order = order_as_given(
        queries.shape[0], others.shape[0], self_form=gallery is None, device=queries.device
    )
    packed = pack(queries, gallery, order, unit_rows=normalize or metric == "cosine", centre=not dot)
    values = queries.new_empty(queries.shape[0], k, dtype=packed.dtype)
    indices = torch.empty_like(values, dtype=torch.int64)
    for strip in strips(packed, near=False):
        fill_strip(packed, order, metric, strip, square=True)
        own = slice(strip.first, strip.first + strip.rows)
        kernels.run(
            "topk",
            [strip.values, values[own], indices[own]],
            [*strip.sizes, int(dot), int(exclude_self), k],
        )
    # The kernel leaves them by row: a stable sort keeps that order among equals.
    values, place = values.sort(dim=1, descending=dot, stable=True)
    indices = indices.gather(1, place)
    if metric == "euclidean":
        values = values.sqrt()
    elif metric == "cosine":
        values = values / 2
    finite = packed.query.source.finite.unsqueeze(1) & packed.gallery.source.finite[indices]
    return values.masked_fill(~finite, torch.nan), indices
