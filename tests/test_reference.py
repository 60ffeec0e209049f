"""fused_rank.reference, which benchmarks and documentation lean on, against the tests' own oracle."""

from __future__ import annotations

import pytest
import torch

from .gradient_error import assert_gradient_close, assert_value_close
from .inputs import make_inputs
from .losses import LOSSES, Loss, case_id, moves_gallery, options_id
from .pairwise import Combo, pairwise
from .tolerances import TOLERANCES

DOUBLE = TOLERANCES[torch.float64]
CASES = [
    (loss, combo)
    for loss in LOSSES
    for combo in pairwise(
        {
            "options": loss.options,
            "reduction": ["none", "mean", "mean_active", "sum"],
            "form": loss.forms,
            "geometry": loss.geometries,
        }
    )
]


def name(case: tuple[Loss, Combo]) -> str:
    loss, combo = case
    return f"{loss}-{options_id(combo['options'])}-{combo['reduction']}-{combo['form']}-{combo['geometry']['metric']}"


@pytest.mark.parametrize("case", CASES, ids=name)
def test_value_and_gradient(case: tuple[Loss, Combo], generator: torch.Generator) -> None:
    loss, combo = case
    options = {**combo["options"], **loss.geometry(**combo["geometry"])}
    inputs = make_inputs(combo["form"], 45, 30, 9, torch.float64, generator)
    truth, ours = inputs.oracle(), inputs.leaves(needs=(True, moves_gallery(options, loss)))
    expected = loss.oracle(truth, **options).reduce(combo["reduction"])
    value = loss.eager(ours, **options, reduction=combo["reduction"])
    assert_value_close(value, expected, DOUBLE)
    upstream = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    value.backward(upstream)
    expected.backward(upstream)
    for leaf, exact in zip(ours.tensors, truth.tensors, strict=True):
        if leaf.requires_grad:
            assert exact.grad is not None
            assert_gradient_close(leaf.grad, exact.grad, DOUBLE)


@pytest.mark.parametrize("loss", LOSSES, ids=case_id)
def test_another_pairwise_function(loss: Loss, generator: torch.Generator) -> None:
    """`pairwise` replaces the distance matrix."""
    inputs = make_inputs("two-set", 20, 30, 9, torch.float64, generator)
    metrics: list[str] = []

    def everything_at_one(x: torch.Tensor, y: torch.Tensor, metric: str) -> torch.Tensor:
        metrics.append(metric)
        return torch.ones(len(x), len(y), dtype=x.dtype)

    asked = loss.geometries[-1]
    options = loss.geometry(**asked)
    value = loss.eager(inputs, pairwise=everything_at_one, **options, reduction="sum")
    assert metrics == [asked["metric"]]
    assert not torch.allclose(value, loss.eager(inputs, **options, reduction="sum"))
