"""The gradient of pair losses from several strips, of the whole matrix or of its upper triangle."""

from __future__ import annotations

import pytest
import torch

from fused_rank import ContrastiveLoss, RankedListLoss, use_backend

from ..conftest import Backend
from ..gradient_error import gradient_error
from ..losses import case_id

ROWS = {torch.float32: 300, torch.float64: 150}  # more than two tiles
ALLOWED = {torch.float32: 1e-5, torch.float64: 1e-10}


@pytest.mark.parametrize("backend", ["cuda"], indirect=True)
@pytest.mark.parametrize("triangle", [True, False], ids=["triangle", "whole"])
@pytest.mark.parametrize("noise", [1.0, 1e-3], ids=["spread out", "clusters"])
@pytest.mark.parametrize("dtype", ROWS, ids=case_id)
@pytest.mark.parametrize(
    "loss", [ContrastiveLoss(), RankedListLoss(gradient="exact")], ids=["contrastive", "ranked_list"]
)
def test_several_strips(
    loss: torch.nn.Module,
    dtype: torch.dtype,
    noise: float,
    triangle: bool,
    backend: Backend,
    generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fused_rank.cuda.strips._ELEMENTS", 1)
    monkeypatch.setattr("fused_rank.cuda.gradient.triangle_pays", lambda packed: triangle)
    rows = ROWS[dtype]
    centres = torch.randn(3, 12, generator=generator, dtype=torch.float64)[torch.arange(rows) % 3]
    x = (centres + noise * torch.randn(rows, 12, generator=generator, dtype=torch.float64)).to(dtype)
    labels = torch.randint(9, (rows,), generator=generator)
    ours = x.to(backend.device, copy=True).requires_grad_()
    exact = x.double().requires_grad_()
    loss(ours, labels.to(backend.device)).backward()
    with use_backend("eager"):
        loss(exact, labels).backward()
    assert ours.grad is not None
    assert exact.grad is not None
    assert gradient_error(ours.grad.cpu(), exact.grad).relative_l2 < ALLOWED[dtype]
