"""Same inputs, same bits: over runs, threads or orders of a GPU's programs, with NaN in every uninitialised tensor."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from fused_rank import mining, retrieval

from .conftest import Backend
from .inputs import Inputs, make_inputs
from .losses import MAIN_CASES, TRIPLET, Loss, Options, case_id, moves_gallery

Case = tuple[Loss, Options]
CASES: list[Case] = [*MAIN_CASES, (TRIPLET, {"mining": "semihard_all", "soft_margin": True})]
every_case = pytest.mark.parametrize("case", CASES, ids=case_id)
forms = pytest.mark.parametrize("form", ["self", "two-set"])
reductions = pytest.mark.parametrize("reduction", ["mean", "none"])


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def poisoned() -> Iterator[None]:
    """Every torch.empty is filled with NaN (or the largest integer)."""
    assert torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    assert torch.empty(4).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)


def outcome(case: Case, reduction: str, inputs: Inputs) -> list[Tensor]:
    """The loss and all gradients."""
    loss, options = case
    leaves = inputs.leaves(needs=(True, moves_gallery(options, loss)))
    value = loss(leaves, **options, reduction=reduction)
    value.backward(torch.linspace(-1, 2, value.numel()).view_as(value).to(value))
    return [value.detach(), *(t.grad for t in leaves.tensors if t.grad is not None)]


def assert_same_bits(first: list[Tensor], second: list[Tensor]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b), f"{int((a != b).sum())} of {a.numel()} elements differ"


def several_tiles(form: str, generator: torch.Generator, backend: Backend) -> Inputs:
    m, n = (150, 190) if backend.interpreted else (530, 390)
    return make_inputs(form, m, n, 24, torch.float32, generator, per_class=7).to(backend.device)


@contextmanager
def schedule(number: int, backend: Backend) -> Iterator[None]:
    """One of several ways to spread the same work: a number of threads, or an order of programs."""
    if backend.interpreted:
        from .gpu import strict_interpreter

        with strict_interpreter.options(seed=number):
            yield
    else:
        torch.set_num_threads(number)
        yield


@every_case
@forms
@reductions
def test_runs_and_threads(
    case: Case, form: str, reduction: str, backend: Backend, generator: torch.Generator, threads: None
) -> None:
    inputs = several_tiles(form, generator, backend)
    first = outcome(case, reduction, inputs)
    assert_same_bits(first, outcome(case, reduction, inputs))
    if backend.device == "cpu" and backend.name != "eager":  # eager is at the mercy of torch's own products
        for number in (1, 2, 3):
            with schedule(number, backend):
                assert_same_bits(first, outcome(case, reduction, inputs))


def test_threads_for_mining_and_retrieval(
    backend: Backend, generator: torch.Generator, threads: None
) -> None:
    inputs = several_tiles("two-set", generator, backend)
    results = []
    for number in (1, 2, 3):
        with schedule(number, backend):
            hard = mining.hard(inputs.embeddings, inputs.labels, **inputs.keywords)
            semihard = mining.semihard(inputs.embeddings, inputs.labels, **inputs.keywords)
            values, indices = retrieval.topk(inputs.embeddings, inputs.gallery, 7)
        results.append([*hard, *semihard, indices, *([] if backend.name == "eager" else [values])])
    assert_same_bits(results[0], results[1])
    assert_same_bits(results[0], results[2])


@every_case
@forms
@reductions
def test_poisoned_scratch(
    case: Case,
    form: str,
    reduction: str,
    backend: Backend,
    generator: torch.Generator,
    request: pytest.FixtureRequest,
) -> None:
    """Nothing reads what nobody wrote; and torch's deterministic mode is served."""
    inputs = several_tiles(form, generator, backend)
    clean = outcome(case, reduction, inputs)
    request.getfixturevalue("poisoned")
    assert_same_bits(clean, outcome(case, reduction, inputs))


def test_poisoned_scratch_of_mining_and_retrieval(
    backend: Backend, generator: torch.Generator, request: pytest.FixtureRequest
) -> None:
    inputs = several_tiles("self", generator, backend)

    def results() -> list[Tensor]:
        hard = mining.hard(inputs.embeddings, inputs.labels)
        semihard = mining.semihard(inputs.embeddings, inputs.labels)
        return [*hard, *semihard, *retrieval.topk(inputs.embeddings, inputs.embeddings, 5, exclude_self=True)]

    clean = results()
    request.getfixturevalue("poisoned")
    assert_same_bits(clean, results())
