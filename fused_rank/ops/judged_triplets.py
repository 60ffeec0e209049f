"""Triplets whose negative is chosen, or refused, by its distance to the positive, in a space of the caller's choice.

The engine's miners do all the work that concerns one space. Only a pair (a, p) whose negative depends on both, as where
a miner's choice is refused, is compared with every candidate, some pairs at a time: O(strip·N) memory.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..reference.dense import non_finite
from .blocks import Gallery, row_blocks
from .class_pairs import all_pairs, by_anchor
from .dispatch import select
from .options import Metric, Mining
from .outside_graph import outside_graph
from .reduction import Rows
from .rows import prepare, widened
from .triplet import explicit_triplet_rows

Triplets = tuple[Tensor, Tensor, Tensor]  # int64 [L], by anchor

_SQUARED = {"euclidean": lambda d: d * d, "sqeuclidean": lambda d: d, "cosine": lambda d: 2 * d}


class Sides(NamedTuple):
    """The data of one direction: anchors, and what their positives and negatives are chosen from."""

    x: Tensor
    labels: Tensor | None
    gallery: Tensor | None
    gallery_labels: Tensor | None

    def turned(self) -> "Sides":
        """The other direction, of two sets."""
        assert self.gallery is not None
        return Sides(self.gallery, self.gallery_labels, self.x, self.labels)

    @property
    def candidates(self) -> Tensor:
        return self.x if self.gallery is None else self.gallery

    @property
    def classes(self) -> Tensor:
        """The label [N] of each candidate."""
        classes = self.labels if self.gallery is None else self.gallery_labels
        return torch.arange(len(self.candidates), device=self.x.device) if classes is None else classes


class Judge(NamedTuple):
    """How negatives stand to the positive: by rows [N, E], one for each candidate."""

    rows: Tensor
    nearest: bool  # the negative nearest to the positive there is taken; otherwise only `closer_than` counts
    closer_than: float  # in the loss's metric: negatives nearer than this to the positive are never taken


def judged_triplet_rows(
    sides: Sides,
    judge: Judge,
    mining: Mining,
    margin: float,
    soft_margin: bool,
    metric: Metric,
    normalize: bool,
) -> Rows:
    """Rows [1, M] of the triplets that `mining`, hard or semihard, takes with the judge's consent."""
    triplets = judged_triplets(sides, judge, mining, metric, normalize)
    rows = _listed_rows(sides, triplets, margin, soft_margin, metric, normalize)
    return rows._replace(sums=rows.sums + (judge.rows.detach() * 0).sum())


def mined_rows_both_ways(
    sides: Sides, mining: Mining, margin: float, soft_margin: bool, metric: Metric, normalize: bool
) -> list[Rows]:
    """Rows [1, M] and [1, N] of hard or semihard mining in either direction, mined in one sweep."""
    there, back = _mined_both_ways(sides, mining, metric, normalize)
    return [
        _listed_rows(sides, there, margin, soft_margin, metric, normalize),
        _listed_rows(sides.turned(), back, margin, soft_margin, metric, normalize),
    ]


@outside_graph
@torch.no_grad()
def _mined_both_ways(
    sides: Sides, mining: Mining, metric: Metric, normalize: bool
) -> tuple[Triplets, Triplets]:
    given = (*(None if t is None else t.detach() for t in sides), metric, normalize, True)
    with torch.autocast(sides.x.device.type, enabled=False):
        m = sides.x.shape[0]
        if mining == "hard":
            positive, negative = select("mining.hard", sides.x).mine_hard(*given)
            return _from_anchors(positive[:m], negative[:m]), _from_anchors(positive[m:], negative[m:])
        anchor, positive, negative = select("mining.semihard", sides.x).mine_semihard(*given)
        first = int((anchor < m).sum())
        return (
            (anchor[:first], positive[:first], negative[:first]),
            (anchor[first:] - m, positive[first:], negative[first:]),
        )


def _listed_rows(
    sides: Sides, triplets: Triplets, margin: float, soft_margin: bool, metric: Metric, normalize: bool
) -> Rows:
    """Rows [1, M] of triplets listed by anchor."""
    x, gallery = widened(sides.x, sides.gallery)
    each = explicit_triplet_rows(x, gallery, triplets, margin, soft_margin, metric, normalize)
    sums, counts, active = (by_anchor(row.squeeze(0), triplets[0], x.shape[0]) for row in each)
    return Rows(sums + non_finite(x, gallery), counts, active)


@outside_graph
@torch.no_grad()
def judged_triplets(sides: Sides, judge: Judge, mining: Mining, metric: Metric, normalize: bool) -> Triplets:
    """The triplets themselves, at most one for each (anchor, positive)."""
    sides = Sides(*(None if t is None else t.detach() for t in sides))  # type: ignore[arg-type]
    with torch.autocast(sides.x.device.type, enabled=False):
        search = _Search(sides, judge._replace(rows=judge.rows.detach()), mining, metric, normalize)
        anchor, positive, negative = search.by_positive() if judge.nearest else search.by_anchor()
        unsettled = (~search.settled(anchor, positive, negative)).nonzero().squeeze(1)
        if unsettled.shape[0]:
            negative[unsettled] = search.in_strips(anchor[unsettled], positive[unsettled])
        return _with_negative(anchor, positive, negative)


class _Search:
    """One direction's mining."""

    def __init__(self, sides: Sides, judge: Judge, mining: Mining, metric: Metric, normalize: bool) -> None:
        self.sides, self.judge, self.semihard = sides, judge, mining == "semihard"
        self.metric, self.normalize = metric, normalize
        self.limit = float(_SQUARED[metric](judge.closer_than))

    def by_anchor(self) -> Triplets:
        """What mining takes in the loss's own space, unjudged."""
        options = (self.metric, self.normalize)
        if self.semihard:
            found: Triplets = select("mining.semihard", self.sides.x).mine_semihard(*self.sides, *options)
            return found
        hardest = select("mining.hard", self.sides.x).mine_hard(*self.sides, *options)
        return _from_anchors(*hardest)

    def by_positive(self) -> Triplets:
        """For each (anchor, positive) the negative nearest to the positive of those that the judge lets through.

        It depends on the positive alone: a sweep of the judge's rows against each other, whatever the anchors are.
        """
        rows, sides = self.judge.rows, self.sides
        find = select("mining.partners", rows).find_partner
        above = None
        if self.limit > 0:  # exclusive
            above = prepare(rows[:1], normalize=False).rows.new_full((rows.shape[0],), self.limit)
            above = above.nextafter(torch.zeros_like(above))
        nearest, _ = find(
            rows, sides.classes, None, None, False, False, above, None, self.metric, self.normalize
        )
        if self.semihard or sides.labels is None:
            anchor, positive = all_pairs(sides.labels, sides.gallery_labels, sides.x.shape[0], sides.x.device)
            return _with_negative(anchor, positive, nearest[positive])
        find = select("mining.partners", sides.x).find_partner
        positive, _ = find(*sides, True, True, None, None, self.metric, self.normalize)
        return _from_anchors(positive, nearest[positive].masked_fill(positive < 0, -1))

    def settled(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """bool [L]: the negative passes in the space that did not choose it, and so is the best of all that do."""
        if not self.judge.nearest:
            return self._squared(self.judge.rows, None, positive, negative) >= self.limit
        if not self.semihard:
            return torch.ones_like(anchor, dtype=torch.bool)
        x, gallery = self.sides.x, self.sides.gallery
        return self._squared(x, gallery, anchor, negative) > self._squared(x, gallery, anchor, positive)

    def in_strips(self, anchor: Tensor, positive: Tensor) -> Tensor:
        """The negative [L] of each pair, −1 where the judge lets none through; the lowest index among equals."""
        normalize = self.normalize or self.metric == "cosine"
        rows, candidates, judged = (
            prepare(t, normalize=normalize).rows
            for t in (self.sides.x, self.sides.candidates, self.judge.rows)
        )
        to_anchor, to_positive = Gallery(candidates), Gallery(judged)
        classes = self.sides.classes
        negative = torch.empty_like(anchor)
        for part in row_blocks(anchor.shape[0], candidates.shape[0]):
            a, p = anchor[part], positive[part].unsqueeze(1)
            distance = to_anchor.block(rows[a]).squared
            beyond = to_positive.block(judged[p.squeeze(1)]).squared
            allowed = (classes[p] != classes) & (beyond >= self.limit)
            chosen = allowed & (distance > distance.gather(1, p)) if self.semihard else allowed
            key = beyond if self.judge.nearest else distance
            best = key.masked_fill(~chosen, torch.inf).argmin(1)
            farthest = distance.masked_fill(~allowed, -torch.inf).argmax(1)
            best = torch.where(chosen.any(1), best, farthest)
            negative[part] = best.masked_fill(~allowed.any(1), -1)
        return negative

    def _squared(self, x: Tensor, gallery: Tensor | None, i: Tensor, j: Tensor) -> Tensor:
        measure = select("triplet_margin_loss", x).indexed_distance
        normalize = self.normalize or self.metric == "cosine"
        squared: Tensor = measure(x, gallery, i, j, "sqeuclidean", normalize)
        return squared


def _from_anchors(positive: Tensor, negative: Tensor) -> Triplets:
    """One triplet for each anchor [M] that has both."""
    anchor = (positive >= 0).nonzero().squeeze(1)
    return _with_negative(anchor, positive[anchor], negative[anchor])


def _with_negative(anchor: Tensor, positive: Tensor, negative: Tensor) -> Triplets:
    found = negative >= 0
    return anchor[found], positive[found], negative[found]
