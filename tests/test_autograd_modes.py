"""no_grad, inference_mode, autocast, double backward, odd strides, and inputs left as they were."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from .conftest import Backend
from .gradient_error import assert_gradient_close, assert_value_close
from .inputs import Inputs, make_inputs
from .losses import MAIN_CASES, Loss, Options, case_id, moves_gallery
from .tolerances import TOLERANCES

Case = tuple[Loss, Options]
every_loss = pytest.mark.parametrize("case", MAIN_CASES, ids=case_id)


@every_loss
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_grad(
    case: Case, mode: Callable[[], object], backend: Backend, generator: torch.Generator
) -> None:
    loss, options = case
    inputs = make_inputs("two-set", 33, 20, 8, torch.float32, generator).to(backend.device)
    leaves = inputs.leaves(needs=(True, moves_gallery(options, loss)))
    with mode():  # type: ignore[attr-defined]
        value = loss(leaves, **options)
        assert not value.requires_grad
        inside = loss(Inputs(*(None if t is None else t.clone() for t in vars(inputs).values())), **options)
    tracked = loss(leaves, **options)
    assert tracked.requires_grad
    for other in (value, inside):
        assert_value_close(other, tracked, TOLERANCES[torch.float32])


@every_loss
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("form", ["self", "two-set"])
def test_double_backward_is_refused(
    case: Case, form: str, reduction: str, backend: Backend, generator: torch.Generator
) -> None:
    loss, options = case
    needs = (True, moves_gallery(options, loss))
    inputs = make_inputs(form, 12, 9, 5, torch.float64, generator).to(backend.device).leaves(needs=needs)
    value = loss(inputs, **options, reduction=reduction).square().sum()
    leaves = [t for t in inputs.tensors if t.requires_grad]

    def differentiate_twice() -> None:
        gradients = torch.autograd.grad(value, leaves, create_graph=True)
        torch.autograd.grad(sum(g.square().sum() for g in gradients), leaves)

    with pytest.raises(RuntimeError, match=r"(?i)double.backward|twice|second.(order|derivative)"):
        differentiate_twice()


@every_loss
def test_forward_mode_is_refused(case: Case, backend: Backend, generator: torch.Generator) -> None:
    """No silent zero tangent either."""
    loss, options = case
    inputs = make_inputs("self", 12, 0, 5, torch.float64, generator).to(backend.device)

    def value(x: Tensor) -> Tensor:
        return loss(Inputs(x, inputs.labels), **options)

    with pytest.raises(RuntimeError, match=r"forward.mode"):
        torch.func.jvp(value, (inputs.embeddings,), (torch.ones_like(inputs.embeddings),))


@every_loss
@pytest.mark.parametrize("low", [torch.bfloat16, torch.float16], ids=case_id)
def test_autocast_computes_in_full_precision(
    case: Case, low: torch.dtype, backend: Backend, generator: torch.Generator
) -> None:
    """Under autocast a loss gives what it gives without: nothing of it is cast down."""
    loss, options = case
    inputs = make_inputs("self", 40, 0, 16, torch.float32, generator).to(backend.device)
    plain, cast = inputs.leaves(), inputs.leaves()
    expected = loss(plain, **options)
    expected.backward()
    with torch.autocast(backend.device, dtype=low):
        value = loss(cast, **options)
    value.backward()
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    assert cast.embeddings.grad is not None
    assert plain.embeddings.grad is not None
    assert torch.equal(cast.embeddings.grad, plain.embeddings.grad)


@every_loss
def test_autocast_output_of_a_layer(case: Case, backend: Backend, generator: torch.Generator) -> None:
    """The usual training step: a layer under autocast gives bfloat16, the loss takes it there."""
    loss, options = case
    inputs = make_inputs("self", 32, 0, 16, torch.float32, generator).to(backend.device)
    layer = torch.nn.Linear(16, 16).to(backend.device)
    with torch.autocast(backend.device, dtype=torch.bfloat16):
        embeddings = layer(inputs.embeddings)
        value = loss(Inputs(embeddings, inputs.labels), **options)
    assert embeddings.dtype == torch.bfloat16
    assert value.dtype == torch.float32
    value.backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.isfinite().all()
    assert layer.weight.grad.any()


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda x: x.t().contiguous().t(),
    "every other column": lambda x: torch.stack([x, torch.full_like(x, torch.nan)], 2).flatten(1)[:, ::2],
    "every other row": lambda x: torch.stack([x, torch.full_like(x, torch.nan)], 1).flatten(0, 1)[::2],
    "inside a wider storage": lambda x: torch.nn.functional.pad(x, (3, 2, 1, 4), value=torch.nan)[1:-4, 3:-2],
    "odd storage offset": lambda x: torch.cat([x.new_full((1,), torch.nan), x.flatten()])[1:].view_as(x),
}


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=case_id)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides(
    case: Case, layout: str, dtype: torch.dtype, backend: Backend, generator: torch.Generator
) -> None:
    loss, options = case
    inputs = make_inputs("two-set", 37, 70, 9, dtype, generator).to(backend.device)
    assert inputs.gallery is not None
    strided = Inputs(
        LAYOUTS[layout](inputs.embeddings),
        inputs.labels,
        LAYOUTS[layout](inputs.gallery),
        inputs.gallery_labels,
    )
    needs_gallery = moves_gallery(options, loss)
    results = []
    for given in (inputs, strided):
        x = given.embeddings.detach().requires_grad_()
        y = given.gallery.detach().requires_grad_(needs_gallery)  # type: ignore[union-attr]
        value = loss(Inputs(x, given.labels, y, given.gallery_labels), **options)
        value.backward()
        results.append([value, x.grad, y.grad] if needs_gallery else [value, x.grad])
    assert torch.equal(strided.embeddings, inputs.embeddings)
    for plain, other in zip(*results, strict=True):
        assert_gradient_close(other, plain, TOLERANCES[dtype], layout)


@every_loss
def test_expanded_rows_and_labels(case: Case, backend: Backend) -> None:
    """Stride 0: one embedding and one label repeated."""
    loss, options = case
    row, label = torch.rand(1, 6, dtype=torch.float64), torch.tensor([5])
    dense = Inputs(row.repeat(9, 1), label.repeat(9)).to(backend.device)
    expanded = Inputs(row.to(backend.device).expand(9, 6), label.to(backend.device).expand(9))
    assert_value_close(loss(expanded, **options), loss(dense, **options), TOLERANCES[torch.float64])


@every_loss
@pytest.mark.parametrize("form", ["self", "two-set"])
def test_inputs_are_not_modified(case: Case, form: str, backend: Backend, generator: torch.Generator) -> None:
    loss, options = case
    leaves = make_inputs(form, 65, 30, 8, torch.float32, generator).to(backend.device)
    leaves = leaves.leaves(needs=(True, moves_gallery(options, loss)))
    given = [t for t in vars(leaves).values() if t is not None]
    before = [t.detach().clone() for t in given]
    versions = [t._version for t in given]
    value = loss(leaves, **options, reduction="none")
    upstream = torch.randn(len(value), generator=generator).to(value)
    kept = upstream.clone()
    value.backward(upstream)
    assert [t._version for t in given] == versions
    assert all(torch.equal(t.detach(), b) for t, b in zip(given, before, strict=True))
    assert torch.equal(upstream, kept)
