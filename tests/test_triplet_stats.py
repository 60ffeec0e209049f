"""mining.triplet_stats against enumeration."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import fused_rank
from fused_rank import mining
from fused_rank.mining import TripletStats

from .conftest import Backend
from .inputs import Inputs, make_inputs
from .losses import case_id
from .oracle import distances, pairs
from .tolerances import TOLERANCES

SHAPES = [(1, 1), (2, 3), (65, 63), (130, 257)]
METRICS = [("euclidean", False), ("euclidean", True), ("sqeuclidean", True), ("cosine", True)]


def enumerate_triplets(inputs: Inputs, margin: float, metric: str, normalize: bool) -> TripletStats:
    truth = inputs.oracle()
    x = truth.embeddings.detach()
    y = x if truth.gallery is None else truth.gallery.detach()
    same, other = pairs(truth.labels, truth.gallery_labels, len(x), len(y), truth.gallery is None)
    d = distances(x, y, metric, normalize)
    excess = torch.cat(
        [(row[n][None] - row[p][:, None]).flatten() for row, p, n in zip(d, same, other, strict=True)]
    )
    hard, near, active = excess <= 0, excess <= margin, excess < margin
    return TripletStats(
        triplets=len(excess),
        easy=int((~near).sum()),
        semihard=int((near & ~hard).sum()),
        hard=int(hard.sum()),
        active=float(active.double().mean()),
        positive_distance=float(d[same].mean()),
        negative_distance=float(d[other].mean()),
    )


def run(inputs: Inputs, backend: Backend, margin: float = 0.2, **options: Any) -> TripletStats:
    ours = inputs.to(backend.device)
    return mining.triplet_stats(ours.embeddings, ours.labels, margin=margin, **ours.keywords, **options)


def agree(found: TripletStats, expected: TripletStats, tolerance: float = 1e-12) -> None:
    assert found[:4] == expected[:4]
    assert found[4:] == pytest.approx(expected[4:], rel=tolerance, nan_ok=True)


@pytest.mark.parametrize("metric", METRICS, ids=str)
@pytest.mark.parametrize("form", ["self", "two-set", "plain"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_counts(
    margin: float,
    shape: tuple[int, int],
    form: str,
    metric: tuple[str, bool],
    backend: Backend,
    generator: torch.Generator,
) -> None:
    inputs = make_inputs(form, *shape, 7, torch.float64, generator)
    found = run(inputs, backend, margin, metric=metric[0], normalize=metric[1])
    agree(found, enumerate_triplets(inputs, margin, *metric))


@pytest.mark.parametrize("sizes", [(70, 3), (150, 5), (65, 66), (1, 1, 1), (90,)], ids=str)
@pytest.mark.parametrize("margin", [0.0, 0.25, 0.3])
def test_ties_and_large_classes_in_fp32(
    margin: float, sizes: tuple[int, ...], backend: Backend, generator: torch.Generator
) -> None:
    """Coordinates on one line and a grid, where every difference is exact: many lie right on a decision."""
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=generator)]
    x = torch.randint(0, 9, (len(labels), 1), generator=generator).float() / 4
    inputs = Inputs(x, labels)
    agree(
        run(inputs, backend, margin, normalize=False),
        enumerate_triplets(inputs, margin, "euclidean", False),
        1e-6,
    )


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=case_id)
def test_dtypes(dtype: torch.dtype, backend: Backend, generator: torch.Generator) -> None:
    """fp32 may decide otherwise only about the few triplets whose decision is closer than its rounding."""
    inputs = make_inputs("two-set", 120, 150, 40, dtype, generator)
    found, expected = run(inputs, backend), enumerate_triplets(inputs, 0.2, "euclidean", True)
    assert found.triplets == expected.triplets
    for actual, wanted in zip(found[1:4], expected[1:4], strict=True):
        assert abs(actual - wanted) <= 2e-5 * expected.triplets
    assert found[4:] == pytest.approx(expected[4:], rel=2e-5)


def test_the_active_share_is_that_of_the_loss(backend: Backend, generator: torch.Generator) -> None:
    inputs = make_inputs("self", 80, 0, 9, torch.float32, generator).to(backend.device)
    stats = run(inputs, backend, margin=0.4)
    sums, means = (
        fused_rank.TripletMarginLoss(0.4, mining="all", reduction=reduction)(inputs.embeddings, inputs.labels)
        for reduction in ("sum", "mean_active")
    )
    assert float(sums / means) / stats.triplets == pytest.approx(stats.active, rel=1e-5)


@pytest.mark.parametrize("labels", [[0, 1, 2], [4, 4, 4], [7]], ids=str)
def test_no_triplets(labels: list[int], backend: Backend) -> None:
    x = torch.randn(len(labels), 3, device=backend.device)
    stats = mining.triplet_stats(x, torch.tensor(labels, device=backend.device))
    assert stats[:4] == (0, 0, 0, 0)
    assert math.isnan(stats.active)
    assert math.isnan(stats.positive_distance) == (len(set(labels)) == len(labels))


@pytest.mark.parametrize("side", ["embeddings", "gallery"])
def test_rows_that_are_not_finite_are_refused(
    side: str, backend: Backend, generator: torch.Generator
) -> None:
    inputs = make_inputs("two-set", 40, 50, 6, torch.float32, generator)
    getattr(inputs, side)[3, 1] = torch.nan
    with pytest.raises(ValueError, match="embeddings: expected finite rows on both sides"):
        run(inputs, backend)


def test_same_counts_in_any_number_of_threads(backend: Backend, generator: torch.Generator) -> None:
    if backend.name != "cpp":
        pytest.skip("threads are the engine's")
    before = torch.get_num_threads()
    for per_class in (4, 200):
        inputs = make_inputs("self", 900, 0, 16, torch.float32, generator, per_class)
        results = []
        try:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                results.append(run(inputs, backend))
        finally:
            torch.set_num_threads(before)
        assert results[0] == results[1] == results[2]


def test_wrong_margin_is_named() -> None:
    with pytest.raises(ValueError, match="margin: expected a finite number >= 0"):
        mining.triplet_stats(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), margin=-0.1)
