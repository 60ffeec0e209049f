"""Triplets of two sets both ways, each direction a sweep of its own, for both GPU backends."""

from collections.abc import Callable

import torch
from torch import Tensor

Sides = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]  # rows, labels, gallery, gallery labels


def rows_both_ways(
    sweep: Callable[..., tuple[Tensor, Tensor]], sides: Sides, symmetric: bool
) -> tuple[Tensor, Tensor]:
    """What `sweep(*sides)` finds of each query, [..., M]; symmetric: then of each row of the gallery, [..., M + N]."""
    found = sweep(*sides)
    x, labels, gallery, gallery_labels = sides
    if not symmetric or gallery is None:
        return found
    turned = sweep(gallery, gallery_labels, x, labels)
    return torch.cat((found[0], turned[0]), -1), torch.cat((found[1], turned[1]), -1)


def semihard_both_ways(
    mine: Callable[..., tuple[Tensor, Tensor, Tensor]], sides: Sides, symmetric: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The triplets of `mine(*sides)`; symmetric: then those whose anchors are the gallery's, numbered after."""
    found = mine(*sides)
    x, labels, gallery, gallery_labels = sides
    if not symmetric or gallery is None:
        return found
    anchor, positive, negative = mine(gallery, gallery_labels, x, labels)
    turned = (x.shape[0] + anchor, positive, negative)
    anchor, positive, negative = (torch.cat(both) for both in zip(found, turned, strict=True))
    return anchor, positive, negative


def gradients_both_ways(
    backward: Callable[..., tuple[Tensor, Tensor]],
    sides: Sides,
    by_row: tuple[Tensor, ...],
    needed: tuple[bool, bool],
    symmetric: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of x and of the gallery: `backward(*sides, *by_row, *needed)`, with by_row [..., M] or [..., M + N]."""
    x, labels, gallery, gallery_labels = sides
    if not symmetric or gallery is None:
        return backward(*sides, *by_row, *needed)
    m = x.shape[0]
    of_x, of_gallery = backward(*sides, *(each[..., :m].contiguous() for each in by_row), *needed)
    its = (each[..., m:].contiguous() for each in by_row)
    more_of_gallery, more_of_x = backward(gallery, gallery_labels, x, labels, *its, *needed[::-1])
    return of_x + more_of_x, of_gallery + more_of_gallery
