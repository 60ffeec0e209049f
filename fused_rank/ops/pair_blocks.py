"""What can be read off whole rows of the pair matrix, block by block: ranks, partners, counts, samples.

Here stands the mathematics, in PyTorch, for any device. Where the blocks come from is the backend's: the eager one
forms them by products, the GPU's by its strips. Nothing here is differentiable.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..gpu.order import LabelOrder
from ..reference.triplet import padded_positives
from .blocks import to_metric
from .options import Metric
from .schemas import RANK_MEASURES, TRIPLET_COUNTS

# Weights up to 1 as whole numbers, whose sums over at most 2²⁴ rows are the same in any order.
_WHOLE = 2.0**38


class PairBlock(NamedTuple):
    """Some queries against the whole gallery, in its own order."""

    queries: Tensor  # int64 [m]
    distance: Tensor  # [m, N] squared distances, or minus inner products; infinite or NaN for rows not finite
    positive: Tensor  # bool [m, N]
    negative: Tensor  # bool [m, N]


@dataclass(frozen=True, slots=True)
class PairBlocks:
    """Blocks that cover every query once."""

    blocks: Iterable[PairBlock]
    lost: Tensor  # bool [M]: the query, or something it is compared with, is not finite
    dtype: torch.dtype  # of the distances


def rank_positives(pairs: PairBlocks, cutoffs: list[int]) -> Tensor:
    """Retrieval measures of each query, float64 [5 + 2K, M], NaN where lost, 0 without positives.

    Positives, rank of the first, positives among the first P, average precision, its part up to rank P; for each cutoff
    the positives among the first k; for each the normalised discounted gain.
    """
    measures = pairs.lost.new_empty(
        RANK_MEASURES + 2 * len(cutoffs), pairs.lost.shape[0], dtype=torch.float64
    )
    for block in pairs.blocks:
        measures[:, block.queries] = _measures(block, cutoffs)
    return measures.masked_fill_(pairs.lost, torch.nan)


def _measures(block: PairBlock, cutoffs: list[int]) -> Tensor:
    pairs = block.positive | block.negative
    ranking = block.distance.masked_fill(~pairs, torch.inf).sort(dim=1, stable=True).indices
    relevant = block.positive.gather(1, ranking)
    rank = torch.arange(1, relevant.shape[1] + 1, dtype=torch.float64, device=relevant.device)
    found = relevant.cumsum(1)
    positives = found[:, -1]
    precision = torch.where(relevant, found / rank, 0.0)
    early = rank <= positives.unsqueeze(1)
    share = 1 / positives.clamp(min=1).double()
    rows = [
        positives,
        (relevant.int().argmax(1) + 1) * (positives > 0),
        (relevant & early).sum(1),
        precision.sum(1) * share,
        (precision * early).sum(1) * share,
    ]
    within = [min(k, relevant.shape[1]) for k in cutoffs]
    rows += [found[:, k - 1] for k in within]
    discount = 1 / (1 + rank).log2()
    ideal = discount.cpu().cumsum(0).to(rank.device)  # on a GPU, sums of floats so far may depend on the run
    rows += [(relevant[:, :k] * discount[:k]).sum(1) / ideal[positives.clamp(1, k) - 1] for k in within]
    return torch.stack([row.double() for row in rows])


def find_partner(
    pairs: PairBlocks, positives: bool, farthest: bool, above: Tensor | None, below: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Nearest or farthest positive or negative of each query: row [M] (−1: none) and squared distance [M] (NaN: none).

    Only those with above < squared distance < below; the lowest index among equals.
    """
    values = pairs.lost.new_full(pairs.lost.shape, torch.nan, dtype=pairs.dtype)
    rows = pairs.lost.new_full(pairs.lost.shape, -1, dtype=torch.int64)
    for queries, distance, positive, negative in pairs.blocks:
        eligible = (positive if positives else negative) & (distance < torch.inf)
        if above is not None:
            eligible &= distance > above[queries].unsqueeze(1)
        if below is not None:
            eligible &= distance < below[queries].unsqueeze(1)
        key = (-distance if farthest else distance).masked_fill(~eligible, torch.inf)
        row = key.argmin(1, keepdim=True)
        found = eligible.any(1)
        values[queries] = distance.gather(1, row).squeeze(1).masked_fill(~found, torch.nan)
        rows[queries] = row.squeeze(1).masked_fill(~found, -1)
    return rows, values


def triplet_counts(pairs: PairBlocks, margin: float, metric: Metric) -> Tensor:
    """Per query, float64 [7, M], NaN where lost: sums of d_ap and of d_an, positives, negatives, and how many triplets
    are hard (d_an ≤ d_ap), near (d_an ≤ d_ap + margin), active (d_an < d_ap + margin).
    """
    counts = pairs.lost.new_empty(TRIPLET_COUNTS, pairs.lost.shape[0], dtype=torch.float64)
    for queries, squared, positive, negative in pairs.blocks:
        distance = to_metric(squared, metric)
        index, real = padded_positives(positive)
        ascending = distance.gather(1, index).masked_fill(~real, torch.inf).sort(1).values
        number = positive.sum(1, keepdim=True)
        numbers = [number.squeeze(1), negative.sum(1)]
        sums = [distance.double().masked_fill(~members, 0).sum(1) for members in (positive, negative)]
        passed = [  # of the sorted positives, those that each negative does not violate
            torch.searchsorted(ascending, distance),
            torch.searchsorted(ascending + margin, distance),
            torch.searchsorted(ascending + margin, distance, right=True),
        ]
        violated = [((number - before) * negative).sum(1) for before in passed]
        counts[:, queries] = torch.stack([row.double() for row in (*sums, *numbers, *violated)])
    return counts.masked_fill_(pairs.lost, torch.nan)


def distance_histogram(pairs: PairBlocks, edges: list[float], metric: Metric, *, self_form: bool) -> Tensor:
    """Positive and negative pairs with edge < distance ≤ next edge, int64 [2, E + 1]; each pair once in self form.

    The last bin also takes pairs of rows that are not finite.
    """
    counts = pairs.lost.new_zeros(2, len(edges) + 1, dtype=torch.int64)
    boundaries = torch.tensor(edges, dtype=pairs.dtype, device=counts.device)
    for queries, squared, *members in pairs.blocks:
        distance = to_metric(squared, metric).nan_to_num(nan=torch.inf, posinf=torch.inf)
        bins = torch.bucketize(distance, boundaries)
        if self_form:
            later = torch.arange(bins.shape[1], device=bins.device) > queries.unsqueeze(1)
            members = [mask & later for mask in members]
        for row, mask in zip(counts, members, strict=True):
            row += torch.bincount(bins[mask], minlength=row.shape[0])
    return counts


def sample_negatives(
    pairs: PairBlocks, order: LabelOrder, draws: Tensor, cutoff: float, limit: float, width: int
) -> Tensor:
    """The negative of every (anchor, positive), int64 [L]: the inverse of its anchor's cumulative weights at a draw.

    Pairs by anchor, then positive; −1 where the anchor has no negative or is not finite. Weights as in
    `mining.distance_weighted`.
    """
    number = torch.empty_like(order.positive_count, dtype=torch.int64)
    number[order.query] = order.positive_count.long()
    first = number.cumsum(0) - number
    negatives = torch.empty_like(draws, dtype=torch.int64)
    for queries, distance, _, negative in pairs.blocks:
        slots = torch.arange(max(int(number[queries].max()), 1), device=draws.device)
        real = slots < number[queries].unsqueeze(1)
        place = (first[queries].unsqueeze(1) + slots)[real]
        by_label, members = distance[:, order.gallery], negative[:, order.gallery]
        weights = _weights(by_label, members, cutoff, limit, width)
        cumulative = (weights * _WHOLE).long().cumsum(1).double()
        total = cumulative[:, -1:].contiguous()
        shares = torch.zeros(real.shape, dtype=torch.float64, device=draws.device)
        shares[real] = draws[place]
        chosen = torch.searchsorted(cumulative, shares * total, right=True)
        last = torch.searchsorted(cumulative, total)  # for shares that round up to the total
        rows = order.gallery[torch.minimum(chosen, last).clamp_(max=cumulative.shape[1] - 1)]
        negatives[place] = rows.masked_fill(total <= 0, -1)[real]
    return negatives


def _weights(squared: Tensor, negative: Tensor, cutoff: float, limit: float, width: int) -> Tensor:
    """float64 [m, N]: 1 / (d^(D − 2) (1 − d²/4)^((D − 3) / 2)) up to a factor per row, d not below the cutoff."""
    real = negative & (squared < torch.inf)
    admitted = real & (squared < limit * limit)
    square = squared.nan_to_num(nan=4.0).clamp(cutoff * cutoff, 4.0)
    chord = (1 - square / 4).clamp(min=1e-8)
    logs = ((2 - width) / 2 * square.log() + (3 - width) / 2 * chord.log()).masked_fill(~admitted, -torch.inf)
    highest = logs.amax(1, keepdim=True)
    weights = (logs - highest).exp().double().masked_fill(~admitted, 0)
    return torch.where(highest == -torch.inf, real.double(), weights)
