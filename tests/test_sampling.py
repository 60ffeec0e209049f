"""mining.random and mining.distance_weighted: the distribution, the negative for a draw, the same from a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fused_rank import mining
from fused_rank.mining import Triplets

from .conftest import Backend
from .inputs import Inputs, make_inputs
from .losses import case_id
from .oracle import distances, pairs
from .tolerances import TOLERANCES

forms = pytest.mark.parametrize("form", ["self", "two-set", "plain"])
samplers = pytest.mark.parametrize("sampler", [mining.random, mining.distance_weighted])
Sampler = Callable[..., Triplets]


def on(backend: Backend) -> torch.dtype:
    return torch.float32 if backend.name == "triton" else torch.float64


def call(sampler: Sampler, inputs: Inputs, backend: Backend, seed: int = 0, **options: Any) -> Triplets:
    ours = inputs.to(backend.device)
    generator = torch.Generator(backend.device).manual_seed(seed)
    found = sampler(ours.embeddings, ours.labels, **ours.keywords, generator=generator, **options)
    return Triplets(*(t.cpu() for t in found))


def masks(inputs: Inputs) -> tuple[Tensor, Tensor]:
    m, n = len(inputs.embeddings), len(inputs.tensors[-1])
    return pairs(inputs.labels, inputs.gallery_labels, m, n, inputs.gallery is None)


def positive_pairs(inputs: Inputs) -> Tensor:
    """(anchor, positive) of anchors that have a negative, [2, L], by anchor, then positive."""
    positive, negative = masks(inputs)
    return (positive & negative.any(1, keepdim=True)).nonzero().T


@samplers
@forms
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (65, 63), (130, 257)], ids=str)
def test_one_negative_for_every_positive_pair(
    shape: tuple[int, int], form: str, sampler: Sampler, backend: Backend, generator: torch.Generator
) -> None:
    inputs = make_inputs(form, *shape, 13, on(backend), generator)
    found = call(sampler, inputs, backend)
    assert all(t.dtype == torch.int64 for t in found)
    assert torch.equal(torch.stack(found[:2]), positive_pairs(inputs))
    assert masks(inputs)[1][found.anchor, found.negative].all()


@samplers
def test_the_same_seed_gives_the_same_and_another_does_not(
    sampler: Sampler, backend: Backend, generator: torch.Generator
) -> None:
    inputs = make_inputs("self", 80, 0, 9, on(backend), generator)
    first, again, other = (call(sampler, inputs, backend, seed) for seed in (3, 3, 4))
    assert torch.equal(first.negative, again.negative)
    assert not torch.equal(first.negative, other.negative)


@samplers
def test_one_class_alone_has_no_triplets(sampler: Sampler, backend: Backend) -> None:
    inputs = Inputs(torch.randn(5, 3, dtype=on(backend)), torch.zeros(5, dtype=torch.int64))
    assert [len(t) for t in call(sampler, inputs, backend)] == [0, 0, 0]


def excess(observed: Tensor, probability: Tensor) -> float:
    """How many standard deviations Pearson's chi-square lies above its mean, over cells expected five times or more."""
    expected = probability * observed.sum()
    cells = expected >= 5
    assert observed[probability == 0].sum() == 0
    statistic = float(((observed - expected)[cells] ** 2 / expected[cells]).sum())
    freedom = int(cells.sum()) - 1
    assert freedom >= 5
    return (statistic - freedom) / (2 * freedom) ** 0.5


def counts(sampler: Sampler, inputs: Inputs, backend: Backend, anchor: int, **options: Any) -> Tensor:
    """How often each gallery row was drawn for one anchor."""
    total = torch.zeros(len(inputs.tensors[-1]))
    for seed in range(30):
        found = call(sampler, inputs, backend, seed, **options)
        total += torch.bincount(found.negative[found.anchor == anchor], minlength=len(total))
    return total


def crowded(backend: Backend, generator: torch.Generator) -> Inputs:
    """One class of half the rows: many draws for each of its anchors."""
    labels = torch.cat([torch.zeros(60, dtype=torch.int64), torch.arange(1, 31).repeat(2)])
    labels = labels[torch.randperm(len(labels), generator=generator)]
    x = torch.randn(len(labels), 6, generator=generator, dtype=torch.float64) + 0.8
    return Inputs(x.to(on(backend)), labels)


def test_random_negatives_are_uniform(backend: Backend, generator: torch.Generator) -> None:
    inputs = crowded(backend, generator)
    _, negative = masks(inputs)
    anchor = int((inputs.labels == 0).nonzero()[0])
    probability = negative[anchor] / negative[anchor].sum()
    assert abs(excess(counts(mining.random, inputs, backend, anchor), probability)) < 4


def weights(inputs: Inputs, cutoff: float = 0.5, limit: float = 1.4) -> Tensor:
    """The paper's weights by their definition, fp64."""
    truth = inputs.oracle()
    y = truth.embeddings if truth.gallery is None else truth.gallery
    d = distances(truth.embeddings, y, normalize=True).detach()
    width = d.new_tensor(float(truth.embeddings.shape[1]))
    near = d.clamp(min=cutoff)
    density = near ** (width - 2) * (1 - near**2 / 4).clamp(min=1e-8) ** ((width - 3) / 2)
    negative = masks(inputs)[1]
    weight = (1 / density).masked_fill(~negative | (d >= limit), 0)
    return torch.where(weight.any(1, keepdim=True), weight, negative.double())


@pytest.mark.parametrize("limits", [(0.5, 1.4), (0.2, 0.9), (1.0, 5.0)], ids=str)
def test_negatives_are_drawn_by_their_weights(
    limits: tuple[float, float], backend: Backend, generator: torch.Generator
) -> None:
    inputs = crowded(backend, generator)
    weight = weights(inputs, *limits)
    options = dict(zip(("cutoff", "nonzero_loss_cutoff"), limits, strict=True))
    for anchor in (inputs.labels == 0).nonzero().flatten()[:2].tolist():  # type: ignore[union-attr]
        probability = weight[anchor] / weight[anchor].sum()
        drawn = counts(mining.distance_weighted, inputs, backend, anchor, **options)
        assert abs(excess(drawn, probability)) < 4


@forms
@pytest.mark.parametrize("dtype", list(TOLERANCES), ids=case_id)
@pytest.mark.parametrize("width", [1, 2, 3, 40, 300])
def test_a_draw_inverts_the_cumulative_weights(
    width: int, dtype: torch.dtype, form: str, backend: Backend, generator: torch.Generator
) -> None:
    inputs = make_inputs(form, 90, 110, width, dtype, generator, per_class=9)
    found = call(mining.distance_weighted, inputs, backend, seed=5)
    expected_pairs = positive_pairs(inputs)
    assert torch.equal(torch.stack(found[:2]), expected_pairs)
    draws = torch.rand(
        int(masks(inputs)[0].sum()),
        dtype=torch.float64,
        device=backend.device,
        generator=torch.Generator(backend.device).manual_seed(5),
    ).cpu()[masks(inputs)[1].any(1)[masks(inputs)[0].nonzero()[:, 0]]]
    others = inputs.labels if inputs.gallery_labels is None else inputs.gallery_labels
    columns = torch.arange(len(inputs.tensors[-1])) if others is None else others.argsort(stable=True)
    share = weights(inputs)[:, columns].cumsum(1)
    share /= share[:, -1:]
    place = columns.argsort()[found.negative]
    above = share[found.anchor, place] - draws
    before = torch.where(place > 0, share[found.anchor, (place - 1).clamp(min=0)], 0) - draws
    slack = 1e-9 if dtype == torch.float64 else 2e-4
    # a distance at the limit may fall on either side of it in fp32: such rows are left to fp64
    d = distances(*(t.double() for t in (inputs.tensors * 2)[:2]), normalize=True)
    clear = ((d - 1.4).abs().amin(1) > (1e-9 if dtype == torch.float64 else 1e-5))[found.anchor]
    assert clear.double().mean() > 0.5
    assert (above[clear] >= -slack).all()
    assert (before[clear] <= slack).all()


def test_all_beyond_the_limit_are_drawn_uniformly(backend: Backend) -> None:
    x = torch.eye(40, dtype=on(backend))  # every distance is √2
    inputs = Inputs(x, torch.arange(40) // 20)
    probability = (inputs.labels != 0).double() / 20  # type: ignore[union-attr]
    assert abs(excess(counts(mining.distance_weighted, inputs, backend, 0), probability)) < 4


def test_rows_that_are_not_finite_are_never_drawn(backend: Backend, generator: torch.Generator) -> None:
    inputs = make_inputs("self", 60, 0, 5, torch.float32, generator)
    inputs.embeddings[11] = torch.inf
    found = call(mining.distance_weighted, inputs, backend)
    assert not (found.negative == 11).any()
    assert not (found.anchor == 11).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cutoff": 0}, "cutoff: expected a finite number > 0, got 0"),
        ({"cutoff": "near"}, "cutoff: expected a number, got str"),
        ({"nonzero_loss_cutoff": -1.0}, "nonzero_loss_cutoff: expected a finite number >= 0"),
    ],
    ids=str,
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        mining.distance_weighted(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), **options)
