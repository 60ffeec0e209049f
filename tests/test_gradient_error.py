"""The gradient assertion itself: it must see every kind of wrong gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from .gradient_error import assert_gradient_close, gradient_error
from .tolerances import TOLERANCES

DTYPES = list(TOLERANCES)


@pytest.fixture
def gradient(generator: torch.Generator) -> Tensor:
    return torch.randn(200, 16, generator=generator, dtype=torch.float64)


def one_row_lost(g: Tensor) -> Tensor:
    return g.index_fill(0, torch.tensor([17]), 0)


def one_row_not_a_number(g: Tensor) -> Tensor:
    return g.index_fill(0, torch.tensor([17]), torch.nan)


def turned(g: Tensor) -> Tensor:
    return g + 0.02 * g.roll(1, 1)


WRONG = {
    "sign": torch.neg,
    "one per cent small": lambda g: 0.99 * g,
    "one per cent large": lambda g: 1.01 * g,
    "twice": lambda g: 2 * g,
    "zero": torch.zeros_like,
    "one row lost": one_row_lost,
    "one row NaN": one_row_not_a_number,
    "turned": turned,
    "rows shifted": lambda g: g.roll(1, 0),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("fault", WRONG)
def test_wrong_gradients_are_seen(gradient: Tensor, fault: str, dtype: torch.dtype) -> None:
    with pytest.raises(AssertionError, match="gradient is wrong"):
        assert_gradient_close(WRONG[fault](gradient), gradient, TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rounding_to_the_dtype_is_accepted(gradient: Tensor, dtype: torch.dtype) -> None:
    assert_gradient_close(gradient.to(dtype), gradient, TOLERANCES[dtype])


def test_a_missing_or_misshapen_gradient_fails(gradient: Tensor) -> None:
    tolerance = TOLERANCES[torch.float32]
    with pytest.raises(AssertionError, match="missing"):
        assert_gradient_close(None, gradient, tolerance)
    with pytest.raises(AssertionError, match="shape"):
        assert_gradient_close(gradient[:-1], gradient, tolerance)


def test_an_expected_zero_must_be_zero() -> None:
    zero = torch.zeros(4, 3)
    assert_gradient_close(zero, zero, TOLERANCES[torch.float32])
    with pytest.raises(AssertionError):
        assert_gradient_close(zero + 1e-30, zero, TOLERANCES[torch.float32])


def test_bias_tells_shrinking_from_noise(gradient: Tensor, generator: torch.Generator) -> None:
    noise = 1e-2 * torch.randn(gradient.shape, generator=generator, dtype=torch.float64)
    assert gradient_error(0.99 * gradient, gradient).bias == pytest.approx(-0.01)
    assert abs(gradient_error(gradient + noise, gradient).bias) < 1e-3
