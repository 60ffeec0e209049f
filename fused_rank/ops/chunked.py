"""The eager backend: the reference mathematics over blocks of queries, recomputed in backward. Any device.

Memory is O(block·N): a block's matrices live only while it is folded into its rows.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor

from ..reference import contrastive, ranked_list, triplet
from ..reference.dense import non_finite
from ..reference.triplet import hardest, semihard
from .blocks import (
    Block,
    Gallery,
    pair_slabs,
    pull_back_weights,
    row_blocks,
    squared_differences,
    to_metric,
)
from .inner_autograd import inner_autograd
from .options import Metric, Mining, RetrievalMetric
from .reduction import Rows
from .rows import prepare
from .schemas import PAIR_CHANNELS
from .validation import refuse_outside

RowFunction = Callable[[Tensor, Tensor, Tensor], Rows]


class BlockOfPairs(NamedTuple):
    """Queries with the indices `queries` [m] against the whole gallery."""

    queries: Tensor
    block: Block
    positive: Tensor  # [m, N]
    negative: Tensor  # [m, N]


class Sweep:
    """A walk over all pairs, block by block, queries sorted by label so that tight classes are centred."""

    def __init__(
        self,
        x: Tensor,
        labels: Tensor | None,
        gallery: Tensor | None,
        gallery_labels: Tensor | None,
        metric: str,
        normalize: bool,
    ) -> None:
        self.metric = cast(Metric, metric)
        normalize = normalize or metric == "cosine"
        self.queries = prepare(x, normalize=normalize)
        self.gallery = None if gallery is None else prepare(gallery, normalize=normalize)
        self.labels, self.gallery_labels = labels, gallery_labels

    @property
    def gallery_rows(self) -> Tensor:
        return self.queries.rows if self.gallery is None else self.gallery.rows

    def __iter__(self) -> Iterator[BlockOfPairs]:
        rows, gallery = self.queries.rows, Gallery(self.gallery_rows)
        columns = torch.arange(gallery.rows.shape[0], device=rows.device)
        order = columns if self.labels is None else self.labels.argsort(stable=True)
        for part in row_blocks(rows.shape[0], columns.shape[0]):
            index = order[part]
            positive = self._positive(index, columns)
            negative = ~positive
            if self.gallery is None:
                positive[torch.arange(index.shape[0], device=rows.device), index] = False
            yield BlockOfPairs(index, gallery.block(rows[index]), positive, negative)

    def _positive(self, index: Tensor, columns: Tensor) -> Tensor:
        if self.labels is None:
            return index.unsqueeze(1) == columns
        other = self.labels if self.gallery_labels is None else self.gallery_labels
        return self.labels[index].unsqueeze(1) == other

    def forward(self, function: RowFunction, channels: int) -> Tensor:
        """Rows of every query, [3·C, M]: sums, counts, active."""
        result = self.queries.rows.new_empty(3, channels, self.queries.rows.shape[0])
        for index, block, positive, negative in self:
            rows = function(to_metric(block.squared, self.metric), positive, negative)
            result[:, :, index] = torch.stack(rows)
        result[0] += non_finite(self.queries.rows, None if self.gallery is None else self.gallery.rows)
        return result.flatten(0, 1)

    def backward(
        self, function: RowFunction, grad_sums: Tensor, *, query_only: bool, need_x: bool, need_gallery: bool
    ) -> tuple[Tensor, Tensor]:
        """Gradients of the two inputs, empty where not needed."""
        grad_rows = torch.zeros_like(self.queries.rows)
        grad_gallery = torch.zeros_like(self.gallery_rows)
        for index, block, positive, negative in self:
            distance = to_metric(block.squared, self.metric).requires_grad_()
            with inner_autograd():
                sums = function(distance, positive, negative).sums
                (grad,) = torch.autograd.grad(sums, distance, grad_sums[:, index])
            queries, others = block.pull_back(pull_back_weights(grad, distance.detach(), self.metric))
            grad_rows[index] = queries
            grad_gallery += others
        if self.gallery is None and not query_only:
            grad_rows += grad_gallery
        return self._gradients(grad_rows, grad_gallery, need_x, need_gallery)

    def _gradients(
        self, grad_x: Tensor, grad_gallery: Tensor, need_x: bool, need_gallery: bool
    ) -> tuple[Tensor, Tensor]:
        empty = self.queries.rows.new_empty(0, dtype=self.queries.dtype)
        x = self.queries.gradient(grad_x) if need_x else empty
        y = (
            self.gallery.gradient(grad_gallery)
            if need_gallery and self.gallery is not None
            else empty.clone()
        )
        return x, y


def pair_term(term: str, params: list[float]) -> RowFunction:
    """The reference rows of a pair loss, from the operator's flat parameters."""
    if term == "contrastive":
        pos_margin, neg_margin, power = params
        return partial(contrastive.rows, pos_margin=pos_margin, neg_margin=neg_margin, power=int(power))
    alpha, margin, temperature_neg, temperature_pos, pos_weight, neg_weight, exact, mean_all, eps = params
    return partial(
        ranked_list.rows,
        alpha=alpha,
        margin=margin,
        temperature_neg=temperature_neg,
        temperature_pos=temperature_pos,
        pos_weight=pos_weight,
        neg_weight=neg_weight,
        constant_weights=not exact,
        positive_mean="all" if mean_all else "active",
        eps=eps,
    )


def pair_forward(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    term: str,
    params: list[float],
    metric: str,
    normalize: bool,
    fused: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Rows; nothing is kept for backward, whatever `fused` asks for."""
    sweep = Sweep(x, labels, gallery, gallery_labels, metric, normalize)
    rows = sweep.forward(pair_term(term, params), PAIR_CHANNELS[term])
    return rows, rows.new_empty(0), rows.new_empty(0, dtype=torch.uint8), rows.new_empty(0), rows.new_empty(0)


def pair_backward(
    grad_sums: Tensor,
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    term: str,
    params: list[float],
    metric: str,
    normalize: bool,
    query_only: bool,
    state: Tensor,
    live: Tensor,
    grad_x: Tensor,
    grad_gallery: Tensor,
    need_x: bool,
    need_gallery: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of the pair losses."""
    sweep = Sweep(x, labels, gallery, gallery_labels, metric, normalize)
    return sweep.backward(
        pair_term(term, params), grad_sums, query_only=query_only, need_x=need_x, need_gallery=need_gallery
    )


def triplet_forward(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    mining: str,
    margin: float,
    soft_margin: bool,
    metric: str,
    normalize: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the mined triplet losses."""
    term = partial(triplet.rows, mining=cast(Mining, mining), margin=margin, soft_margin=soft_margin)
    rows = Sweep(x, labels, gallery, gallery_labels, metric, normalize).forward(term, 1)
    return rows, rows.new_empty(0), rows.new_empty(0, dtype=torch.uint8)


def triplet_backward(
    grad_sums: Tensor,
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    mining: str,
    margin: float,
    soft_margin: bool,
    metric: str,
    normalize: bool,
    state: Tensor,
    live: Tensor,
    rows: Tensor,
    need_x: bool,
    need_gallery: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of the mined triplet losses; the mining is done again."""
    term = partial(triplet.rows, mining=cast(Mining, mining), margin=margin, soft_margin=soft_margin)
    sweep = Sweep(x, labels, gallery, gallery_labels, metric, normalize)
    return sweep.backward(term, grad_sums, query_only=False, need_x=need_x, need_gallery=need_gallery)


def mine_hard(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    metric: str,
    normalize: bool,
) -> tuple[Tensor, Tensor]:
    """Farthest positive and nearest negative of each query, −1 where there is none."""
    result = torch.full((2, x.shape[0]), -1, dtype=torch.int64, device=x.device)
    for index, block, positive, negative in Sweep(x, labels, gallery, gallery_labels, metric, normalize):
        far, near = hardest(block.squared, positive, negative)
        result[0, index] = far.masked_fill(~positive.any(1), -1)
        result[1, index] = near.masked_fill(~negative.any(1), -1)
    return result[0], result[1].clone()


def mine_semihard(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    metric: str,
    normalize: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The semi-hard negative of each (anchor, positive), sorted by anchor, then positive."""
    parts = []
    for index, block, positive, negative in Sweep(x, labels, gallery, gallery_labels, metric, normalize):
        columns, chosen, real = semihard(block.squared, positive, negative)
        anchors = index.unsqueeze(1).expand_as(columns)
        parts.append(torch.stack((anchors[real], columns[real], chosen[real])))
    triplets = torch.cat(parts, dim=1)
    # within an anchor the positives are in order already
    anchor, positive_index, negative_index = triplets[:, triplets[0].argsort(stable=True)].unbind(0)
    return anchor.clone(), positive_index.clone(), negative_index.clone()


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
    return sweep._gradients(grad_rows, grad_others, need_x, need_gallery)


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
    return sweep._gradients(grad_rows, grad_gallery, need_x, need_y)
