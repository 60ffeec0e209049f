"""The operators on whole rows of the pair matrix, of any backend that can hand out blocks of distances."""

from collections.abc import Callable
from typing import TypeAlias, cast

from torch import Tensor

from ..gpu.order import order_by_label
from . import pair_blocks
from .options import Metric
from .pair_blocks import PairBlocks

# (x, labels, gallery, gallery labels, metric, normalize)
Source: TypeAlias = Callable[[Tensor, Tensor | None, Tensor | None, Tensor | None, str, bool], PairBlocks]


class RowOperators:
    """Methods named like the schemas."""

    def __init__(self, pairs: Source) -> None:
        self._pairs = pairs

    def rank_positives(
        self,
        x: Tensor,
        labels: Tensor | None,
        gallery: Tensor | None,
        gallery_labels: Tensor | None,
        cutoffs: list[int],
        metric: str,
        normalize: bool,
    ) -> Tensor:
        """Retrieval measures of each query."""
        pairs = self._pairs(x, labels, gallery, gallery_labels, metric, normalize)
        return pair_blocks.rank_positives(pairs, cutoffs)

    def find_partner(
        self,
        x: Tensor,
        labels: Tensor | None,
        gallery: Tensor | None,
        gallery_labels: Tensor | None,
        positives: bool,
        farthest: bool,
        above: Tensor | None,
        below: Tensor | None,
        metric: str,
        normalize: bool,
    ) -> tuple[Tensor, Tensor]:
        """Nearest or farthest positive or negative within limits."""
        pairs = self._pairs(x, labels, gallery, gallery_labels, metric, normalize)
        return pair_blocks.find_partner(pairs, positives, farthest, above, below)

    def sample_negatives(
        self,
        x: Tensor,
        labels: Tensor | None,
        gallery: Tensor | None,
        gallery_labels: Tensor | None,
        draws: Tensor,
        cutoff: float,
        limit: float,
    ) -> Tensor:
        """Distance-weighted negatives of every (anchor, positive)."""
        others = x if gallery is None else gallery
        order = order_by_label(labels, gallery_labels, x.shape[0], others.shape[0], x.device)
        pairs = self._pairs(x, labels, gallery, gallery_labels, "euclidean", True)
        return pair_blocks.sample_negatives(pairs, order, draws, cutoff, limit, x.shape[1])

    def triplet_counts(
        self,
        x: Tensor,
        labels: Tensor | None,
        gallery: Tensor | None,
        gallery_labels: Tensor | None,
        margin: float,
        metric: str,
        normalize: bool,
    ) -> Tensor:
        """Triplet counts of each query."""
        pairs = self._pairs(x, labels, gallery, gallery_labels, metric, normalize)
        return pair_blocks.triplet_counts(pairs, margin, cast(Metric, metric))

    def distance_histogram(
        self,
        x: Tensor,
        labels: Tensor | None,
        gallery: Tensor | None,
        gallery_labels: Tensor | None,
        edges: list[float],
        metric: str,
        normalize: bool,
    ) -> Tensor:
        """Pairs by distance, positives and negatives apart."""
        pairs = self._pairs(x, labels, gallery, gallery_labels, metric, normalize)
        return pair_blocks.distance_histogram(pairs, edges, cast(Metric, metric), self_form=gallery is None)
