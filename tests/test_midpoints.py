"""The engine's angular loss of every pair, which never lists them, against its definition pair by pair."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import fused_rank
from fused_rank.ops import pair
from fused_rank.ops.pair import PairTerm, pair_rows

from . import oracle
from .conftest import unwritten_memory_is_nan
from .gradient_error import assert_gradient_close, assert_value_close
from .tolerances import TOLERANCES

pytestmark = pytest.mark.skipif(
    fused_rank.backends()["angular_loss"]["cpp"] is not None, reason="the engine is not built"
)

# rows, width, and how rows are shared out: classes across borders of tiles, wider than a strip, wider than what is kept
CLASSES = {
    "pairs": (300, 16, lambda m: torch.arange(m) // 2),
    "threes": (515, 33, lambda m: torch.arange(m) // 3),
    "of all sizes": (700, 7, lambda m: torch.arange(m).mul(1.7).sqrt().long()),
    "wide": (1030, 20, lambda m: torch.arange(m) // 200),
    "two": (600, 3, lambda m: torch.arange(m) % 2),
    "single rows among them": (260, 12, lambda m: torch.arange(m).clamp(min=100)),
}


def by_definition(x: Tensor, labels: Tensor, alpha: float) -> Tensor:
    """[M], fp64: the sum of each anchor's losses, one positive at a time."""
    steep = math.tan(math.radians(alpha)) ** 2
    similarity = oracle.unit(x) @ oracle.unit(x).t()
    same = labels[:, None] == labels
    rows = []
    for anchor in range(len(x)):
        positives = same[anchor].clone()
        positives[anchor] = False
        both = similarity[anchor] + similarity[positives]  # [P, M]
        against = (4 * steep * both).masked_fill(same[anchor], -torch.inf).logsumexp(1)
        rows.append(
            torch.nn.functional.softplus(against - 2 * (1 + steep) * similarity[anchor, positives]).sum()
        )
    return torch.stack(rows)


def loss(x: Tensor, labels: Tensor, alpha: float = 40.0, reduction: str = "mean") -> Tensor:
    with fused_rank.use_backend("cpp"), unwritten_memory_is_nan():
        function = fused_rank.AngularLoss(alpha, pairs="all", reduction=reduction)  # type: ignore[arg-type]
        return function(x, labels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("weighted", [False, True], ids=["sum", "weighted"])
@pytest.mark.parametrize("classes", CLASSES)
def test_equals_definition(
    classes: str, weighted: bool, dtype: torch.dtype, generator: torch.Generator
) -> None:
    rows, width, share = CLASSES[classes]
    labels = share(rows)[torch.randperm(rows, generator=generator)]
    x = torch.randn(rows, width, generator=generator, dtype=dtype, requires_grad=True)
    exact = x.detach().double().requires_grad_()
    pairs = torch.bincount(labels)[labels] - 1
    weights = torch.rand(rows, generator=generator) if weighted else torch.ones(rows)
    if weighted:
        (loss(x, labels, reduction="none") * pairs.clamp(min=1) * weights).sum().backward()
    else:
        loss(x, labels, reduction="sum").backward()
    expected = by_definition(exact, labels, 40.0)
    (expected * weights.double()).sum().backward()
    assert x.grad is not None
    assert exact.grad is not None
    assert_gradient_close(x.grad, exact.grad, TOLERANCES[dtype])
    value = loss(x.detach(), labels, reduction="none") * pairs.clamp(min=1)
    assert_value_close(value, expected.detach(), TOLERANCES[dtype])


@pytest.mark.parametrize("alpha", [5.0, 69.0, 71.0, 88.0])
def test_any_angle(alpha: float, generator: torch.Generator) -> None:
    """Beyond about 70 degrees exponentials need a running maximum, and pairs are listed."""
    x = torch.randn(90, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(90) % 20
    loss(x, labels, alpha, "sum").backward()
    exact = x.detach().clone().requires_grad_()
    by_definition(exact, labels, alpha).sum().backward()
    assert x.grad is not None
    assert exact.grad is not None
    torch.testing.assert_close(x.grad, exact.grad, rtol=1e-9, atol=1e-9 * exact.grad.abs().max().item())


@pytest.mark.parametrize("pairs", ["unique", "all"])
@pytest.mark.parametrize("alpha", [75.0, 89.0, 89.99, 89.9999])
def test_steep_angles_keep_their_gradient(alpha: float, pairs: Any, generator: torch.Generator) -> None:
    """fp32, where a logit of 1e6 that is rounded one way in the peak and another in the weights would be far off."""
    x, labels = torch.randn(512, 64, generator=generator), torch.arange(512) // 4
    leaf, exact = x.clone().requires_grad_(), x.double().requires_grad_()
    with fused_rank.use_backend("cpp"):
        fused_rank.AngularLoss(alpha, pairs)(leaf, labels).backward()
    fused_rank.reference.angular_loss(exact, labels, alpha=alpha, pairs=pairs).backward()
    assert leaf.grad is not None
    assert exact.grad is not None
    assert (leaf.grad - exact.grad).norm() < 2e-4 * exact.grad.norm()


def test_same_bits_with_any_number_of_threads(generator: torch.Generator) -> None:
    """Where a strip ends, and whether it is kept, depends on it; no number may."""
    x = torch.randn(900, 40, generator=generator, requires_grad=True)
    labels = torch.arange(900).mul(3.0).sqrt().long()
    labels[600:] = 1000
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 7, 60):
            torch.set_num_threads(threads)
            value = loss(x, labels)
            found.append((value, *torch.autograd.grad(value, x)))
    finally:
        torch.set_num_threads(before)
    for more in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], more, strict=True))


@pytest.mark.parametrize("labels", [torch.zeros(70), torch.arange(70)], ids=["one class", "no positive"])
def test_without_a_pair(labels: Tensor, generator: torch.Generator) -> None:
    x = torch.randn(70, 5, generator=generator, requires_grad=True)
    for reduction in ("mean", "mean_active", "sum", "none"):
        x.grad = None
        found = loss(x, labels.long(), reduction=reduction)
        found.sum().backward()
        assert not found.any()
        assert x.grad is not None
        assert not x.grad.any()


def test_gradient_is_made_ahead_under_one_upstream_number(
    monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    asked: list[tuple[object, object]] = []
    forward = pair.BACKENDS["cpp"].pair_forward

    def seen(*given: object) -> object:
        asked.append((given[5], given[-2]))
        return forward(*given)

    monkeypatch.setattr(pair.BACKENDS["cpp"], "pair_forward", seen)
    x = torch.randn(12, 4, generator=generator, requires_grad=True)
    labels = torch.arange(12) // 3
    for reduction in ("mean", "mean_active", "sum", "none"):
        loss(x, labels, reduction=reduction).sum().backward()
    loss(x.detach(), labels)
    assert asked == [("midpoints", fused) for fused in ("both", "both", "both", "none", "none")]


@pytest.mark.parametrize(
    ("params", "metric", "normalize"),
    [((31.0, 1.0), "dot", True), ((1.0, 1.0), "dot", False), ((1.0, 1.0), "cosine", True)],
    ids=["out of range", "not unit rows", "not inner products"],
)
def test_what_it_cannot_serve_is_refused(
    params: tuple[float, ...], metric: str, normalize: bool, generator: torch.Generator
) -> None:
    x = torch.randn(6, 4, generator=generator)
    with fused_rank.use_backend("cpp"), pytest.raises(ValueError, match="midpoints"):
        pair_rows(
            PairTerm("angular_loss", "midpoints", params),
            x,
            torch.arange(6) // 2,
            None,
            None,
            metric,  # type: ignore[arg-type]
            normalize,
        )
