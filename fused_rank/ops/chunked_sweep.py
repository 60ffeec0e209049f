"""The eager backend: the reference mathematics over blocks of queries, recomputed in backward. Any device.

Memory is O(block·N): a block's matrices live only while it is folded into its rows.
"""

from collections.abc import Callable, Iterator
from copy import copy
from typing import NamedTuple, cast

import torch
from torch import Tensor

from ..reference.dense import non_finite
from .blocks import (
    Block,
    Distances,
    Gallery,
    InnerProducts,
    MetricDistances,
    row_blocks,
)
from .inner_autograd import inner_autograd
from .options import PairMetric
from .reduction import Rows
from .rows import prepare

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

    def directions(self, inputs: Tensor | None, symmetric: bool) -> "list[tuple[Sweep, Tensor | None]]":
        """The sweep with its rows' inputs; symmetric: then the one from the gallery to the queries with its."""
        if not symmetric:
            return [(self, inputs)]
        m = len(self.queries.rows)
        own, others = (None, None) if inputs is None else (inputs[:, :m], inputs[:, m:])
        return [(self, own), (self.turned(), others)]

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

    def forward_either_way(
        self, function: RowFunction, channels: int, inputs: Tensor | None, symmetric: bool
    ) -> Tensor:
        """As `forward`; symmetric: [3·C, M + N], the gallery's rows after the queries'."""
        parts = [part.forward(function, channels, own) for part, own in self.directions(inputs, symmetric)]
        return torch.cat(parts, dim=1)

    def backward_either_way(
        self,
        function: RowFunction,
        grad_sums: Tensor,
        inputs: Tensor | None,
        symmetric: bool,
        *,
        query_only: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `backward`; symmetric: from the upstream gradients [C, M + N] of both directions."""
        m = len(self.queries.rows)
        (queries, own), *turned = self.directions(inputs, symmetric)
        rows, others, grad_inputs = queries.backward(function, grad_sums[:, :m], own, query_only=query_only)
        for part, its_inputs in turned:
            from_gallery, from_queries, more = part.backward(
                function, grad_sums[:, m:], its_inputs, query_only=False
            )
            rows += from_queries
            others += from_gallery
            grad_inputs = torch.cat((grad_inputs, more), dim=-1)
        return rows, others, grad_inputs

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
