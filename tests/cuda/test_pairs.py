"""Pair losses where small batches do not reach: several strips, dead tiles, several centres, terms with inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import fused_rank
from fused_rank import functional
from fused_rank.cuda import kernels
from fused_rank.ops.pair import PairTerm, pair_rows

from ..checks import check_against_oracle
from ..conftest import Backend
from ..inputs import Inputs, embed, make_inputs
from ..losses import CONTRASTIVE, RANKED_LIST, Loss, case_id

pytestmark = pytest.mark.parametrize("backend", ["cuda"], indirect=True)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=case_id)
ACCURACY = {torch.float32: 1e-5, torch.float64: 1e-8}  # eager's softplus is exact to 2e-9


@pytest.fixture
def short_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of one row of tiles, however few columns there are."""
    monkeypatch.setattr("fused_rank.cuda.strips._ELEMENTS", 1)


def upstream(rows: int, generator: torch.Generator) -> Tensor:
    return torch.rand(rows, generator=generator, dtype=torch.float64) + 0.5


@dtypes
@pytest.mark.parametrize("form", ["self", "two-set", "plain"])
@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (CONTRASTIVE, {}),
        (CONTRASTIVE, {"metric": "sqeuclidean", "normalize": False}),
        (RANKED_LIST, {"gradient": "query"}),
        (RANKED_LIST, {"gradient": "exact"}),
    ],
    ids=case_id,
)
def test_several_strips(
    loss: Loss,
    options: dict[str, Any],
    form: str,
    dtype: torch.dtype,
    backend: Backend,
    short_strips: None,
    generator: torch.Generator,
) -> None:
    inputs = make_inputs(form, 150, 140, 10, dtype, generator)
    check_against_oracle(loss, options, inputs, upstream(150, generator), backend.device)


@dtypes
def test_tight_clusters_with_centres_of_their_own(
    dtype: torch.dtype, backend: Backend, short_strips: None, generator: torch.Generator
) -> None:
    """Three clusters of 1e-3, which hold positives and negatives, and rows outside them."""
    labels = torch.randint(0, 60, (300,), generator=generator)
    spread = embed(labels, 12, generator)
    middle = 3 * torch.randn(3, 12, generator=generator, dtype=torch.float64)
    tight = middle[torch.arange(300) % 3] + 1e-3 * spread
    x = torch.where(torch.arange(300)[:, None] < 270, tight, spread).to(dtype)
    inputs = Inputs(x, labels)
    for options in ({}, {"normalize": False, "neg_margin": 5.0}):
        check_against_oracle(
            CONTRASTIVE, options, inputs, upstream(300, generator), backend.device, decided=0.1
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=case_id)
def test_dead_tiles_are_never_looked_at_again(
    dtype: torch.dtype, backend: Backend, generator: torch.Generator
) -> None:
    """Two halves so far apart that no pair across them contributes: tiles between them keep what memory held, NaN."""
    (tile,) = kernels.ask("tile", dtype)
    labels = torch.arange(2 * tile) // tile
    x = embed(torch.arange(2 * tile) // 4, 6, generator) + 100.0 * labels[:, None]
    inputs = Inputs(x.to(dtype), torch.arange(2 * tile) // 4)
    options = {"normalize": False, "neg_margin": 2.0}
    check_against_oracle(CONTRASTIVE, options, inputs, upstream(2 * tile, generator), backend.device)
    live = torch.ops.fused_rank_cuda.pair_forward(
        inputs.embeddings,
        inputs.labels,
        None,
        None,
        None,
        "contrastive",
        [0.0, 2.0, 2.0],
        "euclidean",
        False,
        "none",
        False,
    )[2]
    assert live[:4].tolist()[0::3] == [1, 1]
    assert live[1] == 0


def found(
    name: str, term: PairTerm, tensors: tuple[Tensor | None, ...], **options: Any
) -> tuple[list[Tensor], list[Tensor]]:
    """Rows of a term under a backend, and its gradients in x, gallery and inputs."""
    x, labels, gallery, gallery_labels, inputs = (
        t.clone().requires_grad_() if t is not None and t.is_floating_point() else t for t in tensors
    )
    with fused_rank.use_backend(name):
        assert x is not None
        rows = pair_rows(
            term, x, labels, gallery, gallery_labels, options["metric"], False, inputs, options["symmetric"]
        )
        weights = torch.linspace(0.5, 1.5, rows.sums.numel(), dtype=rows.sums.dtype).view_as(rows.sums)
        (rows.sums * weights).sum().backward()
    gradients = [t.grad for t in (x, gallery, inputs) if t is not None and t.grad is not None]
    sums = rows.sums.detach()
    active = rows.active.where(sums.abs() > 1e-6, 0)  # whether less is nothing is for rounding to say
    return [sums, rows.counts, active], gradients


@dtypes
@pytest.mark.parametrize("metric", ["dot", "cosine", "sqeuclidean"])
@pytest.mark.parametrize("form", ["self", "two-set", "symmetric"])
@pytest.mark.parametrize(
    ("name", "params", "inputs"),
    [
        ("sup_con", (-3.0,), 0),
        ("sup_con", (-200.0,), 0),
        ("negatives_lse", (-3.0, 1.0), 0),
        ("negatives_lse", (-200.0, 1.0), 0),
        ("softplus_negatives", (-3.0, 10.0), 1),
        ("softplus_negatives", (-200.0, math.inf), 1),
        ("softplus_positives", (-3.0, 1.0), 1),
    ],
    ids=str,
)
def test_softmax_terms(
    name: str,
    params: tuple[float, ...],
    inputs: int,
    form: str,
    metric: str,
    dtype: torch.dtype,
    backend: Backend,
    short_strips: None,
    generator: torch.Generator,
) -> None:
    """Inner products, inputs and the symmetric form, against the eager backend in fp64."""
    batch = make_inputs("self" if form == "self" else "two-set", 75, 140, 9, dtype, generator)
    rows = sum(len(t) for t in batch.tensors) if form == "symmetric" else len(batch.embeddings)
    extra = torch.randn(inputs, rows, generator=generator, dtype=dtype) if inputs else None
    tensors = (batch.embeddings, batch.labels, batch.gallery, batch.gallery_labels, extra)
    term = PairTerm("contrastive_loss", name, params)
    options = {"metric": metric, "symmetric": form == "symmetric"}
    exact = tuple(t.double() if t is not None and t.is_floating_point() else t for t in tensors)
    for actual, expected in zip(
        found("cuda", term, tensors, **options), found("eager", term, exact, **options), strict=True
    ):
        assert len(actual) == len(expected) > 0
        for ours, theirs in zip(actual, expected, strict=True):
            assert (ours - theirs).norm() <= ACCURACY[dtype] * (1e-3 + theirs.norm())


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (functional.contrastive_loss, {"statistics": 1, "scales": 1, "coefficients": 2, "product": 2}),
        (
            lambda x, labels: functional.contrastive_loss(x, labels, gallery=x, gallery_labels=labels),
            {"statistics": 1, "scales": 1, "coefficients": 2, "product": 4},
        ),
    ],
    ids=["self", "two-set"],
)
def test_kernels_are_launched(
    loss: Callable[..., Tensor], expected: dict[str, int], backend: Backend, short_strips: None
) -> None:
    x = torch.randn(100, 4, dtype=torch.float64, requires_grad=True)
    kernels.reset_counts()
    loss(x, torch.arange(100) // 4).backward()
    assert {name: count for name, count in kernels.counts().items() if name in expected} == expected
