"""Neighbours, listed pairs and the distance matrix by chunks."""

from typing import cast

import torch
from torch import Tensor

from .blocks import (
    Gallery,
    pair_slabs,
    pull_back_weights,
    row_blocks,
    squared_differences,
    to_metric,
)
from .chunked_sweep import Sweep
from .options import Metric, RetrievalMetric
from .rows import prepare
from .validation import refuse_outside


def topk(
    queries: Tensor, gallery: Tensor | None, k: int, metric: str, normalize: bool, exclude_self: bool
) -> tuple[Tensor, Tensor]:
    """The k best columns of each query, best first, the lowest index among equals."""
    normalize = normalize or metric == "cosine"
    x = prepare(queries, normalize=normalize).rows
    y = x if gallery is None else prepare(gallery, normalize=normalize).rows
    prepared = None if metric == "dot" else Gallery(y)
    values = x.new_empty(x.shape[0], k)
    indices = torch.empty(x.shape[0], k, dtype=torch.int64, device=x.device)
    for part in row_blocks(x.shape[0], y.shape[0]):
        score = -(x[part] @ y.t()) if prepared is None else prepared.block(x[part]).squared
        if exclude_self:
            score.diagonal(part.start).fill_(torch.inf)
        best = _lowest(score, k)
        chosen = score.gather(1, best)
        values[part] = -chosen if metric == "dot" else to_metric(chosen, cast(RetrievalMetric, metric))
        indices[part] = best
    return values, indices


def _lowest(score: Tensor, k: int) -> Tensor:
    """Columns of the k lowest scores of each row [m, N] in ascending order; equal scores by column, NaN last."""
    ranked = score.nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
    limit = ranked.topk(k, dim=1, largest=False).values[:, -1:]
    below = ranked < limit
    level = ranked == limit
    room = k - below.sum(1, keepdim=True)
    chosen = (below | (level & (level.cumsum(1) <= room))).nonzero()[:, 1].view(-1, k)
    order = ranked.gather(1, chosen).argsort(dim=1, stable=True)
    return chosen.gather(1, order)


def indexed_distance(
    x: Tensor, gallery: Tensor | None, i: Tensor | None, j: Tensor | None, metric: str, normalize: bool
) -> Tensor:
    """Distance of each listed pair (row by row without a list), from the difference of its rows."""
    normalize = normalize or metric == "cosine"
    rows = prepare(x, normalize=normalize).rows
    others = rows if gallery is None else prepare(gallery, normalize=normalize).rows
    i, j = _pair_list(x, i, j)
    refuse_outside(i, rows.shape[0])
    refuse_outside(j, others.shape[0])
    result = rows.new_empty(i.shape[0])
    for slab in pair_slabs(i.shape[0], x.shape[1]):
        result[slab] = squared_differences(rows, i[slab], others, j[slab])
    return to_metric(result, cast(Metric, metric))


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
    """Gradients of the listed distances."""
    sweep = Sweep(x, None, gallery, None, metric, normalize)
    rows, others = sweep.queries.rows, sweep.gallery_rows
    grad_rows = torch.zeros_like(rows)
    grad_others = grad_rows if gallery is None else torch.zeros_like(others)
    i, j = _pair_list(x, i, j)
    for slab in pair_slabs(i.shape[0], x.shape[1]):
        difference = rows[i[slab]] - others[j[slab]]
        distance = to_metric((difference * difference).sum(1), sweep.metric)
        force = pull_back_weights(grad[slab], distance, sweep.metric).unsqueeze(1) * difference
        grad_rows.index_add_(0, i[slab], force)
        grad_others.index_add_(0, j[slab], force, alpha=-1)
    return sweep.gradients(grad_rows, grad_others, need_x, need_gallery)


def _pair_list(x: Tensor, i: Tensor | None, j: Tensor | None) -> tuple[Tensor, Tensor]:
    if i is not None and j is not None:
        return i, j
    every = torch.arange(x.shape[0], device=x.device)
    return every, every


def pairwise_distance(x: Tensor, y: Tensor | None, metric: str, normalize: bool) -> Tensor:
    """The whole matrix [M, N], accurate for near-duplicates; without y symmetric to the bit."""
    sweep = Sweep(x, None, y, None, metric, normalize)
    rows, gallery = sweep.queries.rows, Gallery(sweep.gallery_rows)
    result = rows.new_empty(rows.shape[0], gallery.rows.shape[0])
    for part in row_blocks(*result.shape):
        first = part.start if y is None else 0
        squared = gallery.block(rows[part]).squared[:, first:]
        result[part, first:] = to_metric(squared, sweep.metric)
        if y is None:
            result[part.stop :, part] = result[part, part.stop :].t()
            square = result[part, part]
            square.copy_(square.triu() + square.triu(1).t())
    return result


def pairwise_distance_backward(
    grad: Tensor,
    distance: Tensor,
    x: Tensor,
    y: Tensor | None,
    metric: str,
    normalize: bool,
    need_x: bool,
    need_y: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of the matrix."""
    sweep = Sweep(x, None, y, None, metric, normalize)
    rows, gallery = sweep.queries.rows, Gallery(sweep.gallery_rows)
    grad_rows, grad_gallery = torch.zeros_like(rows), torch.zeros_like(gallery.rows)
    for part in row_blocks(*grad.shape):
        weights = pull_back_weights(grad[part], distance[part], sweep.metric)
        grad_rows[part], others = gallery.block(rows[part]).pull_back(weights)
        grad_gallery += others
    if y is None:
        grad_rows += grad_gallery
    return sweep.gradients(grad_rows, grad_gallery, need_x, need_y)
