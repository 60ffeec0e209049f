"""The eager backend's operators that look at whole rows: blocks of distances from PyTorch products."""

from collections.abc import Iterator

import torch
from torch import Tensor

from .blocks import row_blocks
from .chunked_sweep import Sweep
from .pair_blocks import PairBlock, PairBlocks
from .row_operators import RowOperators


def _pairs(
    x: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    metric: str,
    normalize: bool,
) -> PairBlocks:
    sweep = Sweep(x, labels, gallery, gallery_labels, metric, normalize)
    blocks = _negated_products(sweep) if metric == "dot" else _squared_distances(sweep)
    finite = [side.isfinite().all(1) for side in (x, *(() if gallery is None else (gallery,)))]
    return PairBlocks(blocks, ~(finite[0] & finite[-1].all()), sweep.queries.rows.dtype)


def _squared_distances(sweep: Sweep) -> Iterator[PairBlock]:
    for queries, block, positive, negative in sweep:
        yield PairBlock(queries, block.squared, positive, negative)


def _negated_products(sweep: Sweep) -> Iterator[PairBlock]:
    rows, others = sweep.queries.rows, sweep.gallery_rows
    columns = torch.arange(others.shape[0], device=rows.device)
    for part in row_blocks(rows.shape[0], others.shape[0]):
        queries = torch.arange(part.start, part.stop, device=rows.device)
        positive = sweep._positive(queries, columns)
        negative = ~positive
        if sweep.gallery is None:
            positive.diagonal(part.start).fill_(False)
        yield PairBlock(queries, -(rows[part] @ others.t()), positive, negative)


_OPERATORS = RowOperators(_pairs)
rank_positives = _OPERATORS.rank_positives
find_partner = _OPERATORS.find_partner
sample_negatives = _OPERATORS.sample_negatives
triplet_counts = _OPERATORS.triplet_counts
distance_histogram = _OPERATORS.distance_histogram
