"""gradcheck in fp64 through the real backends, where the gradient is the derivative of the value."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from .conftest import Backend
from .inputs import Inputs, make_inputs
from .losses import CONTRASTIVE, INFO_NCE, RANKED_LIST, SUP_CON, TRIPLET, Loss, Options, case_id

FLAT = {"temperature_neg": 0.0, "temperature_pos": 0.0}  # weights are constants then, detached or not

DERIVATIVES: list[tuple[Loss, Options]] = [
    (RANKED_LIST, {"gradient": "exact"}),
    (RANKED_LIST, {"gradient": "exact", "temperature_pos": 4.0, "eps": 0.1}),
    (RANKED_LIST, {"gradient": "exact", "temperature_pos": 4.0, "positive_mean": "all"}),
    (RANKED_LIST, {"gradient": "exact", "temperature_neg": 150.0, "temperature_pos": 100.0}),
    (RANKED_LIST, {"gradient": "both", **FLAT}),
    (CONTRASTIVE, {"neg_margin": 1.3}),
    (CONTRASTIVE, {"power": 1, "pos_margin": 0.3, "neg_margin": 1.3}),
    *((TRIPLET, {"mining": mining}) for mining in ("semihard", "hard", "all", "semihard_all")),
    *(
        (TRIPLET, {"mining": mining, "soft_margin": True})
        for mining in ("semihard", "hard", "all", "semihard_all")
    ),
    (SUP_CON, {}),
    (SUP_CON, {"temperature": 0.01}),
    (INFO_NCE, {"symmetric": True}),
    (INFO_NCE, {"symmetric": True, "temperature": 0.01}),
]
STEP = 1e-6


def check(loss: Loss, options: Options, inputs: Inputs, needs: tuple[bool, bool] = (True, True)) -> None:
    truth = loss.oracle(inputs.oracle(), **options)
    clear = truth.gap > 100 * STEP
    assert clear.any(), "nothing can be checked"
    leaves = inputs.leaves(torch.float64, needs)

    def value(*tensors: Tensor) -> Tensor:
        gallery = tensors[1] if len(tensors) > 1 else None
        loss_inputs = Inputs(tensors[0], inputs.labels, gallery, inputs.gallery_labels)
        return loss(loss_inputs, **options, reduction="none")[clear.to(tensors[0].device)]

    assert torch.autograd.gradcheck(value, leaves.tensors, eps=STEP, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine"])
@pytest.mark.parametrize("form", ["self", "two-set", "plain"])
@pytest.mark.parametrize("case", DERIVATIVES, ids=case_id)
def test_gradient_is_the_derivative(
    case: tuple[Loss, Options], form: str, metric: str, backend: Backend, generator: torch.Generator
) -> None:
    loss, options = case
    inputs = make_inputs(form, 9, 7, 5, torch.float64, generator, per_class=3).to(backend.device)
    check(loss, {**options, **loss.geometry(metric=metric, normalize=metric != "sqeuclidean")}, inputs)


@pytest.mark.parametrize("options", [FLAT, {**FLAT, "positive_mean": "all", "eps": 0.1}], ids=case_id)
def test_query_gradient_with_a_constant_gallery(
    options: Options, backend: Backend, generator: torch.Generator
) -> None:
    inputs = make_inputs("two-set", 9, 12, 5, torch.float64, generator).to(backend.device)
    check(RANKED_LIST, {**options, "gradient": "query"}, inputs, needs=(True, False))


def test_gradcheck_can_fail(backend: Backend, generator: torch.Generator) -> None:
    """The default ranked list gradient is not the derivative (its weights are constants)."""
    inputs = make_inputs("two-set", 9, 12, 5, torch.float64, generator).to(backend.device)
    with pytest.raises(GradcheckError):
        check(RANKED_LIST, {"gradient": "query"}, inputs, needs=(True, False))
