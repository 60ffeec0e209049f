"""Mining between two sets both ways, each direction a sweep of its own, for both GPU backends."""

from collections.abc import Callable

import torch
from torch import Tensor

Sides = tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]  # rows, labels, gallery, gallery labels


def hard_both_ways(
    mine: Callable[..., tuple[Tensor, Tensor]], sides: Sides, symmetric: bool
) -> tuple[Tensor, Tensor]:
    """What `mine(*sides)` finds for each row [M]; symmetric: then for each row of the gallery, [M + N]."""
    found = mine(*sides)
    x, labels, gallery, gallery_labels = sides
    if not symmetric or gallery is None:
        return found
    turned = mine(gallery, gallery_labels, x, labels)
    return torch.cat((found[0], turned[0])), torch.cat((found[1], turned[1]))


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
