"""Exact ties and strict comparisons, on lattice points whose distances every precision computes exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fused_rank import mining, retrieval

from . import brute
from .conftest import Backend
from .inputs import Inputs, embed
from .losses import TRIPLET, case_id
from .oracle import distances
from .tolerances import TOLERANCES

DTYPES = list(TOLERANCES)
forms = pytest.mark.parametrize("form", ["self", "two-set"])
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=case_id)


def lattice(form: str, rows: int, dtype: torch.dtype, generator: torch.Generator, width: int = 3) -> Inputs:
    """Points with small integer coordinates: many duplicates, and ties in nearly every row."""
    x = torch.randint(-2, 3, (2 * rows, width), generator=generator).to(dtype)
    labels = torch.randint(0, rows // 5 + 1, (2 * rows,), generator=generator)
    if form == "self":
        return Inputs(x[:rows], labels[:rows])
    return Inputs(x[:rows], labels[:rows], x[rows:], labels[rows:])


@forms
@dtypes
@pytest.mark.parametrize("rows", [20, 150, 300])
def test_mining_breaks_ties_by_the_lowest_index(
    form: str, dtype: torch.dtype, rows: int, backend: Backend, generator: torch.Generator
) -> None:
    inputs = lattice(form, rows, dtype, generator)
    ours = inputs.to(backend.device)
    positive, negative = mining.hard(ours.embeddings, ours.labels, **ours.keywords, normalize=False)
    assert (positive.tolist(), negative.tolist()) == brute.hard(inputs)
    triplets = mining.semihard(ours.embeddings, ours.labels, **ours.keywords, normalize=False)
    assert list(zip(*(t.tolist() for t in triplets), strict=True)) == brute.semihard(inputs)


@dtypes
def test_topk_breaks_ties_by_the_lowest_index(
    dtype: torch.dtype, backend: Backend, generator: torch.Generator
) -> None:
    inputs = lattice("two-set", 200, dtype, generator)
    assert inputs.gallery is not None
    ours = inputs.to(backend.device)
    d = distances(inputs.embeddings.double(), inputs.gallery.double())
    values, indices = retrieval.topk(ours.embeddings, ours.gallery, 31, normalize=False)
    assert indices.tolist() == brute.topk(d, 31)
    torch.testing.assert_close(values.cpu().double(), d.gather(1, indices.cpu()), rtol=1e-6, atol=1e-6)
    dot = inputs.embeddings.double() @ inputs.gallery.double().t()
    _, indices = retrieval.topk(ours.embeddings, ours.gallery, 31, metric="dot", normalize=False)
    assert indices.tolist() == brute.topk(-dot, 31)


@forms
@dtypes
@pytest.mark.parametrize("soft_margin", [False, True])
@pytest.mark.parametrize("mining_name", ["semihard", "hard", "all", "semihard_all"])
def test_triplet_losses_with_ties(
    mining_name: str,
    soft_margin: bool,
    form: str,
    dtype: torch.dtype,
    backend: Backend,
    generator: torch.Generator,
) -> None:
    """Squared distances are integers: margin 1 puts hinges and band edges exactly on their corners."""
    inputs = lattice(form, 140, dtype, generator)
    options = {
        "mining": mining_name,
        "soft_margin": soft_margin,
        "metric": "sqeuclidean",
        "normalize": False,
        "margin": 1,
    }
    rows = TRIPLET.oracle(inputs.oracle(), **options)
    for reduction in ("none", "mean", "mean_active"):
        value = TRIPLET(inputs.to(backend.device), **options, reduction=reduction)
        expected = rows.reduce(reduction).detach()
        torch.testing.assert_close(value.cpu().double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("normalize", [False, True], ids=["raw", "unit"])
@dtypes
@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_a_duplicate_of_the_positive_is_not_strictly_farther(
    dtype: torch.dtype, shift: float, normalize: bool, backend: Backend, generator: torch.Generator
) -> None:
    """Each positive copied as a negative: equal distances must come out equal in any arithmetic."""
    classes = 50
    x = (embed(torch.arange(classes).repeat(2), 19, generator) + shift).to(dtype)
    x = torch.cat([x, x])
    labels = torch.cat([torch.arange(classes).repeat(2), torch.arange(2 * classes) + 1000])
    order = torch.randperm(len(x), generator=generator)
    inputs = Inputs(x[order], labels[order]).to(backend.device)
    anchor, positive, negative = mining.semihard(inputs.embeddings, inputs.labels, normalize=normalize)
    assert len(anchor) == 2 * classes
    rows = inputs.embeddings.double()
    same: Tensor = (rows[positive] == rows[negative]).all(1)
    assert not same.any(), f"{int(same.sum())} copies counted as strictly farther"


@forms
def test_permuting_the_rows_permutes_what_is_mined(
    form: str, backend: Backend, generator: torch.Generator
) -> None:
    """Random rows have no ties: the same triplets whatever the order of rows."""
    x = embed(torch.arange(130) // 5, 11, generator).float()
    labels = torch.arange(130) // 5
    order = torch.randperm(130, generator=generator)
    plain = Inputs(x, labels) if form == "self" else Inputs(x, labels, x.flip(0), labels.flip(0))
    moved = Inputs(x[order], labels[order], plain.gallery, plain.gallery_labels)
    plain, moved = plain.to(backend.device), moved.to(backend.device)
    first = mining.hard(plain.embeddings, plain.labels, **plain.keywords)
    second = mining.hard(moved.embeddings, moved.labels, **moved.keywords)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.cpu()[order], (order[b.cpu()] if form == "self" else b.cpu()))
