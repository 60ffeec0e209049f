"""Where |x|² + |y|² − 2x·y loses everything: (near) duplicates, collapsed batches and clusters, odd norms."""

from __future__ import annotations

import inspect
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fused_rank import retrieval

from .checks import check_against_oracle, relaxed
from .conftest import Backend
from .inputs import Inputs, embed
from .losses import CONTRASTIVE, MAIN_CASES, RANKED_LIST, SUP_CON, TRIPLET, Loss, Options, case_id
from .tolerances import TOLERANCES, Tolerance

Case = tuple[Loss, Options]
FLOAT = TOLERANCES[torch.float32]


def noise(rows: int, width: int, generator: torch.Generator) -> Tensor:
    return torch.randn(rows, width, generator=generator, dtype=torch.float64)


def upstream(rows: int, generator: torch.Generator) -> Tensor:
    return torch.rand(rows, generator=generator, dtype=torch.float64) + 0.5


def no_gap(tolerance: Tolerance, gap: float) -> Tolerance:
    return replace(tolerance, gap=gap)


def clusters(arrangement: str, width: float, rows: int, generator: torch.Generator) -> Inputs:
    """One or two points blown up to `width`, with labels in blocks, interleaved or random."""
    member = torch.arange(rows) * 2 // rows if arrangement != "one" else torch.zeros(rows, dtype=torch.int64)
    centre = noise(2, 32, generator)
    centre /= centre.norm(dim=1, keepdim=True)
    x = centre[member] + width * noise(rows, 32, generator) / 32**0.5
    labels = {
        "one": torch.arange(rows) // 4,
        "two, own labels": member,
        "two, interleaved labels": torch.arange(rows) % 2,
        "two, many labels": torch.randint(0, rows // 8, (rows,), generator=generator),
    }[arrangement]
    shuffle = torch.randperm(rows, generator=generator)
    return Inputs(x[shuffle].float(), labels[shuffle])


COLLAPSED = [
    (RANKED_LIST, {"gradient": "query"}),
    (RANKED_LIST, {"gradient": "both"}),
    (RANKED_LIST, {"gradient": "exact", "temperature_pos": 5.0, "alpha": 1.2, "margin": 1.2}),
    (CONTRASTIVE, {}),
    (TRIPLET, {"mining": "all", "soft_margin": True}),
    (TRIPLET, {"mining": "all"}),
    (SUP_CON, {}),
]


@pytest.mark.parametrize("normalize", [False, True], ids=["raw", "unit"])
@pytest.mark.parametrize("width", [1e-2, 1e-4])
@pytest.mark.parametrize(
    "arrangement", ["one", "two, own labels", "two, interleaved labels", "two, many labels"]
)
@pytest.mark.parametrize("case", COLLAPSED, ids=case_id)
def test_collapsed(
    case: Case, arrangement: str, width: float, normalize: bool, backend: Backend, generator: torch.Generator
) -> None:
    loss, options = case
    inputs = clusters(arrangement, width, 130, generator)
    tolerance = FLOAT
    if normalize and backend.name == "eager":
        # It rounds each row to 6e-8 as it normalises: directions between rows `width` apart are not known better.
        tolerance = relaxed(FLOAT, max(1.0, 5e-8 / width / FLOAT.relative_l2))
    options = {**options, **loss.geometry(normalize=normalize)}
    check_against_oracle(
        loss, options, inputs, upstream(130, generator), backend.device, no_gap(tolerance, -1.0)
    )


@pytest.mark.parametrize("apart", [1e-3, 1e-4, 1e-5, 1e-6])
@pytest.mark.parametrize("case", MAIN_CASES, ids=case_id)
def test_near_duplicates(case: Case, apart: float, backend: Backend, generator: torch.Generator) -> None:
    """Every embedding has a positive and a negative twin close by."""
    loss, options = case
    base = embed(torch.arange(60), 24, generator)
    x = torch.cat([base, base + apart * noise(60, 24, generator), base + apart * noise(60, 24, generator)])
    labels = torch.arange(60).repeat(2)
    inputs = Inputs(x.float(), torch.cat([labels, torch.arange(60) + 1000]))
    check_against_oracle(
        loss,
        {**options, **loss.geometry(normalize=False)},
        inputs,
        upstream(180, generator),
        backend.device,
        no_gap(FLOAT, 1e-6),
        decided=0.3,
    )


@pytest.mark.parametrize("normalize", [False, True], ids=["raw", "unit"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=case_id)
@pytest.mark.parametrize("case", COLLAPSED, ids=case_id)
def test_exact_duplicates(
    case: Case, dtype: torch.dtype, normalize: bool, backend: Backend, generator: torch.Generator
) -> None:
    """Each row three times, twice under its label: a distance of 0 has a zero gradient, never NaN."""
    loss, options = case
    base = embed(torch.arange(40), 12, generator).to(dtype)
    inputs = Inputs(base.repeat(3, 1), torch.cat([torch.arange(40).repeat(2), torch.arange(40) + 500]))
    check_against_oracle(
        loss,
        {**options, **loss.geometry(normalize=normalize)},
        inputs,
        upstream(120, generator),
        backend.device,
        no_gap(TOLERANCES[dtype], -1.0),
    )


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine"])
@pytest.mark.parametrize("case", MAIN_CASES, ids=case_id)
def test_all_rows_equal(case: Case, metric: str, backend: Backend) -> None:
    loss, options = case
    row = torch.tensor([[0.3, -1.7, 0.9, 0.1, 2.2]])
    inputs = Inputs(row.repeat(70, 1), torch.arange(70) % 9).to(backend.device).leaves()
    options = {**options, **loss.geometry(metric=metric)}
    value = loss(inputs, **options, reduction="none")
    value.sum().backward()
    expected = loss.oracle(inputs.oracle(), **options).reduce("none")
    torch.testing.assert_close(value.double().cpu(), expected, rtol=1e-6, atol=1e-6)
    assert inputs.embeddings.grad is not None
    assert inputs.embeddings.grad.abs().max() <= (0 if metric == "euclidean" else 1e-5)


@pytest.mark.parametrize("normalize", [False, True], ids=["raw", "unit"])
@pytest.mark.parametrize("scale", [1e-4, 1e4, None], ids=["small", "large", "mixed"])
@pytest.mark.parametrize("case", MAIN_CASES, ids=case_id)
def test_norms(
    case: Case, scale: float | None, normalize: bool, backend: Backend, generator: torch.Generator
) -> None:
    loss, options = case
    labels = torch.randint(0, 30, (130,), generator=generator)
    size = scale or (10 ** torch.linspace(-4, 4, 130, dtype=torch.float64))[:, None]
    inputs = Inputs((embed(labels, 20, generator) * size).float(), labels)
    unit = 1.0 if normalize else scale or 1e4  # of the distances
    thresholds = {"alpha": 1.2, "margin": 0.2, "neg_margin": 1.0, "pos_margin": 0.3}
    steepness = {"temperature_pos": 5.0, "temperature_neg": 10.0}
    names = inspect.signature(loss.function).parameters
    options = {
        **options,
        **{name: value * unit for name, value in thresholds.items() if name in names},
        **{name: value / unit for name, value in steepness.items() if name in names},
        **loss.geometry(normalize=normalize),
    }
    tolerance = replace(FLOAT, gap=FLOAT.gap * unit, atol=FLOAT.atol * unit ** options.get("power", 2))
    check_against_oracle(
        loss, options, inputs, upstream(130, generator), backend.device, tolerance, decided=0.05
    )


@pytest.mark.parametrize("case", MAIN_CASES, ids=case_id)
def test_norms_whose_squares_leave_fp32(case: Case, backend: Backend, generator: torch.Generator) -> None:
    """Powers of two change nothing in unit rows, and divide their gradients."""
    loss, options = case
    labels = torch.randint(0, 30, (130,), generator=generator)
    plain = Inputs(embed(labels, 20, generator).float(), labels).to(backend.device).leaves()
    size = torch.exp2(torch.linspace(-90, 90, 130).round())[:, None].to(backend.device)
    sized = replace(plain, embeddings=plain.embeddings.detach() * size).leaves()
    values = [loss(inputs, **options, reduction="none") for inputs in (plain, sized)]
    for value in values:
        value.sum().backward()
    torch.testing.assert_close(values[1], values[0], rtol=1e-6, atol=1e-7)
    assert plain.embeddings.grad is not None
    assert sized.embeddings.grad is not None
    torch.testing.assert_close(sized.embeddings.grad * size, plain.embeddings.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=case_id)
def test_scaled_copies_of_a_row_are_near_each_other(
    dtype: torch.dtype, backend: Backend, generator: torch.Generator
) -> None:
    """Rows that differ by a power of two are one point when normalised, however long they are."""
    rows = torch.randn(30, 24, generator=generator).to(dtype)
    x = torch.cat([rows, rows * 8, rows * 1024]).to(backend.device)
    values, indices = retrieval.topk(x, x, 3, normalize=True)
    assert torch.equal(indices.sort(1).values.cpu() % 30, torch.arange(30).repeat(3)[:, None].expand(-1, 3))
    assert not values.any()
