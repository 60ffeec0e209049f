"""retrieval.topk against exhaustive search."""

from __future__ import annotations

import pytest
import torch

from fused_rank import retrieval

from . import brute
from .conftest import Backend
from .inputs import make_inputs
from .losses import case_id
from .oracle import distances, unit
from .tolerances import TOLERANCES

METRICS = ["euclidean", "sqeuclidean", "cosine", "dot"]
SHAPES = [(1, 1, 1), (2, 5, 5), (63, 65, 3), (129, 300, 64), (40, 513, 130), (257, 128, 128)]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("normalize", [False, True], ids=["raw", "unit"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_two_sets(
    shape: tuple[int, int, int], normalize: bool, metric: str, backend: Backend, generator: torch.Generator
) -> None:
    m, n, k = shape
    inputs = make_inputs("two-set", m, n, 15, torch.float64, generator)
    values, indices = retrieval.topk(
        *inputs.to(backend.device).tensors, k, metric=metric, normalize=normalize
    )
    x, y = (unit(t) if normalize else t for t in inputs.tensors)
    expected = -x @ y.t() if metric == "dot" else distances(x, y, metric)
    assert indices.dtype == torch.int64
    assert values.shape == indices.shape == (m, k)
    assert indices.tolist() == brute.topk(expected, k)
    wanted = expected.gather(1, indices.cpu()) * (-1 if metric == "dot" else 1)
    torch.testing.assert_close(values.cpu(), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("k", [1, 10, 129])
@pytest.mark.parametrize("metric", METRICS)
def test_without_itself(metric: str, k: int, backend: Backend, generator: torch.Generator) -> None:
    x = make_inputs("self", 130, 0, 9, torch.float64, generator).embeddings
    ours = x.to(backend.device)
    _, indices = retrieval.topk(ours, ours, k, metric=metric, exclude_self=True, normalize=False)
    expected = -x @ x.t() if metric == "dot" else distances(x, x, metric)
    assert indices.tolist() == brute.topk(expected, k, exclude_self=True)


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=case_id)
@pytest.mark.parametrize("metric", METRICS)
def test_dtypes(metric: str, dtype: torch.dtype, backend: Backend, generator: torch.Generator) -> None:
    inputs = make_inputs("two-set", 60, 150, 40, dtype, generator)
    values, indices = retrieval.topk(*inputs.to(backend.device).tensors, 20, metric=metric, normalize=False)
    x, y = (t.double() for t in inputs.tensors)
    expected = -x @ y.t() if metric == "dot" else distances(x, y, metric)
    best = expected.sort(1).values[:, :20]
    sign = -1 if metric == "dot" else 1
    for found in (values.cpu().double() * sign, expected.gather(1, indices.cpu())):
        torch.testing.assert_close(found, best, rtol=1e-5, atol=1e-5)
    assert values.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_close_vectors_have_the_right_neighbours(backend: Backend, generator: torch.Generator) -> None:
    """A tight cluster far from the origin, where |x|² + |y|² − 2x·y knows no neighbours at all."""
    x = (100 + 1e-3 * torch.randn(200, 12, generator=generator)).float()
    ours = x.to(backend.device)
    values, indices = retrieval.topk(ours, ours, 5, exclude_self=True, normalize=False)
    d = distances(x.double(), x.double())
    d.fill_diagonal_(torch.inf)
    torch.testing.assert_close(d.gather(1, indices.cpu()), d.sort(1).values[:, :5], rtol=1e-5, atol=0)
    torch.testing.assert_close(values.cpu().double(), d.sort(1).values[:, :5], rtol=1e-5, atol=0)


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine"])
@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=case_id)
def test_a_row_and_its_copies_come_first_at_distance_zero(
    metric: str, dtype: torch.dtype, backend: Backend, generator: torch.Generator
) -> None:
    rows = torch.randn(90, 40, generator=generator).to(dtype)
    x = rows.repeat(2, 1).to(backend.device)
    values, indices = retrieval.topk(x, x, 3, metric=metric)
    first = torch.arange(90).repeat(2)
    assert torch.equal(indices[:, :2].cpu(), torch.stack([first, first + 90], 1))
    assert not values[:, :2].any()
    assert (values[:, 2] > 0).all()
