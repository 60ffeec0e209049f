"""The rows of one side as the caller gave them, read in fp64: normalised, and without those that are not finite."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..gpu.finite import finite_rows


@dataclass(frozen=True, slots=True)
class Rows:
    """All in original order; rows that are not finite are zero."""

    source: Tensor  # [R, D] as it came
    exact: Tensor  # [R, D] fp64, normalised if asked
    inverse_norm: Tensor | None  # [R] fp64, 0 for a zero row; None where rows are not normalised
    finite: Tensor  # bool [R]

    @property
    def size(self) -> int:
        return self.source.shape[0]

    @property
    def width(self) -> int:
        return self.source.shape[1]

    def project(self, grad: Tensor) -> Tensor:
        """From the gradient of the (normalised) rows, fp64 [R, D] in original order, to that of the source.

        Through x̂ = x / |x|: (g − x̂ (x̂ · g)) / |x|, nothing for a zero row.
        """
        if self.inverse_norm is None:
            return grad
        along = (self.exact * grad).sum(1, keepdim=True)
        return self.inverse_norm.unsqueeze(1) * (grad - along * self.exact)


def describe(source: Tensor, unit_rows: bool) -> Rows:
    """Rows [R, D] of any float dtype; divided by their norms if `unit_rows`."""
    exact = source.detach().double()
    finite = exact.isfinite().all(1)
    if not unit_rows:
        finite &= finite_rows((exact * exact).sum(1), source.dtype.itemsize, unit_rows=False)
    exact = exact.masked_fill(~finite.unsqueeze(1), 0)
    if not unit_rows:
        return Rows(source, exact, None, finite)
    scale = _power_near(exact.abs().amax(1)) if source.dtype == torch.float64 else None
    scaled = exact if scale is None else exact * scale.unsqueeze(1)
    square = (scaled * scaled).sum(1)
    inverse = square.rsqrt().masked_fill(square == 0, 0)
    exact = scaled * inverse.unsqueeze(1)
    return Rows(source, exact, inverse if scale is None else inverse * scale, finite)


def _power_near(largest: Tensor) -> Tensor:
    """A power of two that brings `largest` near 1: fp64 rows may be so long or short that squares leave fp64."""
    exponent = torch.frexp(largest).exponent.clamp(-1022, 1022)
    return torch.ldexp(torch.ones_like(largest), -exponent)
