"""Triplet losses and mining by chunks."""

from functools import partial
from typing import cast

import torch
from torch import Tensor

from ..reference import (
    triplet,
)
from ..reference.triplet import hardest, semihard
from .chunked_sweep import Sweep
from .options import Mining


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
    symmetric: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the mined triplet losses; symmetric: then those of the gallery's rows."""
    term = partial(triplet.rows, mining=cast(Mining, mining), margin=margin, soft_margin=soft_margin)
    sweep = Sweep(x, labels, gallery, gallery_labels, metric, normalize)
    rows = sweep.forward_either_way(term, 1, None, symmetric)
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
    symmetric: bool = False,
) -> tuple[Tensor, Tensor]:
    """Gradients of the mined triplet losses; the mining is done again."""
    term = partial(triplet.rows, mining=cast(Mining, mining), margin=margin, soft_margin=soft_margin)
    sweep = Sweep(x, labels, gallery, gallery_labels, metric, normalize)
    grad_x, grad_gallery, _ = sweep.backward_either_way(term, grad_sums, None, symmetric)
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
    parts = [_hardest(part) for part, _ in sweep.directions(None, symmetric)]
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
    there, *back = (_semihard(part) for part, _ in sweep.directions(None, symmetric))
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
