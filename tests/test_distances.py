"""functional.pairwise_distance and paired_distance: differentiable, and right where torch.cdist is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fused_rank import functional

from .checks import relaxed
from .conftest import Backend
from .gradient_error import assert_gradient_close, assert_value_close
from .inputs import make_inputs
from .losses import case_id
from .oracle import distances, from_squares, unit
from .tolerances import TOLERANCES

metrics = pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine"])
dtypes = pytest.mark.parametrize("dtype", list(TOLERANCES), ids=case_id)


@metrics
@dtypes
@pytest.mark.parametrize("shape", [(1, 1), (65, 129), (130, 64)], ids=str)
def test_pairwise(
    shape: tuple[int, int], dtype: torch.dtype, metric: str, backend: Backend, generator: torch.Generator
) -> None:
    inputs = make_inputs("two-set", *shape, 17, dtype, generator)
    ours, truth = inputs.to(backend.device).leaves(), inputs.oracle()
    value = functional.pairwise_distance(*ours.tensors, metric=metric)
    expected = distances(*truth.tensors, metric)
    assert_value_close(value.cpu(), expected, TOLERANCES[dtype])
    upstream = torch.randn(shape, generator=generator, dtype=torch.float64)
    value.backward(upstream.to(value))
    expected.backward(upstream.to(value.dtype).double())
    for leaf, exact in zip(ours.tensors, truth.tensors, strict=True):
        assert leaf.grad is not None
        assert exact.grad is not None
        assert leaf.grad.dtype == dtype
        assert_gradient_close(leaf.grad.cpu(), exact.grad, TOLERANCES[dtype])


@metrics
@dtypes
def test_pairwise_with_itself(
    dtype: torch.dtype, metric: str, backend: Backend, generator: torch.Generator
) -> None:
    inputs = make_inputs("self", 70, 0, 6, dtype, generator)
    ours, truth = inputs.to(backend.device).leaves(), inputs.oracle()
    value = functional.pairwise_distance(ours.embeddings, metric=metric)
    assert not value.diagonal().any()
    expected = distances(truth.embeddings, truth.embeddings, metric)
    assert_value_close(value.cpu(), expected, TOLERANCES[dtype])
    upstream = torch.randn(70, 70, generator=generator, dtype=torch.float64)
    value.backward(upstream.to(value))
    expected.backward(upstream)
    assert truth.embeddings.grad is not None
    assert_gradient_close(ours.embeddings.grad, truth.embeddings.grad, TOLERANCES[dtype])


@metrics
def test_pairwise_with_itself_is_symmetric_to_the_bit(
    metric: str, backend: Backend, generator: torch.Generator
) -> None:
    """Also over several blocks of rows, whose products a library may round otherwise."""
    x = torch.randn(1500, 19, generator=generator)
    own = functional.pairwise_distance(x.to(backend.device), metric=metric).cpu()
    assert torch.equal(own, own.t())
    assert not own.diagonal().any()
    rows = torch.tensor([0, 340, 700, 1499])
    assert_value_close(own[rows], distances(x[rows].double(), x.double(), metric), TOLERANCES[torch.float32])


@pytest.mark.parametrize("function", [functional.pairwise_distance, functional.paired_distance])
@pytest.mark.parametrize("apart", [1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("norm", [1.0, 100.0])
def test_near_duplicates(
    norm: float, apart: float, function: object, backend: Backend, generator: torch.Generator
) -> None:
    """torch.cdist gives 0 for a true 0.0004, or the reverse."""
    x = torch.randn(90, 24, generator=generator, dtype=torch.float64) * norm / 24**0.5
    y = x + apart * torch.randn(90, 24, generator=generator, dtype=torch.float64)
    leaves = [t.float().to(backend.device).requires_grad_() for t in (x, y)]
    truth = [t.detach().cpu().double().requires_grad_() for t in leaves]
    pairwise = function is functional.pairwise_distance
    value = function(*leaves)  # type: ignore[operator]
    expected = distances(*truth) if pairwise else distances(*truth).diagonal()
    torch.testing.assert_close(value.cpu().double(), expected.detach(), rtol=1e-5, atol=0)
    value.sum().backward()
    expected.sum().backward()
    for leaf, exact in zip(leaves, truth, strict=True):
        assert exact.grad is not None
        assert_gradient_close(leaf.grad, exact.grad, relaxed(TOLERANCES[torch.float32], 2))


@metrics
@pytest.mark.parametrize("pairwise", [True, False])
def test_no_nan_gradient_at_zero(pairwise: bool, metric: str, backend: Backend) -> None:
    x = torch.tensor([[1.0, 2.0], [1.0, 2.0], [0.0, 0.0]], device=backend.device).requires_grad_()
    y = x.detach().clone().requires_grad_()
    function = functional.pairwise_distance if pairwise else functional.paired_distance
    function(x, y, metric=metric).sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    assert x.grad.isfinite().all()
    assert y.grad.isfinite().all()


@metrics
@pytest.mark.parametrize("pairwise", [True, False])
def test_gradcheck(pairwise: bool, metric: str, backend: Backend, generator: torch.Generator) -> None:
    inputs = make_inputs("plain", 7, 7, 4, torch.float64, generator).to(backend.device).leaves()
    function = functional.pairwise_distance if pairwise else functional.paired_distance
    assert torch.autograd.gradcheck(lambda x, y: function(x, y, metric=metric), inputs.tensors, atol=1e-6)


@metrics
@dtypes
def test_paired(dtype: torch.dtype, metric: str, backend: Backend, generator: torch.Generator) -> None:
    inputs = make_inputs("plain", 100, 100, 33, dtype, generator)
    ours, truth = inputs.to(backend.device).leaves(), inputs.oracle()
    value = functional.paired_distance(*ours.tensors, metric=metric)
    x, y = (unit(t) if metric == "cosine" else t for t in truth.tensors)
    expected: Tensor = from_squares((x - y).square().sum(1), metric)
    assert_value_close(value.cpu(), expected, TOLERANCES[dtype])
    value.sum().backward()
    expected.sum().backward()
    for leaf, exact in zip(ours.tensors, truth.tensors, strict=True):
        assert exact.grad is not None
        assert_gradient_close(leaf.grad, exact.grad, TOLERANCES[dtype])
