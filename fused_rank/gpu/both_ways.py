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
    backward: Callable[..., tuple[Tensor | None, Tensor | None]],
    sides: Sides,
    by_row: tuple[Tensor, ...],
    needed: tuple[bool, bool],
    symmetric: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of x and of the gallery, each empty where it is not needed.

    `backward(*sides, *by_row, *needed)` finds them one way, None where not needed; by_row is [..., M], symmetric
    [..., M + N].
    """
    x, labels, gallery, gallery_labels = sides
    if not symmetric or gallery is None:
        return _one_way(backward, sides, by_row, needed)
    m = x.shape[0]
    own = tuple(each[..., :m].contiguous() for each in by_row)
    of_x, of_gallery = _one_way(backward, sides, own, needed)
    its = tuple(each[..., m:].contiguous() for each in by_row)
    turned = (gallery, gallery_labels, x, labels)
    more_of_gallery, more_of_x = _one_way(backward, turned, its, (needed[1], needed[0]))
    return of_x + more_of_x, of_gallery + more_of_gallery


def _one_way(
    backward: Callable[..., tuple[Tensor | None, Tensor | None]],
    sides: Sides,
    by_row: tuple[Tensor, ...],
    needed: tuple[bool, bool],
) -> tuple[Tensor, Tensor]:
    x, _, gallery, _ = sides
    need_x, need_gallery = needed[0], needed[1] and gallery is not None
    found = backward(*sides, *by_row, need_x, need_gallery) if need_x or need_gallery else (None, None)
    grad_x, grad_gallery = (x.new_empty(0) if grad is None else grad for grad in found)
    return grad_x, grad_gallery
