"""Every loss on every backend against the fp64 oracle: per-query losses, gradients of random upstreams.

Options, shapes, dtypes, forms and metrics are crossed pairwise. Queries with a decision closer than rounding
get no upstream gradient: there either answer is right (exact ties have their own tests, in test_ties.py).
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from .checks import check_against_oracle
from .conftest import Backend
from .inputs import make_inputs
from .losses import LOSSES, TRIPLET, Loss, options_id
from .pairwise import Combo, pairwise
from .tolerances import TOLERANCES

SHAPES = [
    (1, 3, 3),
    (2, 5, 1),
    (3, 2, 16),
    (17, 40, 33),
    (63, 64, 16),
    (64, 63, 130),
    (65, 129, 3),
    (127, 65, 33),
    (129, 300, 16),
    (255, 64, 33),
    (256, 257, 16),
    (257, 256, 3),
    (300, 127, 33),
    (513, 65, 16),
    (64, 513, 33),
]


def sensible(loss: Loss, combo: Combo) -> bool:
    """In one dimension unit rows are ±1, all ties, and a triplet's gradients cancel: test_degenerate.py has those."""
    return combo["shape"][2] > 1 or (loss is not TRIPLET and not combo["geometry"]["normalize"])


CASES = [
    (loss, combo)
    for loss in LOSSES
    for combo in pairwise(
        {
            "shape": SHAPES,
            "options": loss.options,
            "dtype": list(TOLERANCES),
            "form": loss.forms,
            "geometry": loss.geometries,
        },
        partial(sensible, loss),
    )
]


def name(case: tuple[Loss, Combo]) -> str:
    loss, combo = case
    m, n, d = combo["shape"]
    metric, normalize = combo["geometry"].values()
    dtype = str(combo["dtype"]).removeprefix("torch.")
    rows = f"{combo['form']}-{m}x{n}x{d}-{metric}{'-unit' * normalize}-{dtype}"
    return f"{loss}-{options_id(combo['options'])}-{rows}"


@pytest.mark.parametrize("case", CASES, ids=name)
def test_losses_and_gradients(case: tuple[Loss, Combo], backend: Backend, generator: torch.Generator) -> None:
    loss, combo = case
    inputs = make_inputs(combo["form"], *combo["shape"], combo["dtype"], generator)
    options = {**combo["options"], **loss.geometry(**combo["geometry"])}
    rows = loss.reported(options, inputs)
    upstream: Tensor = torch.randn(rows, generator=generator, dtype=torch.float64)
    check_against_oracle(loss, options, inputs, upstream, backend.device)
