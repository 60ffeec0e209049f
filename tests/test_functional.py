"""The functional twins, and explicit triplets."""

from __future__ import annotations

import inspect

import pytest
import torch

from fused_rank import ContrastiveLoss, InfoNCELoss, MarginLoss, TripletMarginLoss, functional

from . import oracle
from .conftest import Backend
from .gradient_error import assert_gradient_close, assert_value_close
from .inputs import make_inputs
from .losses import CONTRASTIVE, LOSSES, Loss, case_id
from .oracle import distances
from .tolerances import TOLERANCES


@pytest.mark.parametrize("form", ["self", "two-set", "plain"])
@pytest.mark.parametrize("reduction", ["mean", "mean_active", "sum", "none"])
@pytest.mark.parametrize("loss", LOSSES, ids=case_id)
def test_function_and_module_agree(
    loss: Loss, reduction: str, form: str, backend: Backend, generator: torch.Generator
) -> None:
    inputs = make_inputs(form, 30, 40, 6, torch.float32, generator).to(backend.device)
    for options in loss.options:
        given = {**options, "reduction": reduction, **loss.geometry(metric="cosine")}
        by_module = loss(inputs, **given)
        by_function = loss.function(inputs.embeddings, inputs.labels, **inputs.keywords, **given)
        assert torch.equal(by_function, by_module)


@pytest.mark.parametrize("loss", LOSSES, ids=case_id)
def test_function_module_and_reference_have_the_same_options_and_defaults(loss: Loss) -> None:
    def defaults(of: object) -> dict[str, object]:
        parameters = inspect.signature(of).parameters.values()  # type: ignore[arg-type]
        data = (
            "self", "embeddings", "labels", "gallery", "gallery_labels", "triplets", "mining_embeddings", "pairwise",
        )  # fmt: skip
        # a function takes what is learned as a tensor
        of_modules = ("learn_beta", "num_classes", "learn_temperature")
        listed = loss is CONTRASTIVE and of is not loss.module  # `pairs` is data there
        left_out = (*data, *of_modules, *(["pairs"] if listed else []))
        return {p.name: p.default for p in parameters if p.name not in left_out}

    assert defaults(loss.module) == defaults(loss.function) == defaults(loss.reference)


@pytest.mark.parametrize("loss", LOSSES, ids=case_id)
def test_modules_tell_their_options(loss: Loss) -> None:
    """Nothing to learn, and a repr that says what it is."""
    geometry = loss.geometry(metric="cosine")
    module = loss.module(**geometry, reduction="sum")
    assert not list(module.parameters())
    assert not module.state_dict()
    assert all(str(value) in repr(module) for value in geometry.values())
    assert "sum" in repr(module)


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=case_id)
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("form", ["two-set", "plain"])
def test_a_learned_temperature(
    form: str, symmetric: bool, dtype: torch.dtype, backend: Backend, generator: torch.Generator
) -> None:
    inputs = make_inputs(form, 40, 27, 6, dtype, generator).to(backend.device)
    ours, exact = inputs.leaves(), inputs.oracle()
    module = InfoNCELoss(0.2, learn_temperature=True, symmetric=symmetric)
    module = module.to(backend.device, torch.promote_types(dtype, torch.float32))
    learned = module.log_temperature
    assert learned is not None
    theirs = learned.detach().double().cpu().requires_grad_()
    value = module(ours.embeddings, ours.labels, **ours.keywords)
    x, y = exact.tensors
    labels = (exact.labels, exact.gallery_labels)
    rows = oracle.info_nce(
        x,
        labels[0],
        y,
        labels[1],
        temperature=theirs.exp(),
        symmetric=symmetric,  # type: ignore[arg-type]
    )
    expected = rows.sums.sum() / rows.counts.sum()
    assert_value_close(value.cpu(), expected, TOLERANCES[dtype])
    value.backward()
    expected.backward()
    for leaf, truth in zip(ours.tensors, exact.tensors, strict=True):
        assert_gradient_close(leaf.grad.cpu(), truth.grad, TOLERANCES[dtype])
    tolerance = {"rtol": 2e-2 if dtype.itemsize == 2 else 1e-4, "atol": 1e-5}
    torch.testing.assert_close(learned.grad.double().cpu(), theirs.grad, **tolerance)


def test_a_learned_temperature_is_a_parameter(generator: torch.Generator) -> None:
    module = InfoNCELoss(0.5, learn_temperature=True)
    learned = module.log_temperature
    assert learned is not None
    assert [name for name, _ in module.named_parameters()] == ["log_temperature"]
    assert module.temperature == pytest.approx(0.5)
    assert "temperature=0.5," in repr(module)
    x, y = torch.randn(2, 8, 5, generator=generator)
    torch.testing.assert_close(module(x, gallery=y), InfoNCELoss(0.5)(x, gallery=y))
    with torch.no_grad():
        learned.fill_(-9.0)
    assert module.temperature == 0.01  # where CLIP stops
    torch.testing.assert_close(module(x, gallery=y), InfoNCELoss(0.01)(x, gallery=y), rtol=1e-4, atol=1e-4)
    module(x, gallery=y).backward()
    bound = torch.tensor(0.01).log().requires_grad_()
    functional.info_nce_loss(x, gallery=y, temperature=bound.exp()).backward()
    assert bound.grad is not None
    torch.testing.assert_close(learned.grad, bound.grad)  # it comes back from beyond the bound
    assert learned.grad != 0
    with pytest.raises(ValueError, match=r"temperature.*0\.01.*learned.*0\.005"):
        InfoNCELoss(0.005, learn_temperature=True)


@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=case_id)
@pytest.mark.parametrize("soft_margin", [False, True])
@pytest.mark.parametrize("form", ["self", "two-set"])
@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "cosine"])
def test_explicit_triplets(
    metric: str,
    form: str,
    soft_margin: bool,
    dtype: torch.dtype,
    backend: Backend,
    generator: torch.Generator,
) -> None:
    """Each triplet by itself, with its own upstream gradient; rows may occur in many of them."""
    inputs = make_inputs(form, 40, 40, 9, dtype, generator)
    truth, ours = inputs.oracle(), inputs.to(backend.device).leaves()
    a, p, n = torch.randint(0, 40, (3, 150), generator=generator)
    d = distances(truth.embeddings, truth.tensors[-1], metric, normalize=True)
    violation = d[a, p] - d[a, n] + 0.3
    upstream = torch.randn(150, generator=generator, dtype=torch.float64)
    upstream[violation.abs() < TOLERANCES[dtype].gap] = 0
    expected = torch.nn.functional.softplus(violation) if soft_margin else violation.clamp(min=0)

    module = TripletMarginLoss(margin=0.3, soft_margin=soft_margin, metric=metric, reduction="none")
    value = module(
        ours.embeddings, gallery=ours.gallery, triplets=tuple(t.to(backend.device) for t in (a, p, n))
    )
    assert_value_close(value.cpu(), expected, TOLERANCES[dtype])
    value.backward(upstream.to(value))
    expected.backward(upstream)
    for leaf, exact in zip(ours.tensors, truth.tensors, strict=True):
        assert exact.grad is not None
        assert_gradient_close(leaf.grad, exact.grad, TOLERANCES[dtype])


@pytest.mark.parametrize("reduction", ["mean", "mean_active", "sum"])
def test_reductions_of_explicit_triplets(
    reduction: str, backend: Backend, generator: torch.Generator
) -> None:
    x = make_inputs("self", 30, 0, 5, torch.float64, generator).embeddings.to(backend.device)
    triplets = tuple(torch.randint(0, 30, (3, 60), generator=generator).to(backend.device))
    each = functional.triplet_margin_loss(x, triplets=triplets, reduction="none")
    active = each[each > 0]
    assert 0 < len(active) < len(each)
    expected = {"mean": each.mean(), "mean_active": active.mean(), "sum": each.sum()}[reduction]
    torch.testing.assert_close(
        functional.triplet_margin_loss(x, triplets=triplets, reduction=reduction), expected
    )


def test_no_explicit_triplets(backend: Backend) -> None:
    x = torch.rand(4, 3, device=backend.device, requires_grad=True)
    none = torch.empty(0, dtype=torch.int64, device=backend.device)
    value = functional.triplet_margin_loss(x, triplets=(none, none, none), reduction="mean")
    value.backward()
    assert value == 0
    assert x.grad is not None
    assert not x.grad.any()


@pytest.mark.parametrize("form", ["columns", "strided", "expanded"])
def test_explicit_triplets_of_any_strides(form: str, backend: Backend, generator: torch.Generator) -> None:
    """Columns of an [L, 3] tensor are how others hand triplets over."""
    inputs = make_inputs("self", 30, 0, 6, torch.float32, generator).to(backend.device).leaves()
    rows = torch.randint(0, 30, (40, 3), generator=generator).to(backend.device)
    if form == "strided":
        rows = rows[::3]
    elif form == "expanded":
        rows = rows[:1].expand(40, 3)
    loss = TripletMarginLoss(margin=2.0)
    given = loss(inputs.embeddings, triplets=rows.unbind(1))
    given.backward()
    expected = loss(inputs.embeddings, triplets=tuple(column.clone() for column in rows.unbind(1)))
    assert torch.equal(given, expected)


def test_a_missing_index_is_refused_where_no_python_checks_it(backend: Backend) -> None:
    """Under torch.compile only the operator sees the indices; -1 must not mean the last row."""
    if backend.device != "cpu":
        pytest.skip("a GPU's assertion ends its process")
    x = torch.randn(6, 3, device=backend.device)
    first = torch.arange(3, device=backend.device)

    @torch.compile(fullgraph=True, backend="eager")
    def loss(x: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
        return functional.triplet_margin_loss(x, triplets=(first, positive, first + 3))

    with pytest.raises(RuntimeError, match="out of range"):
        loss(x, torch.tensor([1, -1, 2], device=backend.device))


@pytest.mark.parametrize("reduction", ["mean", "mean_active", "sum", "none"])
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("form", ["self", "two-set"])
def test_listed_pairs(
    form: str, power: int, reduction: str, backend: Backend, generator: torch.Generator
) -> None:
    """Each pair by itself, with its own upstream gradient; rows may occur in many of them."""
    inputs = make_inputs(form, 40, 40, 9, torch.float32, generator)
    truth, ours = inputs.oracle(), inputs.to(backend.device).leaves()
    i, j = torch.randint(0, 40, (2, 150), generator=generator)
    same = torch.rand(150, generator=generator) < 0.5
    d = distances(truth.embeddings, truth.tensors[-1], "euclidean", normalize=True)[i, j]
    pull, push = (d - 0.3).clamp(min=0)[same], (1.2 - d).clamp(min=0)[~same]
    each = torch.empty_like(d).masked_scatter(same, pull**power).masked_scatter(~same, push**power)
    expected = {
        "none": each,
        "sum": each.sum(),
        "mean": each.mean(),
        "mean_active": each[same].sum() / (pull > 0).sum() + each[~same].sum() / (push > 0).sum(),
    }[reduction]
    loss = ContrastiveLoss(0.3, 1.2, power=power, reduction=reduction)
    listed = tuple(part.to(backend.device) for part in (i, j, same))
    value = loss(ours.embeddings, gallery=ours.gallery, pairs=listed)
    assert_value_close(value.cpu(), expected, TOLERANCES[torch.float32])
    upstream = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    value.backward(upstream.to(value))
    expected.backward(upstream)
    for leaf, exact in zip(ours.tensors, truth.tensors, strict=True):
        assert exact.grad is not None
        assert_gradient_close(leaf.grad, exact.grad, TOLERANCES[torch.float32])


def test_no_listed_pairs(backend: Backend) -> None:
    x = torch.rand(4, 3, device=backend.device, requires_grad=True)
    none = torch.empty(0, dtype=torch.int64, device=backend.device)
    value = functional.contrastive_loss(x, pairs=(none, none, none.bool()))
    value.backward()
    assert value == 0
    assert x.grad is not None
    assert not x.grad.any()


def test_margin_losss_border_is_a_parameter_a_buffer_or_a_number() -> None:
    learned = MarginLoss(learn_beta=True)
    assert [tuple(p.shape) for p in learned.parameters()] == [()]
    assert [tuple(p.shape) for p in MarginLoss(learn_beta=True, num_classes=7).parameters()] == [(7,)]
    constant = MarginLoss(num_classes=7)
    assert not list(constant.parameters())
    assert tuple(constant.state_dict()["beta"].shape) == (7,)
    assert "beta=1.2" in repr(learned)
    assert "7 numbers" in repr(constant)
