"""Odd label sets, extreme temperatures, zero rows and non-finite rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fused_rank import functional

from .checks import check_against_oracle, relaxed
from .conftest import Backend
from .inputs import Inputs, embed, make_inputs
from .losses import (
    INFO_NCE,
    LOSSES,
    MAIN_CASES,
    RANKED_LIST,
    SUP_CON,
    TRIPLET,
    Loss,
    Options,
    case_id,
    moves_gallery,
)
from .tolerances import TOLERANCES

Case = tuple[Loss, Options]
every_loss = pytest.mark.parametrize("case", MAIN_CASES, ids=case_id)
FLOAT = TOLERANCES[torch.float32]


def shuffled(sizes: list[int], generator: torch.Generator) -> Tensor:
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    return labels[torch.randperm(len(labels), generator=generator)]


LABELS = {
    "one class": [130],
    "all distinct": [1] * 130,
    "two classes": [65, 65],
    "very different sizes": [1, 2, 3, 70, 1, 40, 1, 12],
    "one large, many single": [100, *[1] * 60],
    "over a tile": [260, 9, 3],
}


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=case_id)
@pytest.mark.parametrize("sizes", LABELS)
def test_class_sizes(
    case: Case, sizes: str, dtype: torch.dtype, backend: Backend, generator: torch.Generator
) -> None:
    loss, options = case
    labels = shuffled(LABELS[sizes], generator)
    inputs = Inputs(embed(labels, 16, generator).to(dtype), labels)
    upstream = torch.rand(len(labels), generator=generator, dtype=torch.float64)
    # A class of hundreds makes many decisions a query: few are clear in fp32, the fp64 runs check them all.
    check_against_oracle(loss, options, inputs, upstream, backend.device, decided=0.02)


@pytest.mark.parametrize("form", ["self", "two-set"])
@pytest.mark.parametrize("mining", ["semihard", "hard", "all", "semihard_all"])
@pytest.mark.parametrize(("members", "soft_margin"), [(65, False), (65, True), (257, False)], ids=str)
def test_large_classes_in_triplets(
    members: int, soft_margin: bool, mining: str, form: str, backend: Backend, generator: torch.Generator
) -> None:
    """More positives than any per-row buffer should hold."""
    labels = shuffled([members, 12, 7], generator)
    x = embed(labels, 9, generator)
    inputs = Inputs(x, labels)
    if form == "two-set":
        inputs = Inputs(x[:50].contiguous(), labels[:50], x, labels)
    options = {"mining": mining, "soft_margin": soft_margin, "metric": "sqeuclidean"}
    upstream = torch.rand(len(inputs.embeddings), generator=generator, dtype=torch.float64)
    check_against_oracle(TRIPLET, options, inputs, upstream, backend.device)


@every_loss
@pytest.mark.parametrize("form", ["self", "two-set"])
def test_labels_are_only_compared(
    case: Case, form: str, backend: Backend, generator: torch.Generator
) -> None:
    """Negative, huge and unsorted labels, of any integer type and of bool, mean the same partition."""
    loss, options = case
    inputs = make_inputs(form, 60, 50, 8, torch.float32, generator).to(backend.device)
    expected = loss(inputs, **options, reduction="none")

    def relabelled(of: Tensor | None, names: Tensor) -> Tensor | None:
        return None if of is None else names[(of + 11) // 7]

    limits = torch.iinfo(torch.int64)
    huge = torch.tensor(
        [limits.max, limits.min, -1, 0, limits.max - 1, limits.min + 1, 2**32, 2**33, -(2**32), 2**53 + 1]
    )
    spread = torch.cat([huge, torch.arange(10**12, 10**12 + 60)]).to(backend.device)
    small = torch.arange(-35, 35).to(backend.device)
    for names in (spread, small.to(torch.int32), small.to(torch.int16), small.to(torch.int8)):
        renamed = replace(
            inputs,
            labels=relabelled(inputs.labels, names),
            gallery_labels=relabelled(inputs.gallery_labels, names),
        )
        torch.testing.assert_close(loss(renamed, **options, reduction="none"), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("normalize", [True, False], ids=["unit", "raw"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=case_id)
@pytest.mark.parametrize("gradient", ["query", "both", "exact"])
@pytest.mark.parametrize(
    "temperatures", [(100.0, 0.0), (100.0, 100.0), (1000.0, 0.0), (1000.0, 1000.0)], ids=str
)
@pytest.mark.parametrize("eps", [0.0, 1e-3])
def test_temperatures(
    temperatures: tuple[float, float],
    gradient: str,
    eps: float,
    normalize: bool,
    dtype: torch.dtype,
    backend: Backend,
    generator: torch.Generator,
) -> None:
    """exp(1000 · 1.2) overflows even fp64; a weighted mean does not."""
    inputs = make_inputs("self", 130, 0, 8, dtype, generator)
    options = {
        "temperature_neg": temperatures[0],
        "temperature_pos": temperatures[1],
        "gradient": gradient,
        "eps": eps,
        "normalize": normalize,
    }
    upstream = torch.rand(130, generator=generator, dtype=torch.float64)
    tolerance = relaxed(
        TOLERANCES[dtype], max(temperatures) / 10
    )  # a distance's rounding times the temperature
    check_against_oracle(RANKED_LIST, options, inputs, upstream, backend.device, tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=case_id)
@pytest.mark.parametrize("form", ["self", "two-set", "plain"])
@pytest.mark.parametrize("temperature", [0.02, 0.01, 1e-3])
@pytest.mark.parametrize("case", [(SUP_CON, {}), (INFO_NCE, {"symmetric": True})], ids=case_id)
def test_sharp_softmax(
    case: Case,
    temperature: float,
    form: str,
    dtype: torch.dtype,
    backend: Backend,
    generator: torch.Generator,
) -> None:
    """Logits up to ±1000, whose exponentials no float holds."""
    loss, options = case
    options = {**options, "temperature": temperature}
    inputs = make_inputs(form, 130, 70, 8, dtype, generator)
    upstream = torch.rand(loss.reported(options, inputs), generator=generator, dtype=torch.float64)
    tolerance = relaxed(TOLERANCES[dtype], 0.2 / temperature)  # a distance's rounding over the temperature
    tolerance = replace(tolerance, atol=tolerance.atol * 0.2 / temperature)
    check_against_oracle(loss, options, inputs, upstream, backend.device, tolerance)


@every_loss
@pytest.mark.parametrize("normalize", [True, False], ids=["unit", "raw"])
def test_zero_rows(case: Case, normalize: bool, backend: Backend, generator: torch.Generator) -> None:
    """A zero row stays zero when normalised, and its gradient through the normalisation is zero."""
    loss, options = case
    inputs = make_inputs("self", 70, 0, 12, torch.float64, generator)
    inputs.embeddings[::7] = 0
    upstream = torch.rand(70, generator=generator, dtype=torch.float64)
    tolerance = replace(TOLERANCES[torch.float64], gap=-1.0 if loss is not TRIPLET else 1e-10)
    check_against_oracle(
        loss,
        {**options, **loss.geometry(normalize=normalize)},
        inputs,
        upstream,
        backend.device,
        tolerance,
        decided=0.1,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=case_id)
@every_loss
def test_width_one(case: Case, dtype: torch.dtype, backend: Backend, generator: torch.Generator) -> None:
    """On a line the gradients of a triplet cancel, up to rounding."""
    loss, options = case
    labels = torch.randint(0, 9, (40,), generator=generator)
    inputs = Inputs(embed(labels, 1, generator).to(dtype), labels)
    truth, ours = inputs.oracle(), inputs.to(backend.device).leaves()
    options = {**options, **loss.geometry(normalize=False)}
    rows = loss.oracle(truth, **options)
    value = loss(ours, **options, reduction="none")
    clear = rows.gap > TOLERANCES[dtype].gap
    rows.reduce("none").backward(clear.double())
    value.backward(clear.to(value))
    assert ours.embeddings.grad is not None
    tolerance = 1e-5 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(
        ours.embeddings.grad.cpu().double(), truth.embeddings.grad, rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("loss", LOSSES, ids=case_id)
def test_width_one_normalised(loss: Loss, backend: Backend) -> None:
    """Unit rows of one dimension are ±1, whatever the input: the loss is flat."""
    x = torch.tensor([[0.5], [-2.0], [3e-3], [-7e4], [1.0]])
    options = {"mining": "all"} if loss is TRIPLET else {}  # the only mining without a choice between equals
    inputs = Inputs(x, torch.tensor([0, 0, 1, 1, 0])).to(backend.device).leaves()
    value = loss(inputs, **options, reduction="sum")
    value.backward()
    expected = loss.oracle(inputs.oracle(), **options).reduce("sum").detach()
    torch.testing.assert_close(value.double().cpu(), expected, rtol=1e-5, atol=1e-5)
    assert inputs.embeddings.grad is not None
    assert (inputs.embeddings.grad * x.to(inputs.embeddings)).abs().max() < 1e-5


@every_loss
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf], ids=str)
def test_a_non_finite_row_makes_the_self_form_nan(
    case: Case, bad: float, backend: Backend, generator: torch.Generator
) -> None:
    """Never silently dropped, wherever it stands."""
    loss, options = case
    inputs = make_inputs("self", 130, 0, 8, torch.float32, generator)
    for row in (0, 64, 129):
        spoiled = replace(inputs, embeddings=inputs.embeddings.clone()).to(backend.device)
        spoiled.embeddings[row, 3] = bad
        assert loss(spoiled, **options, reduction="none").isnan().all()
        assert loss(spoiled, **options).isnan()


@pytest.mark.parametrize("side", ["query", "gallery"])
def test_a_non_finite_row_in_symmetric_form(side: str, backend: Backend, generator: torch.Generator) -> None:
    """It spoils its own number and the whole other side's, whose losses move everything."""
    leaves = make_inputs("two-set", 70, 90, 8, torch.float32, generator).to(backend.device)
    assert leaves.gallery is not None
    (leaves.embeddings if side == "query" else leaves.gallery)[66, 2] = torch.nan
    leaves = leaves.leaves()
    value = INFO_NCE(leaves, symmetric=True, reduction="none")
    bad = torch.zeros(160, dtype=torch.bool)
    bad[66 if side == "query" else 136] = True
    bad[slice(70, None) if side == "query" else slice(70)] = True
    assert torch.equal(value.isnan().cpu(), bad)
    value.sum().backward()
    for leaf in leaves.tensors:
        assert leaf.grad is not None
        assert leaf.grad.isnan().all()


@every_loss
def test_a_row_whose_square_leaves_fp32_is_no_number(
    case: Case, backend: Backend, generator: torch.Generator
) -> None:
    """Never a finite number that means nothing."""
    loss, options = case
    inputs = make_inputs("self", 70, 0, 8, torch.float32, generator).to(backend.device)
    inputs.embeddings[66] = 3e19
    assert not loss(inputs, **options, **loss.geometry(metric="euclidean", normalize=False)).isfinite()


@every_loss
@pytest.mark.parametrize("bad", [torch.nan, torch.inf], ids=str)
@pytest.mark.parametrize("side", ["query", "gallery"])
def test_a_non_finite_row_in_two_set_form(
    case: Case, side: str, bad: float, backend: Backend, generator: torch.Generator
) -> None:
    """A query spoils its own number, a gallery row everybody's."""
    loss, options = case
    inputs = make_inputs("two-set", 70, 90, 8, torch.float32, generator).to(backend.device)
    assert inputs.gallery is not None
    clean = loss(inputs, **options, reduction="none")
    (inputs.embeddings if side == "query" else inputs.gallery)[66, 2] = bad
    leaves = inputs.leaves(needs=(True, moves_gallery(options, loss)))
    value = loss(leaves, **options, reduction="none")
    if side == "gallery":
        assert value.isnan().all()
        return
    others = torch.arange(70, device=value.device) != 66
    assert value[66].isnan()
    torch.testing.assert_close(value[others], clean[others], rtol=1e-5, atol=1e-6)


def test_a_lost_row_outside_the_unique_pairs_is_lost_in_value_and_gradient(backend: Backend) -> None:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).to(backend.device)
    x[3] = torch.nan  # of the class's four rows the first two are the pair
    x.requires_grad_()
    loss = functional.n_pairs_loss(x, torch.arange(8, device=backend.device) // 4, pairs="unique")
    loss.backward()
    assert loss.isnan()
    assert x.grad is not None
    assert x.grad.isnan().any()
