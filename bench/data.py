"""Synthetic embeddings: what a batch looks like early in training, late in training, and after a collapse."""

import torch
from torch import Generator, Tensor
from torch.nn.functional import normalize

Batch = tuple[Tensor, Tensor]  # embeddings [B, D] and labels [B]

COMMON = 0.62  # of one vector in every early row: random negatives then sit at d = 1.20, the default alpha
CLUSTER_WIDTH = 1e-4


def early(rows: int, width: int, per_class: int, generator: Generator) -> Batch:
    """Classes overlap: half of the negatives are nearer than alpha = 1.2, all positives farther than 0.8."""
    labels = _labels(rows, per_class, generator)
    own = _class_rows(labels, width, noise=2.0, generator=generator)
    common = _unit(1, width, generator)
    return normalize(own + COMMON * common, dim=1), labels


def late(rows: int, width: int, per_class: int, generator: Generator) -> Batch:
    """Classes are apart: almost no negative is nearer than 1.2, and few positives are farther than 0.8."""
    labels = _labels(rows, per_class, generator)
    return _class_rows(labels, width, noise=0.6, generator=generator), labels


def collapsed(rows: int, width: int, per_class: int, generator: Generator) -> Batch:
    """Two clusters 1e-4 wide; a class lies in one of them, the lower half of the labels in the first."""
    labels = _labels(rows, per_class, generator)
    return _two_clusters(labels > labels.max() // 2, width, generator), labels


def collapsed_mixed(rows: int, width: int, per_class: int, generator: Generator) -> Batch:
    """Two clusters 1e-4 wide; neighbouring labels lie in different clusters."""
    labels = _labels(rows, per_class, generator)
    return _two_clusters(labels % 2 == 1, width, generator), labels


def pairs(rows: int, width: int, per_class: int, generator: Generator) -> Batch:
    """Two sets, early: `rows` queries, and after them `rows` gallery rows, the i-th of each being a pair."""
    labels = torch.arange(rows).repeat(2)
    own = _class_rows(labels, width, noise=2.0, generator=generator)
    return normalize(own + COMMON * _unit(1, width, generator), dim=1), labels


SETS = {
    "early": early,
    "late": late,
    "collapsed": collapsed,
    "collapsed-mixed": collapsed_mixed,
    "pairs": pairs,
}


def make(name: str, rows: int, width: int, per_class: int = 4, seed: int = 0) -> Batch:
    """Unit rows [rows, width] float32 and labels [rows] int64, the same for one seed; of pairs twice as many."""
    return SETS[name](rows, width, per_class, Generator().manual_seed(seed))


def active_negatives(x: Tensor, labels: Tensor, alpha: float = 1.2, sample: int = 512) -> float:
    """Share of the negative pairs nearer than alpha, over the first `sample` queries."""
    queries = x[:sample]
    negative = labels[:sample, None] != labels[None, :]
    near = torch.cdist(queries, x) < alpha
    return float((near & negative).sum() / negative.sum().clamp(min=1))


def _labels(rows: int, per_class: int, generator: Generator) -> Tensor:
    return torch.arange(rows).div(per_class, rounding_mode="floor")[torch.randperm(rows, generator=generator)]


def _unit(rows: int, width: int, generator: Generator) -> Tensor:
    return normalize(torch.randn(rows, width, generator=generator), dim=1)


def _class_rows(labels: Tensor, width: int, noise: float, generator: Generator) -> Tensor:
    centres = _unit(int(labels.max()) + 1, width, generator)
    return normalize(centres[labels] + noise * _unit(len(labels), width, generator), dim=1)


def _two_clusters(second: Tensor, width: int, generator: Generator) -> Tensor:
    centres = _unit(2, width, generator)
    return normalize(centres[second.long()] + CLUSTER_WIDTH * _unit(len(second), width, generator), dim=1)
