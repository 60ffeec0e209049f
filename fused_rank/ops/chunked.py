"""The eager backend: the reference mathematics over blocks of queries, recomputed in backward. Any device.

Memory is O(block·N): a block's matrices live only while it is folded into its rows.
"""

from collections.abc import Callable, Iterator
from copy import copy
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor

from ..reference import (
    circle,
    contrastive,
    lifted,
    margin,
    multi_similarity,
    ranked_list,
    softmax,
    sup_con,
    triplet,
)
from ..reference.dense import non_finite
from ..reference.triplet import hardest, semihard
from .blocks import (
    Block,
    Distances,
    Gallery,
    InnerProducts,
    MetricDistances,
    pair_slabs,
    pull_back_weights,
    row_blocks,
    squared_differences,
    to_metric,
)
from .inner_autograd import inner_autograd
from .options import Metric, Mining, PairMetric, RetrievalMetric
from .reduction import Rows
from .rows import prepare
from .schemas import PAIR_CHANNELS
from .validation import refuse_outside

RowFunction = Callable[
    ..., Rows
]  # (distance [m, N], positive [m, N], negative [m, N], and inputs [k, m] if any)


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
        self.metric = cast(PairMetric, metric)
        normalize = normalize or metric == "cosine"
        self.queries = prepare(x, normalize=normalize)
        self.gallery = None if gallery is None else prepare(gallery, normalize=normalize)
        self.labels, self.gallery_labels = labels, gallery_labels

    @property
    def gallery_rows(self) -> Tensor:
        return self.queries.rows if self.gallery is None else self.gallery.rows

    def turned(self) -> "Sweep":
        """The same pairs with the sides exchanged: the gallery's rows are the queries."""
        assert self.gallery is not None
        other = copy(self)
        other.queries, other.gallery = self.gallery, self.queries
        other.labels, other.gallery_labels = self.gallery_labels, self.labels
        return other

    def __iter__(self) -> Iterator[BlockOfPairs]:
        gallery = Gallery(self.gallery_rows)
        for index, positive, negative in self._masks():
            yield BlockOfPairs(index, gallery.block(self.queries.rows[index]), positive, negative)

    def _distances(self) -> Iterator[tuple[Tensor, Distances, Tensor, Tensor]]:
        """As the iteration, with what a term sees of the pairs."""
        if self.metric == "dot":
            for index, positive, negative in self._masks():
                yield index, InnerProducts(self.queries.rows[index], self.gallery_rows), positive, negative
        else:
            for index, block, positive, negative in self:
                yield index, MetricDistances(block, self.metric), positive, negative

    def _masks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Queries [m], positive and negative [m, N] of each block."""
        rows = self.queries.rows
        columns = torch.arange(self.gallery_rows.shape[0], device=rows.device)
        order = columns if self.labels is None else self.labels.argsort(stable=True)
        for part in row_blocks(rows.shape[0], columns.shape[0]):
            index = order[part]
            positive = self._positive(index, columns)
            negative = ~positive
            if self.gallery is None:
                positive[torch.arange(index.shape[0], device=rows.device), index] = False
            yield index, positive, negative

    def _positive(self, index: Tensor, columns: Tensor) -> Tensor:
        if self.labels is None:
            return index.unsqueeze(1) == columns
        other = self.labels if self.gallery_labels is None else self.gallery_labels
        return self.labels[index].unsqueeze(1) == other

    def forward(self, function: RowFunction, channels: int, inputs: Tensor | None = None) -> Tensor:
        """Rows of every query, [3·C, M]: sums, counts, active."""
        result = self.queries.rows.new_empty(3, channels, self.queries.rows.shape[0])
        for index, distances, positive, negative in self._distances():
            rows = function(distances.value, positive, negative, *_inputs_of(inputs, index))
            result[:, :, index] = torch.stack(rows)
        result[0] += non_finite(self.queries.rows, None if self.gallery is None else self.gallery.rows)
        return result.flatten(0, 1)

    def backward(
        self, function: RowFunction, grad_sums: Tensor, inputs: Tensor | None = None, *, query_only: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the prepared rows [M, D], of the gallery's [N, D] and of the inputs [k, M] (or empty).

        In self form the first has both ends of every pair, unless only the query end moves.
        """
        grad_rows = torch.zeros_like(self.queries.rows)
        grad_gallery = torch.zeros_like(self.gallery_rows)
        grad_inputs = grad_sums.new_empty(0) if inputs is None else torch.zeros_like(inputs)
        for index, distances, positive, negative in self._distances():
            leaves = [t.detach().requires_grad_() for t in (distances.value, *_inputs_of(inputs, index))]
            with inner_autograd():
                sums = function(leaves[0], positive, negative, *leaves[1:]).sums
                grad, *rest = torch.autograd.grad(sums, leaves, grad_sums[:, index], materialize_grads=True)
            grad_rows[index], others = distances.pull_back(grad)
            grad_gallery += others
            for each in rest:
                grad_inputs[:, index] = each
        if self.gallery is None and not query_only:
            grad_rows += grad_gallery
        return grad_rows, grad_gallery, grad_inputs

    def gradients(
        self, grad_x: Tensor, grad_gallery: Tensor, need_x: bool, need_gallery: bool
    ) -> tuple[Tensor, Tensor]:
        """From prepared rows to the two inputs, empty where not needed."""
        empty = self.queries.rows.new_empty(0, dtype=self.queries.dtype)
        x = self.queries.gradient(grad_x) if need_x else empty
        y = (
            self.gallery.gradient(grad_gallery)
            if need_gallery and self.gallery is not None
            else empty.clone()
        )
        return x, y


def _inputs_of(inputs: Tensor | None, index: Tensor) -> tuple[Tensor, ...]:
    return () if inputs is None else (inputs[:, index],)


def _contrastive(pos_margin: float, neg_margin: float, power: float) -> RowFunction:
    return partial(contrastive.rows, pos_margin=pos_margin, neg_margin=neg_margin, power=int(power))


def _ranked_list(
    alpha: float,
    margin: float,
    temperature_neg: float,
    temperature_pos: float,
    pos_weight: float,
    neg_weight: float,
    exact: float,
    mean_all: float,
    eps: float,
) -> RowFunction:
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


# the reference rows of each pair term, from the operator's flat parameters
PAIR_TERMS: dict[str, Callable[..., RowFunction]] = {
    "contrastive": _contrastive,
    "ranked_list": _ranked_list,
    "sup_con": lambda scale: partial(sup_con.rows, scale=scale),
    "negatives_lse": lambda scale, shift: partial(softmax.negatives_lse, scale=scale, shift=shift),
    "softplus_positives": lambda scale, shift: partial(softmax.softplus_positives, scale=scale, shift=shift),
    "multi_similarity": lambda alpha, beta, base, mined: partial(
        multi_similarity.rows, alpha=alpha, beta=beta, base=base
    ),
    "circle": lambda m, gamma: partial(circle.rows, m=m, gamma=gamma),
    "lifted": lambda pos_margin, neg_margin: partial(
        lifted.rows, pos_margin=pos_margin, neg_margin=neg_margin
    ),
    "margin": lambda width: partial(margin.rows, margin=width),
}


def pair_forward(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    inputs: Tensor | None,
    term: str,
    params: list[float],
    metric: str,
    normalize: bool,
    fused: str,
    symmetric: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Rows; nothing is kept for backward, whatever `fused` asks for."""
    sweep = Sweep(x, labels, gallery, gallery_labels, metric, normalize)
    function, channels = PAIR_TERMS[term](*params), PAIR_CHANNELS[term]
    rows = torch.cat(
        [part.forward(function, channels, own) for part, own in _directions(sweep, inputs, symmetric)], dim=1
    )
    return rows, rows.new_empty(0), rows.new_empty(0, dtype=torch.uint8), rows.new_empty(0), rows.new_empty(0)


def pair_backward(
    grad_sums: Tensor,
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    inputs: Tensor | None,
    term: str,
    params: list[float],
    metric: str,
    normalize: bool,
    query_only: bool,
    symmetric: bool,
    state: Tensor,
    live: Tensor,
    grad_x: Tensor,
    grad_gallery: Tensor,
    need_x: bool,
    need_gallery: bool,
    need_inputs: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the pair losses."""
    sweep = Sweep(x, labels, gallery, gallery_labels, metric, normalize)
    function = PAIR_TERMS[term](*params)
    m = len(x)
    (queries, own), *turned = _directions(sweep, inputs, symmetric)
    rows, others, grad_inputs = queries.backward(function, grad_sums[:, :m], own, query_only=query_only)
    for part, its_inputs in turned:
        from_gallery, from_queries, more = part.backward(
            function, grad_sums[:, m:], its_inputs, query_only=False
        )
        rows += from_queries
        others += from_gallery
        grad_inputs = torch.cat((grad_inputs, more), dim=-1)
    grad_inputs = grad_inputs if need_inputs else grad_inputs.new_empty(0)
    return *sweep.gradients(rows, others, need_x, need_gallery), grad_inputs


def _directions(sweep: Sweep, inputs: Tensor | None, symmetric: bool) -> list[tuple[Sweep, Tensor | None]]:
    """The sweep with its rows' inputs; symmetric: then the one from the gallery to the queries with its."""
    if not symmetric:
        return [(sweep, inputs)]
    m = len(sweep.queries.rows)
    own, others = (None, None) if inputs is None else (inputs[:, :m], inputs[:, m:])
    return [(sweep, own), (sweep.turned(), others)]


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
    grad_x, grad_gallery, _ = sweep.backward(term, grad_sums, query_only=False)
    return sweep.gradients(grad_x, grad_gallery, need_x, need_gallery)


def mine_hard(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    metric: str,
    normalize: bool,
    symmetric: bool = False,
) -> tuple[Tensor, Tensor]:
    """Farthest positive and nearest negative of each query, −1 where there is none; then of each gallery row."""
    sweep = Sweep(x, labels, gallery, gallery_labels, metric, normalize)
    parts = [_hardest(part) for part, _ in _directions(sweep, None, symmetric)]
    positive, negative = torch.cat(parts, 1)
    return positive, negative.clone()


def _hardest(sweep: Sweep) -> Tensor:
    """[2, M]"""
    rows = sweep.queries.rows
    result = torch.full((2, len(rows)), -1, dtype=torch.int64, device=rows.device)
    for index, block, positive, negative in sweep:
        far, near = hardest(block.squared, positive, negative)
        result[0, index] = far.masked_fill(~positive.any(1), -1)
        result[1, index] = near.masked_fill(~negative.any(1), -1)
    return result


def mine_semihard(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    metric: str,
    normalize: bool,
    symmetric: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """The semi-hard negative of each (anchor, positive), sorted by anchor, then positive.

    Symmetric: the gallery's rows are anchors too, numbered after the queries.
    """
    sweep = Sweep(x, labels, gallery, gallery_labels, metric, normalize)
    there, *back = (_semihard(part) for part, _ in _directions(sweep, None, symmetric))
    for found in back:
        found[0] += x.shape[0]
    anchor, positive_index, negative_index = torch.cat([there, *back], dim=1).unbind(0)
    return anchor.clone(), positive_index.clone(), negative_index.clone()


def _semihard(sweep: Sweep) -> Tensor:
    """[3, L]"""
    parts = []
    for index, block, positive, negative in sweep:
        columns, chosen, real = semihard(block.squared, positive, negative)
        anchors = index.unsqueeze(1).expand_as(columns)
        parts.append(torch.stack((anchors[real], columns[real], chosen[real])))
    triplets = torch.cat(parts, dim=1)
    return triplets[
        :, triplets[0].argsort(stable=True)
    ]  # within an anchor the positives are in order already


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
