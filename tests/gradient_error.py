"""How a gradient is wrong: allclose hides small systematic errors, these four numbers don't."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .tolerances import Tolerance


@dataclass(frozen=True)
class GradientError:
    relative_l2: float  # |g − e| / |e|
    cosine: float  # 1 − cos(g, e): a turned direction
    bias: float  # Σ (g − e)·sign(e) / Σ |e|: a systematic shrinking (< 0) or growing (> 0)
    failing: float  # share of elements off by more than `element` · (|e| + rms(e))


def gradient_error(actual: Tensor, expected: Tensor, element: float = 1e-4) -> GradientError:
    g, e = actual.detach().double().flatten(), expected.detach().double().flatten()
    error = g - e
    length = e.norm()
    if length == 0:
        wrong = float(g.abs().max() > 0) if g.numel() else 0.0
        return GradientError(
            wrong * torch.inf if wrong else 0.0, wrong, wrong * torch.inf if wrong else 0.0, wrong
        )
    cosine = (g @ e / (g.norm() * length)) if g.norm() > 0 else torch.zeros(())
    allowed = element * (e.abs() + e.square().mean().sqrt())
    return GradientError(
        relative_l2=float(error.norm() / length),
        cosine=float(1 - cosine),
        bias=float((error * e.sign()).sum() / e.abs().sum()),
        failing=float((~(error.abs() <= allowed)).double().mean()),  # NaN fails
    )


def assert_gradient_close(
    actual: Tensor | None, expected: Tensor, tolerance: Tolerance, name: str = "gradient"
) -> None:
    """All four numbers within the dtype's tolerance; an expected zero must be a zero."""
    assert actual is not None, f"{name} is missing"
    assert actual.shape == expected.shape, (
        f"{name}: shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    )
    error = gradient_error(actual, expected, tolerance.element)
    bias = (
        tolerance.bias + tolerance.relative_l2 / max(1, expected.numel()) ** 0.5
    )  # rounding averages out as 1/√n
    failures = [
        f"{field} {value:.3g} > {bound:.3g}"
        for field, value, bound in (
            ("relative L2", error.relative_l2, tolerance.relative_l2),
            ("1 - cosine", error.cosine, tolerance.cosine),
            ("|signed bias|", abs(error.bias), bias),
            ("failing share", error.failing, tolerance.failing),
        )
        if not value <= bound
    ]
    assert not failures, f"{name} is wrong: {', '.join(failures)}"


def assert_value_close(actual: Tensor, expected: Tensor, tolerance: Tolerance, name: str = "loss") -> None:
    torch.testing.assert_close(
        actual.detach().double(),
        expected.detach().double(),
        rtol=tolerance.rtol,
        atol=tolerance.atol,
        msg=lambda text: f"{name}: {text}",
    )
