"""The check most tests make: a loss and its gradients against the oracle, within the error budget."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from .gradient_error import assert_gradient_close, assert_value_close, gradient_error
from .inputs import Inputs
from .losses import Loss, Options, moves_gallery
from .tolerances import BUDGET, TOLERANCES, Tolerance


def check_against_oracle(
    loss: Loss,
    options: Options,
    inputs: Inputs,
    upstream: Tensor,
    device: str,
    tolerance: Tolerance | None = None,
    decided: float = 0.5,
) -> None:
    """Per-query losses and gradients; at least the share `decided` of the queries must be clearly decided."""
    dtype = inputs.embeddings.dtype
    tolerance = tolerance or TOLERANCES[dtype]
    truth = inputs.oracle()
    rows = loss.oracle(truth, **options)
    clear = rows.gap > tolerance.gap
    assert clear.double().mean() >= decided, (
        f"only {int(clear.sum())} of {len(clear)} queries can be compared"
    )
    upstream = torch.where(clear, upstream, 0)
    expected = rows.reduce("none")
    expected.backward(upstream)

    needs = (True, moves_gallery(options, loss))
    ours = inputs.to(device).leaves(needs=needs)
    value = loss(ours, **options, reduction="none")
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    value.backward(upstream.to(value))
    assert_value_close(value.cpu()[clear], expected[clear], tolerance)

    budget = None
    if dtype in (torch.bfloat16, torch.float16):
        budget = inputs.leaves(needs=needs)
        eager = loss.eager(budget, **options, reduction="none")
        eager.backward(upstream.to(eager))
    for name in ("embeddings", "gallery"):
        actual, exact = getattr(ours, name), getattr(truth, name)
        if actual is None or not actual.requires_grad:
            continue
        assert actual.grad is not None
        assert actual.grad.dtype == dtype
        wanted = torch.zeros_like(exact) if exact.grad is None else exact.grad
        assert_gradient_close(actual.grad.cpu(), wanted, tolerance, f"gradient of {name}")
        if budget is not None:
            low = gradient_error(getattr(budget, name).grad, wanted).relative_l2
            assert gradient_error(actual.grad, wanted).relative_l2 <= low + BUDGET


def relaxed(tolerance: Tolerance, factor: float) -> Tolerance:
    """The tolerance of ill-conditioned gradients: directions between points hardly apart in fp32."""
    return replace(
        tolerance,
        relative_l2=tolerance.relative_l2 * factor,
        cosine=tolerance.cosine * factor**2,
        bias=tolerance.bias * factor,
        element=tolerance.element * factor,
    )
