"""scikit-learn's handwritten digits, some kept for the test, some for choosing, the rest multiplied into classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

SYMMETRIC = (0, 1, 8)  # look alike after half a turn and in a mirror
MOST_CLASSES = 80  # ten digits in eight views


@dataclass(frozen=True)
class Split:
    """Digits no training sees: `test` is reported, `validation` chooses.

    6 and 9 turn into each other, and so are never trained on.
    """

    test: tuple[int, ...]
    validation: tuple[int, ...]


SPLITS = (Split((6, 7, 8, 9), (3, 4)), Split((2, 5, 6, 9), (0, 7)), Split((1, 4, 6, 9), (5, 8)))

Labelled = tuple[Tensor, Tensor]  # images [N, 1, 8, 8] in [0, 1], labels [N]


@dataclass(frozen=True)
class Data:
    """One split; `validation` and `test` are disturbed as training batches are, `upright` is the test as scanned."""

    train: Labelled
    validation: Labelled
    test: Labelled
    upright: Labelled


@cache
def load(split: int) -> Data:
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target)
    held = SPLITS[split]
    test = torch.isin(labels, torch.tensor(held.test))
    validation = torch.isin(labels, torch.tensor(held.validation))
    train = ~(test | validation)
    generator = torch.Generator().manual_seed(split)
    choosing, choosing_labels = turned(images[validation], labels[validation], views=4)
    return Data(
        train=turned(images[train], labels[train], views=8),
        validation=(disturb(choosing, generator), choosing_labels),
        test=(disturb(images[test], generator), labels[test]),
        upright=(images[test], labels[test]),
    )


def turned(images: Tensor, labels: Tensor, views: int) -> Labelled:
    """Each digit in quarter turns, then mirrored too, as classes of their own unless it is symmetric."""
    seen = [torch.rot90(images, view % 4, (2, 3)) for view in range(views)]
    seen[4:] = [view.flip(3) for view in seen[4:]]
    symmetric = torch.isin(labels, torch.tensor(SYMMETRIC))
    classes = [labels + 10 * torch.where(symmetric, view % 2, view) for view in range(views)]
    return torch.cat(seen), torch.cat(classes)


def disturb(images: Tensor, generator: torch.Generator) -> Tensor:
    """Turn by up to 20°, shift by up to one pixel and a half, scale by up to 15 %."""
    count = images.shape[0]
    turn, across, down, scale = torch.rand(4, count, generator=generator) * 2 - 1
    angle, zoom = turn * math.radians(20), 1 + 0.15 * scale
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    rows = torch.stack([cos, -sin, across * 3 / 8, sin, cos, down * 3 / 8], 1).view(count, 2, 3)
    grid = F.affine_grid(rows, [count, 1, 8, 8], align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)
