"""Distances by direct difference, which pairs are which, and how far a number is from deciding something else."""

from typing import TypeAlias

import torch
from torch import Tensor

Rows: TypeAlias = tuple[Tensor, Tensor]  # loss [M], gap [M]


def unit(x: Tensor) -> Tensor:
    """x / |x|, row by row."""
    return x / x.square().sum(1, keepdim=True).sqrt()


def distances(x: Tensor, y: Tensor, metric: str, normalize: bool) -> Tensor:
    """[M, N]; the zero subgradient at zero distance."""
    if normalize or metric == "cosine":
        x, y = unit(x), unit(y)
    squares = torch.cat([(x[i : i + 16, None] - y).square().sum(2) for i in range(0, len(x), 16)])
    if metric == "sqeuclidean":
        return squares
    if metric == "cosine":
        return squares / 2
    zero = squares == 0
    return squares.masked_fill(zero, 1).sqrt().masked_fill(zero, 0)


def similarities(x: Tensor, y: Tensor, normalize: bool = True) -> Tensor:
    """Inner products [M, N], of unit rows or of the rows as they are."""
    return unit(x) @ unit(y).T if normalize else x @ y.T


def masks(labels: Tensor, others: Tensor | None) -> tuple[Tensor, Tensor]:
    """Positive and negative pairs, bool [M, N]; others None: self form, without a row's pair with itself."""
    same = labels[:, None] == (labels if others is None else others)
    own = torch.eye(len(labels), dtype=torch.bool) if others is None else torch.zeros_like(same)
    return same & ~own, ~same


def first_pairs(labels: Tensor, positive: Tensor) -> Tensor:
    """Of the positive pairs, those of a class's first query with its first positive."""
    repeated = (labels[:, None] == labels).tril(-1).any(1)
    return positive & (positive.cumsum(1) == 1) & ~repeated[:, None]


def nearest(values: Tensor, members: Tensor) -> Tensor:
    """Of each row the least |value| among the members."""
    return values.detach().abs().masked_fill(~members, torch.inf).amin(1)


def steps(values: Tensor) -> Tensor:
    """Differences of neighbours in order."""
    return values.detach().sort().values.diff()
