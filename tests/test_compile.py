"""torch.compile(fullgraph=True): one graph, equal to eager mode, with static and dynamic batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from .conftest import Backend
from .gradient_error import assert_gradient_close, assert_value_close
from .inputs import Inputs, make_inputs
from .losses import (
    ANGULAR,
    CONTRASTIVE,
    MAIN_CASES,
    N_PAIRS,
    RANKED_LIST,
    TRIPLET,
    Loss,
    Options,
    case_id,
    moves_gallery,
)
from .tolerances import TOLERANCES

Case = tuple[Loss, Options]
# Lists of pairs have a length that labels decide, and break the graph.
LISTED: list[Case] = [
    (ANGULAR, {"pairs": "all"}),
    (ANGULAR, {"pairs": "unique", "npairs_weight": 1.0}),
    (N_PAIRS, {"pairs": "unique"}),
]
IN_ONE_GRAPH = [case for case in MAIN_CASES if case not in LISTED]
Step = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor]


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def step(loss: Loss, options: Options) -> Step:
    """A loss amid other operations, as in a training step."""
    module = loss.module(**options)

    def run(
        x: Tensor, labels: Tensor, gallery: Tensor | None = None, gallery_labels: Tensor | None = None
    ) -> Tensor:
        form = {} if gallery is None else {"gallery": gallery.tanh(), "gallery_labels": gallery_labels}
        value: Tensor = module(x.tanh(), labels, **form)
        return value * 2

    return run


def assert_same(compiled: Step, plain: Step, inputs: Inputs, needs: tuple[bool, bool]) -> None:
    results = []
    for function in (compiled, plain):
        leaves = inputs.leaves(needs=needs)
        assert leaves.labels is not None
        value = function(leaves.embeddings, leaves.labels, leaves.gallery, leaves.gallery_labels)
        value.sum().backward()
        results.append((value, [t.grad for t in leaves.tensors if t.requires_grad]))
    (value, gradients), (expected, wanted) = results
    tolerance = TOLERANCES[inputs.embeddings.dtype]
    assert_value_close(value, expected, tolerance)
    for actual, exact in zip(gradients, wanted, strict=True):
        assert exact is not None
        assert_gradient_close(actual, exact, tolerance)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("form", ["self", "two-set"])
@pytest.mark.parametrize("case", IN_ONE_GRAPH, ids=case_id)
def test_static(case: Case, form: str, reduction: str, backend: Backend, generator: torch.Generator) -> None:
    loss, options = case
    needs = (True, moves_gallery(options, loss))
    function = step(loss, {**options, "reduction": reduction})
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    inputs = make_inputs(form, 24, 33, 8, torch.float32, generator).to(backend.device)
    loss.admit(inputs)
    assert_same(compiled, function, inputs, needs)


@pytest.mark.parametrize("set_against_itself", [False, True], ids=["two views", "one set twice"])
@pytest.mark.parametrize("case", IN_ONE_GRAPH, ids=case_id)
def test_one_tensor_for_two_arguments(
    case: Case, set_against_itself: bool, backend: Backend, generator: torch.Generator
) -> None:
    """Views of the same rows share their labels."""
    loss, options = case
    inputs = make_inputs("self", 24, 24, 8, torch.float32, generator).to(backend.device)
    loss.admit(inputs)
    x, labels = inputs.embeddings, inputs.labels
    module, found = loss.module(**options), []
    for function in (module, torch.compile(module, fullgraph=True, backend="aot_eager")):
        rows = x.clone().requires_grad_()
        frozen = set_against_itself and not moves_gallery(options, loss)
        other = rows if set_against_itself and not frozen else x.roll(1, 0)
        value = function(rows, labels, gallery=other, gallery_labels=labels)
        found.append((value, torch.autograd.grad(value, rows)[0]))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["self", "two-set"])
@pytest.mark.parametrize("case", IN_ONE_GRAPH, ids=case_id)
def test_dynamic_batch(case: Case, form: str, backend: Backend, generator: torch.Generator) -> None:
    """Batches of many sizes through one compiled graph."""
    loss, options = case
    needs = (True, moves_gallery(options, loss))
    function = step(loss, {**options, "reduction": "none"})
    graphs = 0

    def counting(graph: torch.fx.GraphModule, example: list[Tensor]) -> Callable[..., object]:
        nonlocal graphs
        graphs += 1
        return torch._dynamo.lookup_backend("aot_eager")(graph, example)  # type: ignore[no-any-return]

    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend=counting)
    after_first = 0
    for m, n in ((24, 33), (70, 17), (130, 66)):
        inputs = make_inputs(form, m, n, 8, torch.float32, generator).to(backend.device)
        loss.admit(inputs)
        assert_same(compiled, function, inputs, needs)
        after_first = after_first or graphs
    assert graphs == after_first  # the first call may trace twice, to make the options constants


@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("form", ["self", "two-set"])
@pytest.mark.parametrize("case", LISTED, ids=case_id)
def test_with_breaks(
    case: Case, form: str, dynamic: bool, backend: Backend, generator: torch.Generator
) -> None:
    loss, options = case
    function = step(loss, options)
    compiled = torch.compile(function, dynamic=dynamic, backend="aot_eager")
    for m, n in ((24, 33), (70, 17)):
        inputs = make_inputs(form, m, n, 8, torch.float32, generator).to(backend.device)
        assert_same(compiled, function, inputs, (True, True))


@pytest.mark.parametrize("loss", [RANKED_LIST, CONTRASTIVE, TRIPLET], ids=case_id)
def test_inductor(loss: Loss, backend: Backend, generator: torch.Generator) -> None:
    function = step(loss, {})
    inputs = make_inputs("self", 24, 0, 8, torch.float32, generator).to(backend.device)
    with torch._inductor.config.patch(force_disable_caches=True):  # they don't notice a changed fake
        assert_same(torch.compile(function, fullgraph=True), function, inputs, (True, False))


def test_without_grad(backend: Backend, generator: torch.Generator) -> None:
    function = step(RANKED_LIST, {})
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    inputs = make_inputs("self", 24, 0, 8, torch.float32, generator).to(backend.device)
    assert inputs.labels is not None
    with torch.no_grad():
        assert_value_close(
            compiled(inputs.embeddings, inputs.labels, None, None),
            function(inputs.embeddings, inputs.labels, None, None),
            TOLERANCES[torch.float32],
        )


def test_autocast(backend: Backend, generator: torch.Generator) -> None:
    layer = torch.nn.Linear(8, 8).to(backend.device)
    function = step(RANKED_LIST, {"gradient": "exact"})

    def training_step(x: Tensor, labels: Tensor, *_: Tensor | None) -> Tensor:
        with torch.autocast(backend.device, dtype=torch.bfloat16):
            return function(layer(x), labels, None, None)

    compiled = torch.compile(training_step, fullgraph=True, backend="aot_eager")
    inputs = make_inputs("self", 24, 0, 8, torch.float32, generator).to(backend.device)
    assert_same(compiled, training_step, inputs, (True, False))
