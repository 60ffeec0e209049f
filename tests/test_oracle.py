"""The oracle on numbers worked out by hand: points on a line, distances that can be read off."""

from __future__ import annotations

from math import exp, log, log1p

import pytest
import torch

from .oracle import Rows, contrastive, distances, info_nce, ranked_list, sup_con, triplet_margin, unit

#        0    1    2    3    4
LINE = [0.0, 1.0, 3.0, 4.5, 4.75]
X = torch.tensor([[v] for v in LINE], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 1, 1, 0])


def values(rows: Rows, reduction: str) -> list[float] | float:
    return rows.reduce(reduction).tolist()  # type: ignore[no-any-return]


def test_contrastive() -> None:
    rows = contrastive(X, LABELS, None, None, pos_margin=1.0, neg_margin=2.5, power=1, normalize=False)
    # query 0: positives at 1 and 4.75, negatives at 3 and 4.5; query 1: 1 and 3.75, 2 and 3.5; …
    assert rows.sums[0].tolist() == [3.75, 2.75, 0.5, 0.5, 3.75 + 2.75]
    assert rows.sums[1].tolist() == [0.0, 0.5, 0.5 + 0.75, 2.25, 0.75 + 2.25]
    assert rows.counts.tolist() == [[2, 2, 1, 1, 2], [2, 2, 3, 3, 2]]
    assert rows.active.tolist() == [[1, 1, 1, 1, 2], [0, 1, 2, 1, 2]]
    assert values(rows, "none") == pytest.approx([3.75 / 4, 3.25 / 4, 1.75 / 4, 2.75 / 4, 9.5 / 4])
    assert values(rows, "mean_active") == pytest.approx(14 / 6 + 7 / 6)


def test_ranked_list() -> None:
    rows = ranked_list(
        X,
        LABELS,
        None,
        None,
        alpha=3.5,
        margin=2.0,
        temperature_neg=1.0,
        temperature_pos=0.0,
        normalize=False,
    )
    near = [
        [3.0],
        [2.0],
        [3.0, 2.0, 1.75],
        [0.25],
        [1.75, 0.25],
    ]  # negatives below 3.5 (query 1 has one at exactly 3.5)
    far = [
        [4.75],
        [3.75],
        [],
        [],
        [4.75, 3.75],
    ]  # positives above 1.5 (queries 2 and 3 have one at exactly 1.5)
    for i in range(5):
        positive = sum(d - 1.5 for d in far[i]) / max(len(far[i]), 1)
        weights = [exp(3.5 - d) for d in near[i]]
        negative = sum(w * (3.5 - d) for w, d in zip(weights, near[i], strict=True)) / sum(weights)
        assert rows.sums[0, i].item() == pytest.approx(positive + negative)
    assert rows.gap.tolist() == [0.5, 0.0, 0.0, 0.0, 1.75]  # queries 1, 2, 3 have a pair on an edge


def test_semihard() -> None:
    rows = triplet_margin(X, LABELS, None, None, margin=1.0, mining="semihard", normalize=False)
    # anchor 0: p at 1 -> n at 3; p at 4.75 -> none farther, so the farthest n, at 4.5
    # anchor 4: p at 4.75 and 3.75 -> n at 1.75
    assert rows.sums[0].tolist() == pytest.approx([0 + 1.25, 0 + 1.25, 0 + 0.75, 0.0, 4.0 + 3.0])
    assert rows.counts.tolist() == [[2, 2, 1, 1, 2]]


def test_hard() -> None:
    rows = triplet_margin(X, LABELS, None, None, margin=1.0, mining="hard", normalize=False)
    assert rows.sums[0].tolist() == pytest.approx([2.75, 2.75, 0.75, 2.25, 5.5])
    assert rows.counts.sum() == 5


def test_all_and_band() -> None:
    every = triplet_margin(X, LABELS, None, None, margin=1.0, mining="all", normalize=False)
    band = triplet_margin(X, LABELS, None, None, margin=1.0, mining="semihard_all", normalize=False)
    # anchor 2 (positive at 1.5, negatives at 3, 2, 1.75): 1.75 and 2 violate the margin and lie in the band
    assert every.sums[0, 2] == band.sums[0, 2] == 0.5 + 0.75
    # anchor 3 (positive at 1.5, negatives at 4.5, 3.5, 0.25): 0.25 violates and is nearer than the positive
    assert (every.sums[0, 3], band.sums[0, 3]) == (2.25, 0.0)
    assert every.counts.tolist() == band.counts.tolist() == [[4, 4, 3, 3, 4]]


def test_soft_margin() -> None:
    rows = triplet_margin(X, LABELS, None, None, margin=1.0, mining="hard", soft_margin=True, normalize=False)
    assert rows.sums[0, 2].item() == pytest.approx(log1p(exp(0.75)))


def test_softmax_losses() -> None:
    angles = torch.tensor([0.0, 60.0, 90.0, 180.0], dtype=torch.float64).deg2rad()  # the last has no positive
    x = torch.stack([angles.cos(), angles.sin()], 1)
    labels = torch.tensor([0, 0, 0, 1])
    rows = sup_con(x, labels, None, None, temperature=0.5)
    first, third = [1.0, 0.0, -2.0], [0.0, 3**0.5, 0.0]  # cosines over the temperature
    expected = [log(sum(map(exp, logits))) - sum(logits[:2]) / 2 for logits in (first, third)]
    assert rows.sums[0, [0, 2]].tolist() == pytest.approx(expected)
    assert rows.sums[0, 3] == 0
    assert rows.counts.tolist() == [[1, 1, 1, 0]]
    there, back = (info_nce(x[a], None, x[b], None) for a, b in (([0, 1], [1, 3]), ([1, 3], [0, 1])))
    both = info_nce(x[[0, 1]], None, x[[1, 3]], None, symmetric=True)
    assert both.sums[0].tolist() == pytest.approx([*there.sums[0].tolist(), *back.sums[0].tolist()])


def test_unit_and_distances() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -2.0]], dtype=torch.float64, requires_grad=True)
    assert unit(x).flatten().tolist() == pytest.approx([0.6, 0.8, 0.0, 0.0, 0.0, -1.0])
    d = distances(x, x)
    assert d.tolist()[0] == pytest.approx([0.0, 5.0, 45**0.5])
    assert distances(x, x, "cosine")[0, 2].item() == pytest.approx(1.8)
    (unit(x).sum() + d.sum()).backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
