"""Miners, sampling and statistics of triplets against sorted fp64 distances."""

from collections.abc import Iterator

import torch
from torch import Tensor

from .. import mining
from . import oracle
from .batch import Batch
from .tolerance import Difference, Tolerance, compare_indices, compare_values


def mined_hard(batch: Batch, tolerance: Tolerance) -> Iterator[Difference]:
    found = mining.hard(batch.x, batch.labels, **batch.gallery)
    d = batch.distances().detach()
    for indices, members, sign in zip(found, batch.masks, (-1, 1), strict=True):
        ordered, columns, gap = oracle.ranked((sign * d).masked_fill(~members, torch.inf), 1)
        expected = torch.where(ordered.isinf(), -1, columns)[:, 0]
        clear = (gap > tolerance.gap) | gap.isnan()  # inf − inf: none at all
        yield compare_indices(indices.cpu()[clear], expected[clear])


def mined_semihard(batch: Batch, tolerance: Tolerance) -> Iterator[Difference]:
    found = torch.stack(mining.semihard(batch.x, batch.labels, **batch.gallery)).cpu()
    d = batch.distances().detach()
    positive, negative = batch.masks
    gap = oracle.triplets(d, positive, negative, "semihard")[1]
    expected = []
    for anchor in (gap > tolerance.gap).nonzero()[:, 0].tolist():
        p, n = positive[anchor].nonzero()[:, 0], negative[anchor].nonzero()[:, 0]
        if len(p) and len(n):
            chosen = n[oracle.semihard_choice(d[anchor, n] - d[anchor, p][:, None])]
            expected.append(torch.stack([torch.full_like(p, anchor), p, chosen]))
    known = found[:, gap[found[0]] > tolerance.gap]
    order = (known[0] * d.shape[1] + known[1]).argsort()
    yield compare_indices(known[:, order], torch.cat(expected, 1))


def partners(batch: Batch, tolerance: Tolerance) -> Iterator[Difference]:
    """The nearest positive, and the nearest negative that is farther."""
    found = mining.partners(batch.x, batch.labels, positive="easy", negative="semihard", **batch.gallery)
    d = batch.distances().detach()
    positive, negative = batch.masks
    ordered, columns, gap = oracle.ranked(d.masked_fill(~positive, torch.inf), 1)
    yield compare_indices(*_decided(found.positive, columns, ordered, gap, tolerance))
    farther = negative & (d > ordered) & ~ordered.isinf()
    near = (d - ordered).abs().masked_fill(~negative, torch.inf).amin(1)
    ordered, columns, gap = oracle.ranked(d.masked_fill(~farther, torch.inf), 1)
    yield compare_indices(
        *_decided(found.negative, columns, ordered, torch.minimum(gap.nan_to_num(1), near), tolerance)
    )


def _decided(
    found: Tensor, columns: Tensor, ordered: Tensor, gap: Tensor, tolerance: Tolerance
) -> tuple[Tensor, Tensor]:
    clear = (gap > tolerance.gap) | gap.isnan()  # inf − inf: none at all
    return found.cpu()[clear], torch.where(ordered.isinf(), -1, columns)[:, 0][clear]


def triplet_stats(batch: Batch, tolerance: Tolerance) -> Iterator[Difference]:
    found = mining.triplet_stats(batch.x, batch.labels, margin=oracle.TRIPLET_MARGIN, **batch.gallery)
    d = batch.distances().detach()
    positive, negative = batch.masks
    apart = (d[:, None, :] - d[:, :, None])[positive[:, :, None] & negative[:, None, :]]
    near = (apart.abs() < tolerance.gap) | ((apart - oracle.TRIPLET_MARGIN).abs() < tolerance.gap)
    shares = [apart <= 0, apart <= oracle.TRIPLET_MARGIN]
    ours = (found.hard, found.hard + found.semihard)
    means = (found.positive_distance, found.negative_distance)
    yield Difference(abs(found.triplets - len(apart)), 1e-9)
    for count, share in zip(ours, shares, strict=True):
        yield Difference(abs(count - int(share.sum())), int(near.sum()) + 1e-9)
    yield compare_values(
        torch.tensor(means, dtype=torch.float64),
        torch.stack([d[positive].mean(), d[negative].mean()]),
        tolerance,
    )


def distance_weighted(batch: Batch, tolerance: Tolerance) -> Iterator[Difference]:
    """The share of draws that cumulative weights in fp64 don't explain; none may."""
    device = batch.x.device
    found = mining.distance_weighted(
        batch.x, batch.labels, **batch.gallery, generator=torch.Generator(device).manual_seed(1)
    )
    positive, negative = batch.masks
    pairs = positive.nonzero()
    draws = torch.rand(
        len(pairs), dtype=torch.float64, device=device, generator=torch.Generator(device).manual_seed(1)
    ).cpu()
    labels = (batch.labels if batch.y_labels is None else batch.y_labels).cpu()
    d, order = batch.distances().detach(), labels.argsort(stable=True)
    share = oracle.sampling_weights(d, negative, batch.exact_x.shape[1])[:, order].cumsum(1)
    share = share / share[:, -1:]
    clear = ((d - 1.4).abs().amin(1) > tolerance.gap)[pairs[:, 0]]
    place = order.argsort()[found.negative.cpu()]
    above = share[pairs[:, 0], place]
    below = torch.where(place > 0, share[pairs[:, 0], (place - 1).clamp(min=0)], 0)
    wrong = ((draws > above + 1e-3) | (draws < below - 1e-3)) & clear
    yield compare_indices(found.anchor.cpu(), pairs[:, 0])
    yield Difference(float(wrong.double().mean()), 1e-9)
