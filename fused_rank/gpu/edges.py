"""Pairs that carry a gradient: the way of both GPU backends from a list of them to the rows they move."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor


class Side(Protocol):
    """Rows of one side as a backend describes them."""

    @property
    def size(self) -> int: ...
    @property
    def finite(self) -> Tensor: ...  # bool [R]


Rows = TypeVar("Rows", bound=Side)
# (total, start, other, coefficient, own, others): adds to each row of total its edges [start[row], start[row + 1])
EdgeSums = Callable[[Tensor, Tensor, Tensor, Tensor, Rows, Rows], None]


@dataclass(frozen=True, slots=True)
class Edges:
    """Pairs of query row and gallery row with d loss / d distance · edge factor, which moves both ends."""

    query: Tensor  # int64 [E], original rows
    gallery: Tensor
    coefficient: Tensor  # fp64 [E]


def sum_edges(
    edges: Edges,
    query: Rows,
    gallery: Rows,
    to_query: Tensor | None,
    to_gallery: Tensor | None,
    sums: EdgeSums[Rows],
) -> None:
    """Adds the edges' gradients to fp64 [M, D] and [N, D]. In self form (one side) both ends move `to_query`."""
    if query is gallery:
        if to_query is not None:
            target = torch.cat((edges.query, edges.gallery))
            other = torch.cat((edges.gallery, edges.query))
            _add_to(to_query, target, other, edges.coefficient.repeat(2), query, query, sums)
        return
    if to_query is not None:
        _add_to(to_query, edges.query, edges.gallery, edges.coefficient, query, gallery, sums)
    if to_gallery is not None:
        _add_to(to_gallery, edges.gallery, edges.query, edges.coefficient, gallery, query, sums)


def _add_to(
    total: Tensor,
    target: Tensor,
    other: Tensor,
    coefficient: Tensor,
    own: Rows,
    others: Rows,
    sums: EdgeSums[Rows],
) -> None:
    """Edges in the order of their target row, equal ones as listed, so that a row's sum has one order."""
    target, order = target.sort(stable=True)
    start = torch.searchsorted(target, torch.arange(own.size + 1, device=target.device))
    sums(total, start, other[order], coefficient[order], own, others)


def lost_rows(own: Side, gallery: Side) -> Tensor:
    """Rows of one side whose results are unknown: not finite, or paired with a gallery row that is not; bool [R]."""
    return ~(own.finite & gallery.finite.all())


def to_metric(square: Tensor, metric: str) -> Tensor:
    """The distance of a squared difference (of unit rows, for cosine)."""
    if metric == "euclidean":
        return square.sqrt()
    return square / 2 if metric == "cosine" else square
