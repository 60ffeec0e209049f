"""Lists of positive pairs, read off the labels alone: O(rows log rows + pairs), always in the same order.

Their length depends on the labels, so torch.compile breaks its graph here.
"""

import torch
from torch import Tensor

from .outside_graph import outside_graph

Pairs = tuple[
    Tensor, Tensor
]  # int64 [L] by anchor: anchors index the queries, positives what they are compared with


@outside_graph
def unique_pairs(
    labels: Tensor | None, gallery_labels: Tensor | None, rows: int, device: torch.device
) -> Pairs:
    """One pair a class: its first row and the first positive of that; in plain pairing every (i, i)."""
    if labels is None:
        index = torch.arange(rows, device=device)
        return index, index
    order = labels.argsort(stable=True)
    ordered = labels[order]
    leads = torch.ones_like(ordered, dtype=torch.bool)
    leads[1:] = ordered[1:] != ordered[:-1]
    if gallery_labels is None:
        followed = torch.zeros_like(leads)
        followed[:-1] = ~leads[1:]
        first = (leads & followed).nonzero().squeeze(1)
        anchor, positive = order[first], order[first + 1]
    else:
        anchor = order[leads]
        others, place = _places(labels[anchor], gallery_labels)
        found = place[1] > place[0]
        anchor, positive = anchor[found], others[place[0][found]]
    anchor, turn = anchor.sort()
    return anchor, positive[turn]


@outside_graph
def all_pairs(labels: Tensor | None, gallery_labels: Tensor | None, rows: int, device: torch.device) -> Pairs:
    """Every (anchor, positive); in self form both orders of a pair."""
    if labels is None:
        return unique_pairs(None, None, rows, device)
    others, (begin, end) = _places(labels, labels if gallery_labels is None else gallery_labels)
    counts = end - begin
    anchor = torch.arange(rows, device=device).repeat_interleave(counts)
    within = torch.arange(anchor.shape[0], device=device) - (counts.cumsum(0) - counts)[anchor]
    positive = others[begin[anchor] + within]
    if gallery_labels is not None:
        return anchor, positive
    pair = anchor != positive
    return anchor[pair], positive[pair]


@outside_graph
def undirected(anchor: Tensor, positive: Tensor, rows: int) -> Pairs:
    """Of `all_pairs` in self form: those with the lower row as anchor [L / 2], and each pair's place among them [L]."""
    lower, upper = torch.minimum(anchor, positive), torch.maximum(anchor, positive)
    twin = torch.searchsorted(anchor * rows + positive, lower * rows + upper)
    once = anchor < positive
    return once.nonzero().squeeze(1), (once.cumsum(0) - 1)[twin]


def by_anchor(each: Tensor, anchor: Tensor, rows: int) -> Tensor:
    """Sums [1, M] of the numbers [L] of each anchor's pairs."""
    lengths = torch.bincount(anchor, minlength=rows)
    sums: Tensor = torch.segment_reduce(each, "sum", lengths=lengths, unsafe=True)
    return sums.unsqueeze(0)


def _places(labels: Tensor, others: Tensor) -> tuple[Tensor, Pairs]:
    """The order that sorts `others` by label, and where in it the range of each of `labels` begins and ends."""
    order = others.argsort(stable=True)
    ordered = others[order]
    return order, (torch.searchsorted(ordered, labels), torch.searchsorted(ordered, labels, right=True))
