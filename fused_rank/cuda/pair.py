"""One pair loss on one batch: packed, in order, and told to the kernels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..gpu.order import LabelOrder, order_by_label, reversed_ranges
from ..ops.options import PairMetric
from . import kernels
from .operand import Packed, pack


@dataclass(frozen=True, slots=True)
class Term:
    """A loss of `csrc/terms/`, as kernels are told of it. `reach` is the largest distance there can be."""

    name: str
    numbers: tuple[float, ...]  # reach, parameters


@dataclass(frozen=True, slots=True)
class PairProblem:
    """R is M, the queries; in symmetric form M + N, queries first. Tensors by row have them in sorted order."""

    packed: Packed
    order: LabelOrder
    term: Term
    metric: PairMetric
    symmetric: bool

    @property
    def arguments(self) -> tuple[list[Tensor | None], list[int]]:
        """What the kernels begin with."""
        return self.packed.arguments(self.order, self.metric)

    @property
    def dtype(self) -> torch.dtype:
        return self.packed.dtype

    @property
    def queries(self) -> int:
        return self.packed.query.size

    @property
    def gallery(self) -> int:
        return self.packed.gallery.size

    @property
    def rows(self) -> int:
        """R."""
        return self.queries + self.gallery if self.symmetric else self.queries

    @property
    def pair_counts(self) -> tuple[Tensor, Tensor]:
        """Positives and negatives of each of the R rows, int32."""
        positive, negative = self.order.positive_count, self.order.negative_count
        if self.symmetric:
            begin, end = reversed_ranges(self.order)
            positive = torch.cat([positive, end - begin])
            negative = torch.cat([negative, self.queries - (end - begin)])
        return positive, negative

    @property
    def lost(self) -> Tensor:
        """Which of the R rows, in original order, have no loss: bool."""
        if self.symmetric:
            query, gallery = self.packed.query.source.finite, self.packed.gallery.source.finite
            return ~torch.cat([query & gallery.all(), gallery & query.all()])
        return self.packed.query.lost

    @property
    def tiles(self) -> int:
        """Tiles of the pair matrix, and of its live map."""
        (tile,) = kernels.ask("tile", self.dtype)
        return math.ceil(self.queries / tile) * math.ceil(self.gallery / tile)

    def sort(self, values: Tensor) -> Tensor:
        """[k, R] from original to sorted order."""
        index = self.packed.query.side.index
        if self.symmetric:
            index = torch.cat([index, self.queries + self.packed.gallery.side.index])
        return values[:, index].contiguous()

    def unsort(self, values: Tensor) -> Tensor:
        """[k, R] from sorted to original order."""
        place = self.packed.query.place
        if self.symmetric:
            place = torch.cat([place, self.queries + self.packed.gallery.place])
        return values[:, place].contiguous()


def prepare(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    term: str,
    params: Sequence[float],
    metric: PairMetric,
    normalize: bool,
    symmetric: bool,
) -> PairProblem:
    """Pack both sides in label order."""
    unit_rows = normalize or metric == "cosine"
    others = x if gallery is None else gallery
    order = order_by_label(labels, gallery_labels, x.shape[0], others.shape[0], x.device)
    packed = pack(x, gallery, order, unit_rows=unit_rows, centre=metric != "dot")
    reach = math.inf
    if unit_rows and metric != "dot":
        reach = 4.0 if metric == "sqeuclidean" else 2.0
    return PairProblem(packed, order, Term(term, (reach, *params)), metric, symmetric)
