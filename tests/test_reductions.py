"""Every reduction of every loss, as a number and through its gradients."""

from __future__ import annotations

import pytest
import torch

from .conftest import Backend
from .gradient_error import assert_gradient_close, assert_value_close
from .inputs import Inputs, make_inputs
from .losses import CONTRASTIVE, MAIN_CASES, RANKED_LIST, TRIPLET, Loss, Options, case_id, moves_gallery
from .tolerances import TOLERANCES

REDUCTIONS = ["none", "mean", "mean_active", "sum"]
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


def clear_inputs(
    loss: Loss, options: Options, form: str, dtype: torch.dtype, generator: torch.Generator
) -> Inputs:
    """Inputs without any decision that rounding could turn."""
    for _ in range(50):
        inputs = make_inputs(form, 37, 21, 10, dtype, generator)
        if loss.oracle(inputs.oracle(), **options).gap.min() > TOLERANCES[dtype].gap:
            return inputs
    raise AssertionError("no clear inputs found")


@pytest.mark.parametrize("dtype", DTYPES, ids=case_id)
@pytest.mark.parametrize("form", ["self", "two-set", "plain"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("case", MAIN_CASES, ids=case_id)
def test_reduction(
    case: tuple[Loss, Options],
    reduction: str,
    form: str,
    dtype: torch.dtype,
    backend: Backend,
    generator: torch.Generator,
) -> None:
    loss, options = case
    inputs = clear_inputs(loss, options, form, dtype, generator)
    truth, ours = (
        inputs.oracle(),
        inputs.to(backend.device).leaves(needs=(True, moves_gallery(options, loss))),
    )
    expected = loss.oracle(truth, **options).reduce(reduction)
    value = loss(ours, **options, reduction=reduction)
    assert value.shape == expected.shape
    assert_value_close(value.cpu(), expected, TOLERANCES[dtype])

    upstream = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    expected.backward(upstream)
    value.backward(upstream.to(value))
    for leaf, exact in zip(ours.tensors, truth.tensors, strict=True):
        if leaf.requires_grad:
            assert leaf.grad is not None
            assert_gradient_close(leaf.grad.cpu(), exact.grad, TOLERANCES[dtype])


@pytest.mark.parametrize(
    ("loss", "options", "default"),
    [
        (RANKED_LIST, {}, "mean"),
        (CONTRASTIVE, {}, "mean"),
        (TRIPLET, {"mining": "hard"}, "mean"),
        (TRIPLET, {"mining": "semihard"}, "mean"),
        (TRIPLET, {"mining": "all"}, "mean_active"),
        (TRIPLET, {"mining": "semihard_all"}, "mean_active"),
    ],
    ids=case_id,
)
def test_default_reduction(loss: Loss, options: Options, default: str, backend: Backend) -> None:
    """On a circle: a class far from all others, which is not active, and two that overlap."""
    angles = torch.tensor([0.0, 5.0, 180.0, 185.0, 10.0, 40.0], dtype=torch.float64).deg2rad()
    inputs = Inputs(torch.stack([angles.cos(), angles.sin()], 1), torch.tensor([0, 0, 1, 1, 2, 2]))
    inputs = inputs.to(backend.device)
    assert torch.equal(loss(inputs, **options), loss(inputs, **options, reduction=default))
    other = {"mean": "mean_active", "mean_active": "mean"}[default]
    assert not torch.allclose(loss(inputs, **options), loss(inputs, **options, reduction=other))


@pytest.mark.parametrize("positives", [3, 80], ids=["few", "many"])
@pytest.mark.parametrize("mining", ["hard", "semihard", "all"])
def test_a_soft_margin_counts_every_triplet(mining: str, positives: int, backend: Backend) -> None:
    """Also one whose softplus rounds to zero."""
    x = torch.zeros(2 * positives, 2)
    x[positives:, 0] = 500.0
    x[:, 1] = torch.arange(2 * positives) / 100
    inputs = Inputs(x, torch.arange(2 * positives) // positives).to(backend.device)
    options = {"mining": mining, "soft_margin": True, "normalize": False}
    inputs.embeddings[0, 0] = 499.0  # this anchor alone violates
    active, every = (TRIPLET(inputs, **options, reduction=which) for which in ("mean_active", "mean"))
    assert active > 0
    assert torch.equal(active, every)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("case", MAIN_CASES, ids=case_id)
def test_nothing_to_average(case: tuple[Loss, Options], reduction: str, backend: Backend) -> None:
    """One embedding has no pair: the loss is 0 with a zero gradient."""
    loss, options = case
    ours = Inputs(torch.ones(1, 5), torch.tensor([3])).to(backend.device).leaves()
    value = loss(ours, **options, reduction=reduction)
    value.sum().backward()
    assert value.abs().sum() == 0
    assert ours.embeddings.grad is not None
    assert not ours.embeddings.grad.any()
