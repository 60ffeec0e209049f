"""Each subset of the inputs that can require grad: the others cost nothing and get none."""

from __future__ import annotations

import pytest
import torch

from .conftest import Backend
from .gradient_error import assert_gradient_close
from .inputs import make_inputs
from .losses import MAIN_CASES, RANKED_LIST, Loss, Options, case_id, moves_gallery
from .tolerances import TOLERANCES


@pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True), (False, False)], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("case", MAIN_CASES, ids=case_id)
def test_each_subset(
    case: tuple[Loss, Options],
    reduction: str,
    needs: tuple[bool, bool],
    backend: Backend,
    generator: torch.Generator,
) -> None:
    loss, options = case
    if needs[1] and not moves_gallery(options, loss):
        pytest.skip("the query gradient has a constant gallery")
    inputs = make_inputs("two-set", 30, 41, 7, torch.float64, generator)
    truth, ours = inputs.oracle(), inputs.to(backend.device).leaves(needs=needs)
    value = loss(ours, **options, reduction=reduction)
    assert value.requires_grad == any(needs)
    if not any(needs):
        return
    expected = loss.oracle(truth, **options).reduce(reduction)
    upstream = torch.rand(expected.shape, generator=generator, dtype=torch.float64)
    value.backward(upstream.to(value))
    expected.backward(upstream)
    for leaf, exact, needed in zip(ours.tensors, truth.tensors, needs, strict=True):
        if needed:
            assert leaf.grad is not None
            assert_gradient_close(leaf.grad.cpu(), exact.grad, TOLERANCES[torch.float64])
        else:
            assert leaf.grad is None


def test_query_gradient_refuses_a_gallery_that_requires_grad(
    backend: Backend, generator: torch.Generator
) -> None:
    inputs = make_inputs("two-set", 8, 8, 4, torch.float32, generator).to(backend.device).leaves()
    with pytest.raises(ValueError, match=r"gallery.*(both.*detach|detach.*both)"):
        RANKED_LIST(inputs)


def test_gradients_reach_the_leaves_of_a_longer_graph(backend: Backend, generator: torch.Generator) -> None:
    """The loss in the middle of a model, its result used twice."""
    inputs = make_inputs("self", 20, 0, 6, torch.float64, generator).to(backend.device)
    weight = torch.randn(6, 4, generator=generator, dtype=torch.float64).to(backend.device).requires_grad_()
    mapped = make_inputs("self", 20, 0, 6, torch.float64, generator)

    def through(weight: torch.Tensor) -> torch.Tensor:
        mapped.embeddings, mapped.labels = (inputs.embeddings @ weight).tanh(), inputs.labels
        value = RANKED_LIST(mapped, gradient="exact")
        return value * 2 + value.square()

    assert torch.autograd.gradcheck(through, weight, eps=1e-7, atol=1e-5)
