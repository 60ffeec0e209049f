"""diagnostics.embedding_health against its definitions over all pairs, and its warnings."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from fused_rank import TripletMarginLoss
from fused_rank.diagnostics import CollapseWarning, EmbeddingHealth, embedding_health

from .conftest import Backend
from .inputs import make_inputs
from .losses import case_id
from .oracle import distances, unit
from .tolerances import TOLERANCES

METRICS = [("euclidean", True), ("euclidean", False), ("sqeuclidean", False), ("cosine", True)]


def dtype_on(backend: Backend) -> torch.dtype:
    return torch.float32 if backend.name == "triton" else torch.float64


def run(x: Tensor, labels: Tensor, backend: Backend, **options: Any) -> EmbeddingHealth:
    return embedding_health(x.to(backend.device), labels.to(backend.device), warn=False, **options)


@pytest.mark.parametrize("metric", METRICS, ids=str)
@pytest.mark.parametrize("rows", [2, 65, 300])
@pytest.mark.parametrize("per_class", [4, 90])
def test_definitions(
    per_class: int, rows: int, metric: tuple[str, bool], backend: Backend, generator: torch.Generator
) -> None:
    inputs = make_inputs("self", rows, 0, 7, dtype_on(backend), generator, per_class)
    labels = inputs.labels
    assert labels is not None
    found = run(inputs.embeddings, labels, backend, near=0.61, bins=20, metric=metric[0], normalize=metric[1])
    x = inputs.embeddings.double()
    compared = unit(x) if metric[1] else x
    d = distances(x, x, *metric)
    upper = torch.triu(torch.ones(rows, rows, dtype=torch.bool), 1)
    same = labels[:, None] == labels
    for members, counts, share in (
        (same & upper, found.positive, found.near_positive),
        (~same & upper, found.negative, found.near_negative),
    ):
        place = torch.bucketize(d[members], found.edges[1:]).clamp(max=19)
        assert counts.sum() == members.sum()
        assert torch.equal(counts, torch.bincount(place, minlength=20)) or backend.name == "triton"
        assert (counts - torch.bincount(place, minlength=20)).abs().sum() <= 2
        expected = float((d[members] <= 0.61).double().mean())
        assert share == pytest.approx(expected, abs=1e-4, nan_ok=True)
    centred = compared - compared.mean(0)
    assert found.spread == pytest.approx(
        float((centred.square().sum() / compared.square().sum()).sqrt()), rel=1e-6
    )
    singular = torch.linalg.svdvals(centred).square()
    share_of = singular / singular.sum()
    assert found.effective_rank == pytest.approx(float(torch.special.entr(share_of).sum().exp()), rel=1e-6)
    norms = x.norm(dim=1)
    assert found.norms == pytest.approx(
        (float(norms.mean()), float(norms.std(correction=0)), float(norms.min()), float(norms.max())),
        rel=1e-6,
    )
    assert found.edges[0] == 0
    assert found.edges[-1] >= d.max() - 1e-6
    assert found.not_finite == 0


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=case_id)
def test_dtypes(dtype: torch.dtype, backend: Backend, generator: torch.Generator) -> None:
    inputs = make_inputs("self", 120, 0, 30, dtype, generator)
    assert inputs.labels is not None
    found = run(inputs.embeddings, inputs.labels, backend)
    assert int(found.positive.sum() + found.negative.sum()) == 120 * 119 // 2
    assert found.problems == ()
    if backend.name != "triton":  # which has no fp64 to compare with
        exact = run(inputs.embeddings.double(), inputs.labels, backend)
        assert found.effective_rank == pytest.approx(exact.effective_rank, rel=1e-5)
        assert (found.negative - exact.negative).abs().sum() <= 6


@pytest.mark.parametrize("near", [0.0, 0.04, 0.05, 1.0, 5.0])
def test_near_counts_its_edge(near: float, backend: Backend) -> None:
    """0.04 is an edge of the default bins, 5 is beyond all of them."""
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], device=backend.device)
    found = run(x, torch.tensor([0, 1, 2, 3]), backend, near=near)
    pairs = torch.tensor([0.0, 2**0.5, 2**0.5, 2.0, 2.0, 2**0.5])
    assert found.near_negative == pytest.approx(float((pairs <= near).double().mean()))
    assert math.isnan(found.near_positive)
    assert found.negative.tolist() == [1] + [0] * 34 + [3] + [0] * 13 + [2]


def test_a_healthy_batch_has_no_problems(backend: Backend, generator: torch.Generator) -> None:
    inputs = make_inputs("self", 100, 0, 16, torch.float32, generator)
    assert inputs.labels is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        embedding_health(inputs.embeddings.to(backend.device), inputs.labels.to(backend.device))


@pytest.mark.parametrize(
    ("make", "messages"),
    [
        (lambda x: 1 + 1e-3 * x, ["negative pairs are at most 0.05 apart", "differ from their mean by"]),
        (lambda x: 3 + 0.05 * x, ["differ from their mean by"]),
        (
            lambda x: x[:, :1] * torch.ones(1, 16),
            ["span 1.0 dimensions where their classes have room for 16"],
        ),
        (lambda x: x.masked_fill(x > 2.5, torch.nan), ["rows are not finite"]),
    ],
    ids=["one point", "one direction", "one line", "not finite"],
)
def test_collapse_is_told(make: Any, messages: list[str], backend: Backend) -> None:
    x = make(torch.randn(200, 16, generator=torch.Generator().manual_seed(0)))
    labels = torch.arange(200) // 4
    with pytest.warns(CollapseWarning) as caught:
        found = embedding_health(x.to(backend.device), labels.to(backend.device))
    assert [str(w.message) for w in caught] == list(found.problems)
    for message in messages:
        assert any(message in problem for problem in found.problems), found.problems


def test_hard_mining_at_too_high_a_rate_is_seen_to_collapse() -> None:
    torch.manual_seed(0)
    labels = torch.arange(64) // 4
    features = torch.randn(64, 20)
    for rate, expected in ((0.0, False), (1.0, True)):
        encoder = torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.ReLU(), torch.nn.Linear(32, 16))
        optimizer = torch.optim.SGD(encoder.parameters(), rate)
        for _ in range(60):
            optimizer.zero_grad()
            TripletMarginLoss(1.0, mining="hard", normalize=False, metric="sqeuclidean")(
                encoder(features), labels
            ).backward()
            optimizer.step()
        with torch.no_grad():
            found = embedding_health(encoder(features), labels, normalize=False, warn=False)
        assert bool(found.problems) == expected, (rate, found.problems)


@pytest.mark.parametrize("rows", [1, 2])
def test_few_rows(rows: int, backend: Backend) -> None:
    found = run(torch.randn(rows, 3), torch.zeros(rows, dtype=torch.int64), backend)
    assert int(found.positive.sum()) == rows - 1
    assert math.isnan(found.near_negative)
    if rows == 1:
        assert found.problems == ()


def test_rows_that_are_not_finite_are_left_out(backend: Backend, generator: torch.Generator) -> None:
    inputs = make_inputs("self", 50, 0, 6, torch.float32, generator)
    assert inputs.labels is not None
    x = inputs.embeddings.clone()
    x[4, 1], x[9, 0] = torch.nan, torch.inf
    keep = [i for i in range(50) if i not in (4, 9)]
    found = run(x, inputs.labels, backend)
    without = run(x[keep], inputs.labels[keep], backend)
    assert found.not_finite == 2
    assert torch.equal(found.negative, without.negative)
    assert found.effective_rank == without.effective_rank
    none = run(x * torch.nan, inputs.labels, backend)
    assert none.not_finite == 50
    assert math.isnan(none.effective_rank)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"near": -1}, "near: expected a finite number >= 0"),
        ({"bins": 0}, "bins: expected an integer >= 1"),
        ({"metric": "dot"}, "metric: expected one of"),
        ({"warn": 1}, "warn: expected True or False"),
        ({"labels": None}, "labels: expected a torch.Tensor of integers"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(options: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"embeddings": torch.zeros(4, 3), "labels": torch.zeros(4).long()} | options
    with pytest.raises((ValueError, TypeError), match=message):
        embedding_health(**given)
