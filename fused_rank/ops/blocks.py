"""Accurate squared distances of a block of rows to a gallery, and their derivative, with the product's memory only.

|x|² + |y|² − 2x·y loses everything where x and y nearly coincide. Distances don't move under translation, so
where a block is a tight cluster both sides are centred by its mean first; whatever still cancels is recomputed,
value and derivative, from the difference of the rows as they came.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .options import PairMetric, RetrievalMetric

_BLOCK_ELEMENTS = 1 << 19  # of one [m, N] matrix; some twenty live at once
_SLAB_ELEMENTS = 1 << 20  # of one [L, D] matrix of differences
_TIGHT = 0.1  # a block is tight when its variance is below this share of its mean's squared length


def row_blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of at most 2¹⁹ / columns rows (but at least 32) that cover `rows`."""
    step = min(max(_BLOCK_ELEMENTS // max(columns, 1), 32), 1024)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def pair_slabs(pairs: int, width: int) -> Iterator[slice]:
    """Slices over a list of pairs whose differences [L, D] fit the cache."""
    step = max(_SLAB_ELEMENTS // max(width, 1), 1)
    for start in range(0, pairs, step):
        yield slice(start, min(start + step, pairs))


def cancellation_threshold(dtype: torch.dtype) -> float:
    """Below this share of |x|² + |y|² a squared distance is recomputed from the difference."""
    return 1e-2 if dtype == torch.float32 else 1e-5


@dataclass(frozen=True, slots=True)
class Block:
    """Squared distances of m queries to the whole gallery, and what their derivative needs."""

    squared: Tensor  # [m, N]
    queries: Tensor  # [m, D] as they came
    gallery: Tensor  # [N, D] as they came
    centred_queries: Tensor  # [m, D]
    centred_gallery: Tensor  # [N, D]
    near: tuple[Tensor, Tensor]  # row and column of the pairs that were recomputed

    def pull_back(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Σ_j w_ij (x_i − y_j) for the queries [m, D], the opposite sum for the gallery [N, D].

        Overwrites weights [m, N].
        """
        i, j = self.near
        near_weights = weights[i, j].unsqueeze(1)
        weights[i, j] = 0
        x, y = self.centred_queries, self.centred_gallery
        grad_queries = torch.addmm(weights.sum(1, keepdim=True) * x, weights, y, alpha=-1)
        grad_gallery = torch.addmm(weights.sum(0).unsqueeze(1) * y, weights.t(), x, alpha=-1)
        for slab in pair_slabs(i.shape[0], x.shape[1]):
            force = near_weights[slab] * (self.queries[i[slab]] - self.gallery[j[slab]])
            grad_queries.index_add_(0, i[slab], force)
            grad_gallery.index_add_(0, j[slab], force, alpha=-1)
        return grad_queries, grad_gallery


class Gallery:
    """A gallery [N, D] prepared for many blocks of queries."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows
        self.squared = (rows * rows).sum(1)
        self.copies = copied_rows(rows)

    def block(self, queries: Tensor) -> Block:
        """Squared distances of queries [m, D] to every row."""
        x, y, y_squared = queries, self.rows, self.squared
        x_squared = (x * x).sum(1)
        mean = x.mean(0)
        offset = mean.dot(mean)
        if x_squared.mean() - offset < _TIGHT * offset:
            x, y = x - mean, y - mean
            x_squared, y_squared = (x * x).sum(1), (y * y).sum(1)
        lengths = x_squared.unsqueeze(1) + y_squared
        squared = torch.addmm(lengths, x, y.t(), alpha=-2)
        copy, first = self.copies
        squared[:, copy] = squared[:, first]
        i, j = (squared < cancellation_threshold(x.dtype) * lengths).nonzero(as_tuple=True)
        for slab in pair_slabs(i.shape[0], x.shape[1]):
            squared[i[slab], j[slab]] = squared_differences(queries, i[slab], self.rows, j[slab])
        return Block(squared.clamp_(min=0), queries, self.rows, x, y, (i, j))


def copied_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the rows that repeat an earlier one, and of that one.

    A library's product may round a column by its place, and then a copy would count as nearer or farther.
    """
    _, group = torch.unique(rows, dim=0, return_inverse=True)
    index = torch.arange(rows.shape[0], device=rows.device)
    first = torch.full_like(index, rows.shape[0]).scatter_reduce_(0, group, index, "amin")[group]
    copy = (first != index).nonzero().squeeze(1)
    return copy, first[copy]


def squared_differences(x: Tensor, i: Tensor, y: Tensor, j: Tensor) -> Tensor:
    """|x_i − y_j|² of each listed pair, [L]."""
    difference = x[i] - y[j]
    return (difference * difference).sum(1)


def to_metric(squared: Tensor, metric: RetrievalMetric) -> Tensor:
    """The metric's value from squared distances (of unit rows, for cosine)."""
    if metric == "euclidean":
        return squared.sqrt()
    return squared.clone() if metric == "sqeuclidean" else squared / 2


def pull_back_weights(grad: Tensor, distance: Tensor, metric: RetrievalMetric) -> Tensor:
    """The factor of (x_i − y_j) in the derivative of the metric; zero at zero euclidean distance."""
    if metric == "euclidean":
        return (grad / distance).masked_fill_(distance == 0, 0)
    return 2 * grad if metric == "sqeuclidean" else grad.clone()


class Distances(Protocol):
    """What a term sees of a block of pairs, and the way back from its gradient."""

    value: Tensor  # [m, N]

    def pull_back(self, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the block's queries [m, D] and of the gallery [N, D]. Overwrites grad [m, N]."""


class MetricDistances:
    """Distances in a metric."""

    def __init__(self, block: Block, metric: PairMetric) -> None:
        self.value = to_metric(block.squared, metric)
        self._block, self._metric = block, metric

    def pull_back(self, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Through the metric and the difference of the rows."""
        return self._block.pull_back(pull_back_weights(grad, self.value, self._metric))


class InnerProducts:
    """Inner products of queries [m, D] with a gallery [N, D]."""

    def __init__(self, queries: Tensor, gallery: Tensor) -> None:
        self.value = queries @ gallery.t()
        self._queries, self._gallery = queries, gallery

    def pull_back(self, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Each side moves along the other."""
        return grad @ self._gallery, grad.t() @ self._queries
