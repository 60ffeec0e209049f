"""The operators on whole rows: a kernel fills strips of distances, `ops/pair_blocks.py` reads them."""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor

from ..gpu.order import LabelOrder, order_by_label
from ..ops.options import RetrievalMetric
from ..ops.pair_blocks import PairBlock, PairBlocks
from ..ops.row_operators import RowOperators
from .distances import fill_strip
from .operand import Packed, pack
from .strips import strips

_BUDGET = 1 << 21  # pairs of a block; a dozen tensors of them live at once


def _pairs(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    metric: str,
    normalize: bool,
) -> PairBlocks:
    others = x if gallery is None else gallery
    order = order_by_label(labels, gallery_labels, x.shape[0], others.shape[0], x.device)
    packed = pack(x, gallery, order, unit_rows=normalize or metric == "cosine", centre=metric != "dot")
    return PairBlocks(_blocks(packed, order, metric), packed.query.lost, packed.dtype)


def _blocks(packed: Packed, order: LabelOrder, metric: str) -> Iterator[PairBlock]:
    position = order.gallery.argsort()  # of each gallery row in label order
    step = max(1, _BUDGET // packed.gallery.size)
    for strip in strips(packed, near=False):
        fill_strip(packed, order, cast(RetrievalMetric, metric), strip, square=True)
        for first in range(0, strip.rows, step):
            last = min(first + step, strip.rows)
            at = torch.arange(strip.first + first, strip.first + last, device=position.device)
            begin, end = (bound[at].unsqueeze(1) for bound in (order.begin, order.end))
            positive = (position >= begin) & (position < end)
            negative = ~positive
            if order.self_form:
                positive &= position != at.unsqueeze(1)
            distance = strip.values[first:last, position]
            distance = -distance if metric == "dot" else distance
            yield PairBlock(order.query[at], distance, positive, negative)


_OPERATORS = RowOperators(_pairs)
rank_positives = _OPERATORS.rank_positives
find_partner = _OPERATORS.find_partner
sample_negatives = _OPERATORS.sample_negatives
triplet_counts = _OPERATORS.triplet_counts
distance_histogram = _OPERATORS.distance_histogram
