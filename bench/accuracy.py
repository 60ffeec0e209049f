"""Errors of a contender's value and gradient against the chunked eager path in fp64."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .cases import Case
from .implementations import Training, training


@dataclass(frozen=True)
class Errors:
    value: float  # |v - v₆₄| / |v₆₄|
    gradient: float  # ‖g - g₆₄‖ / ‖g₆₄‖


def oracle(case: Case) -> Training:
    """The case in fp64, run once: O(chunk·B) memory, so that any case that can be timed can be checked."""
    step = training("chunked", case, torch.float64)
    step()
    return step


def errors(measured: Training, exact: Training) -> Errors:
    return Errors(relative(measured.value, exact.value), relative(measured.gradient, exact.gradient))


def relative(measured: Tensor, exact: Tensor) -> float:
    """‖measured - exact‖ / ‖exact‖ in fp64; absolute where the exact one is zero."""
    exact = exact.double()
    scale = exact.norm()
    difference = (measured.double() - exact).norm()
    return float(difference / scale if scale > 0 else difference)
