"""The engine's gradient of two sets made in the forward pass, by strips, against that of its two sweeps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import fused_rank
from fused_rank.ops import pair
from fused_rank.ops.pair import PairTerm, pair_rows
from fused_rank.ops.schemas import PAIR_INPUTS

from .conftest import unwritten_memory_is_nan
from .inputs import make_inputs

TERMS = {
    "sup_con": (-8.0,),
    "sup_con, streaming": (-90.0,),
    "circle": (0.4, 20.0),
    "lifted": (0.0, 1.0),
    "softplus_negatives": (-12.0, 2.0),
    "softplus_negatives, streaming": (-90.0, math.inf),
    "softplus_negatives, inner products": (12.0, 1.0),
}
SIDES = [(True, True), (True, False), (False, True)]
METRICS = {"lifted": "euclidean", "softplus_negatives, inner products": "dot"}  # else cosine

pytestmark = pytest.mark.skipif(
    fused_rank.backends()["info_nce_loss"]["cpp"] is not None, reason="the engine is not built"
)


def gradients(
    term: str,
    x: Tensor,
    y: Tensor,
    labels: tuple[Tensor | None, Tensor | None],
    sides: tuple[bool, bool],
    uniform: bool,
) -> tuple[Tensor, ...]:
    """Loss, counts, active, and the gradients of the sides that want one and of the term's inputs."""
    name = term.split(",")[0]
    x, y = (t.clone().requires_grad_(side) for t, side in zip((x, y), sides, strict=True))
    inputs = torch.linspace(-2, 3, len(x), dtype=x.dtype).repeat(PAIR_INPUTS[name], 1).requires_grad_()
    moved = [t for t in (x, y, inputs) if t.requires_grad and len(t)]
    given = (x, labels[0], y, labels[1], METRICS.get(term, "cosine"), True, inputs if len(inputs) else None)
    with fused_rank.use_backend("cpp"), unwritten_memory_is_nan():
        rows = pair_rows(PairTerm("info_nce_loss", name, TERMS[term], uniform=uniform), *given)
        found = torch.autograd.grad(1.7 * rows.sums.sum(), moved)
    return rows.sums.detach(), rows.counts, rows.active, *found


def assert_same(ahead: tuple[Tensor, ...], swept: tuple[Tensor, ...]) -> None:
    for ours, theirs in zip(ahead[:3], swept[:3], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6, equal_nan=True)
    for ours, theirs in zip(ahead[3:], swept[3:], strict=True):
        scale = theirs.nan_to_num().abs().max().item()
        torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=2e-6 * scale, equal_nan=True)


@pytest.mark.parametrize("sides", SIDES, ids=["both", "queries", "gallery"])
@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize(
    "shape", [(1, 1, 3), (7, 70, 16), (70, 7, 33), (530, 129, 20), (700, 1030, 40)], ids=str
)
def test_equals_two_sweeps(
    shape: tuple[int, int, int], term: str, sides: tuple[bool, bool], generator: torch.Generator
) -> None:
    inputs = make_inputs("two-set", *shape, torch.float32, generator)
    given = (inputs.embeddings, inputs.tensors[-1], (inputs.labels, inputs.gallery_labels), sides)
    assert_same(gradients(term, *given, uniform=True), gradients(term, *given, uniform=False))


@pytest.mark.parametrize("sides", SIDES, ids=["both", "queries", "gallery"])
@pytest.mark.parametrize("trouble", ["near-duplicates", "tight clusters", "a row of NaN", "fp64"])
def test_hard_batches(trouble: str, sides: tuple[bool, bool], generator: torch.Generator) -> None:
    m, n, width = 300, 260, 24
    dtype = torch.float64 if trouble == "fp64" else torch.float32
    x, y = (torch.randn(rows, width, generator=generator, dtype=dtype) for rows in (m, n))
    if trouble == "near-duplicates":
        x[:n:3] = y[::3] + 1e-6 * x[:n:3]
    if trouble == "tight clusters":
        centres = torch.randn(5, width, generator=generator)
        x, y = (centres[torch.arange(len(t)) % 5] + 1e-4 * t for t in (x, y))
    if trouble == "a row of NaN":
        y[17] = torch.nan
    given = (x, y, (torch.arange(m) % 40, torch.arange(n) % 40), sides)
    for term in TERMS:
        if trouble == "tight clusters" and METRICS.get(term) == "dot":
            continue  # an inner product has few digits for the difference of two rows, on either path
        assert_same(gradients(term, *given, uniform=True), gradients(term, *given, uniform=False))


@pytest.mark.parametrize("close", [False, True], ids=["apart", "near-duplicates"])
def test_same_bits_with_any_number_of_threads(close: bool, generator: torch.Generator) -> None:
    """The strips' height depends on it; no number may."""
    x, y = (torch.randn(rows, 40, generator=generator) for rows in (300, 900))
    if close:
        y[::3] = x + 1e-4 * y[::3]
    labels = (torch.arange(300) % 90, torch.arange(900) % 90)
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 7, 13):
            torch.set_num_threads(threads)
            found.append(gradients("sup_con", x, y, labels, (True, True), uniform=True))
    finally:
        torch.set_num_threads(before)
    for more in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], more, strict=True))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whose gradient each forward sweep was asked to make."""
    asked: list[str] = []
    forward = pair.BACKENDS["cpp"].pair_forward

    def seen(*given: object) -> object:
        asked.append(str(given[-2]))
        return forward(*given)

    monkeypatch.setattr(pair.BACKENDS["cpp"], "pair_forward", seen)
    return asked


def test_losses_ask_for_it(asked: list[str], generator: torch.Generator) -> None:
    """Under a scalar reduction, for the sides that need a gradient, and never without one upstream number."""
    x, y = (torch.randn(9, 4, generator=generator, requires_grad=True) for _ in range(2))
    with fused_rank.use_backend("cpp"):
        for reduction in ("mean", "sum", "mean_active", "none"):
            fused_rank.InfoNCELoss(reduction=reduction)(x, gallery=y).sum().backward()
        fused_rank.InfoNCELoss()(x, gallery=y.detach()).backward()
        fused_rank.InfoNCELoss()(x.detach(), gallery=y).backward()
        fused_rank.InfoNCELoss(symmetric=True)(x, gallery=y).backward()
        fused_rank.SupConLoss()(x, torch.arange(9) % 3).backward()
    assert asked == ["both", "both", "both", "none", "query", "gallery", "none", "none"]


def test_the_angular_loss_asks_for_it(asked: list[str], generator: torch.Generator) -> None:
    """For its pairs' sums and the rows against them, whichever of the two sets moves."""
    x, y = (torch.randn(9, 4, generator=generator, requires_grad=True) for _ in range(2))
    labels = torch.arange(9) % 3
    others = {"gallery": y.detach(), "gallery_labels": labels}
    with fused_rank.use_backend("cpp"):
        for reduction in ("mean", "sum", "mean_active", "none"):
            fused_rank.AngularLoss(reduction=reduction)(x, labels).sum().backward()
        fused_rank.AngularLoss(pairs="all")(x, labels, **others).backward()
        fused_rank.AngularLoss()(x.detach(), labels, gallery=y, gallery_labels=labels).backward()
    assert asked == ["both", "both", "both", "none", "query", "both"]


def test_rows_that_differ_upstream_are_refused(generator: torch.Generator) -> None:
    x, y = (torch.randn(9, 4, generator=generator, requires_grad=True) for _ in range(2))
    term = PairTerm("info_nce_loss", "sup_con", (-4.0,), uniform=True)
    with fused_rank.use_backend("cpp"):
        rows = pair_rows(term, x, None, y, None, "cosine", True)
        with pytest.raises(ValueError, match="differ in their upstream gradient"):
            (rows.sums * torch.arange(9)).sum().backward()
