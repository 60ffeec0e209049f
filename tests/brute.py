"""Mining and retrieval by exhaustive search in Python: ties to the lowest index, strictness exact."""

from __future__ import annotations

from torch import Tensor

from .inputs import Inputs
from .oracle import distances, pairs

Triplet = tuple[int, int, int]


def squared(inputs: Inputs, normalize: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Squared distances and the masks of positives and negatives, in fp64 on the CPU."""
    truth = inputs.oracle()
    x = truth.embeddings.detach()
    y = x if truth.gallery is None else truth.gallery.detach()
    same, other = pairs(truth.labels, truth.gallery_labels, len(x), len(y), truth.gallery is None)
    return distances(x, y, "sqeuclidean", normalize), same, other


def hard(inputs: Inputs, normalize: bool = False) -> tuple[list[int], list[int]]:
    """Farthest positive and nearest negative of each row, -1 where there is none."""
    d, same, other = squared(inputs, normalize)
    positive, negative = [], []
    for i, row in enumerate(d.tolist()):
        p, n = same[i].nonzero().flatten().tolist(), other[i].nonzero().flatten().tolist()
        positive.append(min(p, key=lambda j: (-row[j], j), default=-1))
        negative.append(min(n, key=lambda j: (row[j], j), default=-1))
    return positive, negative


def semihard(inputs: Inputs, normalize: bool = False) -> list[Triplet]:
    """Per (a, p) the nearest negative strictly farther than p, else the farthest negative."""
    d, same, other = squared(inputs, normalize)
    triplets = []
    for i, row in enumerate(d.tolist()):
        negatives = other[i].nonzero().flatten().tolist()
        if not negatives:
            continue
        for p in same[i].nonzero().flatten().tolist():
            farther = [j for j in negatives if row[j] > row[p]]
            chosen = (
                min(farther, key=lambda j: (row[j], j))
                if farther
                else min(negatives, key=lambda j: (-row[j], j))
            )
            triplets.append((i, p, chosen))
    return triplets


def topk(values: Tensor, k: int, exclude_self: bool = False) -> list[list[int]]:
    """Indices of the k smallest of each row, ties to the lowest index."""
    return [
        sorted((j for j in range(len(row)) if not (exclude_self and j == i)), key=lambda j: (row[j], j))[:k]
        for i, row in enumerate(values.tolist())
    ]
