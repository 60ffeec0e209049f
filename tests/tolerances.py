"""The one tolerance table: against the fp64 oracle of the same (already rounded) inputs, per input dtype."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Tolerance:
    rtol: float  # loss values
    atol: float
    relative_l2: float  # gradients, see gradient_error.py
    cosine: float
    bias: float
    element: float
    failing: float
    gap: float  # decisions closer than this may fall either way (oracle.Rows.gap)


# Products and sums are fp32 for all but fp64, so losses agree alike; 16-bit gradients are rounded once.
TOLERANCES = {
    torch.float64: Tolerance(1e-11, 1e-13, 1e-11, 1e-14, 1e-11, 1e-9, 0.0, 1e-10),
    torch.float32: Tolerance(1e-5, 1e-6, 1e-5, 1e-9, 5e-6, 1e-4, 0.002, 2e-5),
    torch.bfloat16: Tolerance(1e-5, 1e-6, 3e-3, 1e-5, 1e-3, 8e-3, 0.005, 2e-5),
    torch.float16: Tolerance(1e-5, 1e-6, 6e-4, 1e-6, 2e-4, 1e-3, 0.005, 2e-5),
}

# What a low-precision loss may add to the error that plain eager PyTorch makes in that precision.
BUDGET = 1e-3
