"""Retrieval, its measures, diagnostics and distances."""

from collections.abc import Iterator

import torch

from .. import diagnostics, functional, retrieval
from . import oracle
from .batch import Batch
from .tolerance import Difference, Tolerance, compare_gradients, compare_indices, compare_values

K = 5


def nearest(metric: str, batch: Batch, tolerance: Tolerance) -> Iterator[Difference]:
    alone = batch.y is None
    found = retrieval.topk(batch.x, batch.y, K, metric=metric, exclude_self=alone)  # type: ignore[arg-type]
    if metric == "dot":
        d = -(batch.exact_x @ batch.exact_others.T).detach()
    else:
        d = batch.distances(metric, normalize=False).detach()
    if alone:
        d = d.fill_diagonal_(torch.inf)
    values, columns, gap = oracle.ranked(d, K)
    yield compare_values(found.values.cpu().double(), -values if metric == "dot" else values, tolerance)
    clear = gap > tolerance.gap
    yield compare_indices(found.indices.cpu()[clear], columns[clear])


def evaluation(metric: str, batch: Batch, tolerance: Tolerance) -> Iterator[Difference]:
    found = retrieval.evaluate(batch.x, batch.labels, *batch.gallery.values(), k=K, metric=metric)  # type: ignore[arg-type]
    if metric == "dot":
        d = -(batch.exact_x @ batch.exact_others.T).detach()
    else:
        d = batch.distances(metric, normalize=False).detach()
    expected, gap = oracle.retrieval_measures(d, *batch.masks, K)
    ours = (found.precision[K], found.r_precision, found.average_precision, found.mrr)
    slack = 0.0 if gap > tolerance.gap else 1e-3  # neighbours too close to order move a mean by little
    values = compare_values(torch.tensor(ours, dtype=torch.float64), expected, tolerance)
    yield Difference(values.error, values.allowed + slack)


def health(batch: Batch, tolerance: Tolerance) -> Iterator[Difference]:
    found = diagnostics.embedding_health(batch.x, batch.labels, bins=8, near=0.9, warn=False)
    labels = batch.labels.cpu()
    d = oracle.distances(batch.exact_x, batch.exact_x, "euclidean", True).detach()
    later = torch.ones_like(d, dtype=torch.bool).triu(1)
    same = labels[:, None] == labels
    for members, counts, near in (
        (same & later, found.positive, found.near_positive),
        (~same & later, found.negative, found.near_negative),
    ):
        place = torch.bucketize(d[members], found.edges[1:]).clamp(max=7)
        close = ((d[members, None] - found.edges).abs() < tolerance.gap).sum()
        moved = (counts - torch.bincount(place, minlength=8)).abs().sum()
        yield Difference(float(moved), 2 * float(close) + 1e-9)
        unsure = ((d[members] - 0.9).abs() < tolerance.gap).double().mean()
        yield Difference(abs(near - float((d[members] <= 0.9).double().mean())), float(unsure) + 1e-9)


def distance(paired: bool, batch: Batch, tolerance: Tolerance) -> Iterator[Difference]:
    if paired:
        shift = torch.arange(len(batch.x)).roll(1)
        value = functional.paired_distance(batch.x, batch.x[shift.to(batch.x.device)])
        expected = (batch.exact_x - batch.exact_x[shift]).square().sum(1).sqrt()
    else:
        value = functional.pairwise_distance(batch.x, batch.y)
        expected = batch.distances(normalize=False)
    upstream = torch.randn(expected.shape, generator=batch.random, dtype=torch.float64)
    yield compare_values(value.detach().cpu().double(), expected.detach(), tolerance)
    torch.autograd.backward((value, expected), (upstream.to(value), upstream))
    yield compare_gradients(batch.x, batch.exact_x, tolerance)
