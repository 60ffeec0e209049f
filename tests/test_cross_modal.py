"""Triplets between two sets: negatives of another space, the guard, both directions, one side frozen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fused_rank import TripletMarginLoss, functional, reference
from fused_rank.ops.dispatch import BACKENDS
from fused_rank.ops.triplet import triplet_rows

from .conftest import Backend
from .gradient_error import assert_gradient_close, assert_value_close
from .inputs import Inputs, make_inputs
from .oracle import distances, pairs
from .tolerances import TOLERANCES

forms = pytest.mark.parametrize("form", ["self", "two-set", "plain"])
two_sets = pytest.mark.parametrize("form", ["two-set", "plain"])
minings = pytest.mark.parametrize("mining", ["hard", "semihard"])
METRICS = [("euclidean", True), ("euclidean", False), ("sqeuclidean", False), ("cosine", True)]
metrics = pytest.mark.parametrize("metric", METRICS, ids=str)


def best(members: list[int], key: list[float], *, farthest: bool = False) -> int:
    """The lowest index among equals."""
    return min(members, key=lambda j: (-key[j] if farthest else key[j], j))


def chosen(
    inputs: Inputs, judge: Tensor | None, guard: float, mining: str, metric: tuple[str, bool]
) -> list[tuple[int, int, int]]:
    """Every triplet by exhaustive search in fp64, from the definition."""
    x = inputs.embeddings.detach()
    y = x if inputs.gallery is None else inputs.gallery.detach()
    same, other = pairs(inputs.labels, inputs.gallery_labels, len(x), len(y), inputs.gallery is None)
    d = distances(x, y, *metric).tolist()
    rows = y if judge is None else judge.double()
    beyond = distances(rows, rows, *metric).tolist()
    triplets = []
    for a in range(len(x)):
        positives, negatives = same[a].nonzero().flatten().tolist(), other[a].nonzero().flatten().tolist()
        if mining == "hard" and positives:
            positives = [best(positives, d[a], farthest=True)]
        for p in positives:
            allowed = [n for n in negatives if beyond[p][n] >= guard]
            key = d[a] if judge is None else beyond[p]
            if mining == "semihard" and not any(d[a][n] > d[a][p] for n in allowed):
                triplets += [(a, p, best(allowed, d[a], farthest=True))] if allowed else []
                continue
            suitable = [n for n in allowed if mining == "hard" or d[a][n] > d[a][p]]
            triplets += [(a, p, best(suitable, key))] if suitable else []
    return triplets


def expected(
    truth: Inputs, triplets: list[tuple[int, int, int]], metric: tuple[str, bool], margin: float
) -> Tensor:
    """[M]: the mean over each anchor's triplets, differentiable."""
    d = distances(truth.embeddings, truth.tensors[-1], *metric)
    losses: list[list[Tensor]] = [[] for _ in truth.embeddings]
    for a, p, n in triplets:
        losses[a].append((d[a, p] - d[a, n] + margin).clamp(min=0))
    return torch.stack([torch.stack(own).mean() if own else d.sum() * 0 for own in losses])


def quantile_of(rows: Tensor, metric: tuple[str, bool], share: float) -> float:
    """A distance that a share of the pairs is nearer than, between two that occur."""
    d = distances(rows.double(), rows.double(), *metric)
    values = d[~torch.eye(len(d), dtype=torch.bool)].unique()
    at = int(share * len(values))
    return float(values[at : at + 2].mean())


@pytest.mark.parametrize("case", ["judge", "guard", "both"])
@minings
@forms
@metrics
def test_against_exhaustive_search(
    metric: tuple[Any, bool], form: str, mining: Any, case: str, backend: Backend, generator: torch.Generator
) -> None:
    """Per-anchor losses and gradients; the mining space has a width and a dtype of its own."""
    dtype = torch.float32 if backend.name == "triton" else torch.float64
    inputs = make_inputs(form, 41, 37, 9, dtype, generator, per_class=3)
    truth, ours = inputs.oracle(), inputs.to(backend.device).leaves()
    candidates = inputs.tensors[-1]
    judge = None if case == "guard" else torch.randn(len(candidates), 5, generator=generator)
    guard = quantile_of(candidates if judge is None else judge, metric, 0.25) if case != "judge" else None
    triplets = chosen(truth, judge, guard or 0.0, mining, metric)
    if guard is not None:
        assert triplets != chosen(truth, judge, 0.0, mining, metric)

    value = functional.triplet_margin_loss(
        ours.embeddings,
        ours.labels,
        **ours.keywords,
        mining_embeddings=None if judge is None else judge.to(backend.device),
        exclude_closer_than=guard,
        margin=0.7,
        mining=mining,
        metric=metric[0],
        normalize=metric[1],
        reduction="none",
    )
    exact = expected(truth, triplets, metric, 0.7)
    assert_value_close(value.cpu(), exact, TOLERANCES[dtype])
    upstream = torch.rand(len(exact), generator=generator, dtype=torch.float64)
    value.backward(upstream.to(value))
    exact.backward(upstream)
    for leaf, theirs in zip(ours.tensors, truth.tensors, strict=True):
        assert_gradient_close(leaf.grad.cpu(), theirs.grad, TOLERANCES[dtype])


OPTIONS: list[dict[str, Any]] = [
    {"mining": "hard"},
    {"mining": "semihard", "exclude_closer_than": 0.9},
    {"mining": "hard", "exclude_closer_than": 0.9, "soft_margin": True},
    {"mining": "all"},
    {"mining": "semihard_all"},
]


@pytest.mark.parametrize("reduction", ["mean", "mean_active", "sum", "none"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@two_sets
def test_symmetric_is_both_directions(
    form: str, options: dict[str, Any], reduction: Any, backend: Backend, generator: torch.Generator
) -> None:
    dtype = torch.float32 if backend.name == "triton" else torch.float64
    inputs = make_inputs(form, 30, 23, 7, dtype, generator).to(backend.device)
    ours, theirs = inputs.leaves(), inputs.oracle()
    value = TripletMarginLoss(**options, symmetric=True, reduction=reduction)(
        ours.embeddings, ours.labels, **ours.keywords
    )
    dense = reference.triplet_margin_loss(
        theirs.embeddings,
        theirs.labels,
        **theirs.keywords,
        **options,
        symmetric=True,
        reduction=reduction,
        pairwise=distances,
    )
    assert value.shape == dense.shape
    assert_value_close(value.cpu(), dense, TOLERANCES[dtype])
    upstream = torch.rand(dense.shape, generator=generator, dtype=torch.float64)
    value.backward(upstream.to(value))
    dense.backward(upstream)
    for leaf, exact in zip(ours.tensors, theirs.tensors, strict=True):
        assert_gradient_close(leaf.grad.cpu(), exact.grad, TOLERANCES[dtype])


@pytest.mark.parametrize("batch", ["ragged", "many positives", "copies", "a row of NaN", "strangers"])
@two_sets
def test_mining_both_ways_is_mining_each_way(
    form: str, batch: str, backend: Backend, generator: torch.Generator
) -> None:
    """Of the operators themselves: the same triplets, bit for bit, from one sweep as from two."""
    shape = (90, 71, 7) if backend.interpreted else (330, 197, 7)
    per_class = shape[0] if batch == "many positives" else 4
    inputs = make_inputs(form, *shape, torch.float32, generator, per_class=per_class).to(backend.device)
    x, y = inputs.tensors
    if batch == "copies":  # distances on a lattice tie
        x, y = x.round(), y.round()
    if batch == "a row of NaN":
        x[5] = torch.nan
        y[9, 0] = torch.inf
    if batch == "strangers" and inputs.labels is not None:  # no positive on the other side
        inputs.labels[::2] += 1000
    operators, options = BACKENDS[backend.name], ("sqeuclidean", False)
    there = (x, inputs.labels, y, inputs.gallery_labels, *options)
    back = (y, inputs.gallery_labels, x, inputs.labels, *options)
    for both, *each in zip(
        operators.mine_hard(*there, True),
        operators.mine_hard(*there),
        operators.mine_hard(*back),
        strict=True,
    ):
        assert torch.equal(both, torch.cat(each))
    first, second = operators.mine_semihard(*there), operators.mine_semihard(*back)
    second = (second[0] + len(x), *second[1:])
    for both, *each in zip(operators.mine_semihard(*there, True), first, second, strict=True):
        assert torch.equal(both, torch.cat(each))


@pytest.mark.parametrize("mining", ["all", "semihard_all"])
@pytest.mark.parametrize("batch", ["ragged", "many positives", "a row of NaN", "strangers", "half precision"])
@two_sets
def test_every_triplet_both_ways_is_each_way(
    form: str, batch: str, mining: Any, backend: Backend, generator: torch.Generator
) -> None:
    """Values and gradients under weights of the rows' own, from one sweep as from two."""
    shape = (90, 71, 7) if backend.interpreted else (330, 197, 7)
    per_class = shape[0] if batch == "many positives" else 4
    inputs = make_inputs(form, *shape, torch.float32, generator, per_class=per_class).to(backend.device)
    x, y = inputs.tensors
    if batch == "a row of NaN":
        y[9, 0] = torch.nan
    if batch == "strangers" and inputs.labels is not None:
        inputs.labels[::2] += 1000
    if batch == "half precision":
        x, y = x.bfloat16(), y.bfloat16()
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    options = (mining, 0.4, False, "euclidean", True)
    there, back = (x, inputs.labels, y, inputs.gallery_labels), (y, inputs.gallery_labels, x, inputs.labels)
    both = triplet_rows(*there, *options, symmetric=True)
    each = [
        torch.cat(parts, 1)
        for parts in zip(triplet_rows(*there, *options), triplet_rows(*back, *options), strict=True)
    ]
    torch.testing.assert_close(tuple(both), tuple(each), rtol=2e-5, atol=1e-5, equal_nan=True)
    upstream = torch.rand(both.sums.shape, generator=generator).to(backend.device)
    found = torch.autograd.grad(both.sums, (x, y), upstream)
    expected = torch.autograd.grad(each[0], (x, y), upstream)
    close = 1e-2 if batch == "half precision" else 2e-5
    for ours, theirs in zip(found, expected, strict=True):
        scale = theirs.nan_to_num().abs().max().item()
        torch.testing.assert_close(ours, theirs, rtol=close, atol=close * scale, equal_nan=True)


@minings
@forms
def test_the_reference_judges_alike(form: str, mining: Any, generator: torch.Generator) -> None:
    truth = make_inputs(form, 31, 26, 6, torch.float64, generator, per_class=3).oracle()
    for judge in (None, torch.randn(len(truth.tensors[-1]), 4, generator=generator, dtype=torch.float64)):
        dense = reference.triplet_margin_loss(
            truth.embeddings,
            truth.labels,
            **truth.keywords,
            mining_embeddings=judge,
            mining=mining,
            exclude_closer_than=0.8,
            reduction="none",
        )
        triplets = chosen(truth, judge, 0.8, mining, ("euclidean", True))
        exact = expected(truth, triplets, ("euclidean", True), 0.2)
        torch.testing.assert_close(dense, exact, rtol=1e-9, atol=1e-12)


def test_pairs_described_once_serve_both_directions(backend: Backend, generator: torch.Generator) -> None:
    inputs = make_inputs("plain", 25, 0, 6, torch.float32, generator).to(backend.device)
    x, y = inputs.embeddings, inputs.gallery
    judge = torch.randn(25, 4, generator=generator).to(backend.device)
    given: dict[str, Any] = {"mining_embeddings": judge, "mining": "hard", "exclude_closer_than": 0.3}
    there = functional.triplet_margin_loss(x, gallery=y, **given, reduction="none")
    back = functional.triplet_margin_loss(y, gallery=x, **given, reduction="none")
    both = functional.triplet_margin_loss(x, gallery=y, **given, symmetric=True, reduction="none")
    assert torch.equal(both, torch.cat((there, back)))


@minings
def test_copies_of_the_positive_are_never_negatives(
    mining: Any, backend: Backend, generator: torch.Generator
) -> None:
    """Captions that occur twice: the smallest guard takes the copy out, and nothing else."""
    texts = torch.randn(12, 6, generator=generator)
    texts = torch.cat((texts, texts)).to(backend.device)
    images = torch.randn(24, 6, generator=generator).to(backend.device)
    unguarded = functional.triplet_margin_loss(
        images, gallery=texts, mining_embeddings=texts, mining="hard", margin=0.0, reduction="none"
    )
    assert not unguarded.any()  # every negative is the positive's copy
    value = functional.triplet_margin_loss(
        images, gallery=texts, mining=mining, exclude_closer_than=1e-3, margin=5.0, reduction="none"
    )
    d = distances(images.cpu().double(), texts.cpu().double(), "euclidean", True)
    index = torch.arange(24)
    d_ap = d[index, index]
    others = d.clone()
    others[index, index] = others[index, (index + 12) % 24] = torch.inf
    nearest = others.amin(1)
    if mining == "semihard":
        farther = others.masked_fill(others <= d_ap[:, None], torch.inf).amin(1)
        farthest = others.masked_fill(others == torch.inf, -1).amax(1)
        nearest = torch.where(farther == torch.inf, farthest, farther)
    assert_value_close(value.cpu(), d_ap - nearest + 5, TOLERANCES[torch.float32])


def test_a_guard_that_lets_nothing_through(backend: Backend, generator: torch.Generator) -> None:
    inputs = make_inputs("plain", 8, 0, 4, torch.float32, generator).to(backend.device).leaves()
    for judge in (None, inputs.gallery):
        value = functional.triplet_margin_loss(
            inputs.embeddings, gallery=inputs.gallery, mining_embeddings=judge, exclude_closer_than=3.0
        )
        value.backward()
        assert value == 0
        assert not inputs.embeddings.grad.any()


@minings
def test_rows_that_are_not_finite_are_seen(mining: Any, backend: Backend, generator: torch.Generator) -> None:
    inputs = make_inputs("two-set", 20, 20, 4, torch.float32, generator).to(backend.device)
    judge = inputs.gallery.clone()
    judge[3, 1] = torch.inf
    for given in (
        {"mining_embeddings": judge},
        {"gallery": judge, "exclude_closer_than": 0.1},
        {"gallery": judge, "mining_embeddings": inputs.gallery},
    ):
        value = functional.triplet_margin_loss(
            inputs.embeddings, inputs.labels, **{**inputs.keywords, **given}, mining=mining
        )
        assert value.isnan()


@pytest.mark.parametrize("needs", [(True, False), (False, True)], ids=["gallery frozen", "queries frozen"])
@pytest.mark.parametrize("mining", ["hard", "semihard", "all", "semihard_all"])
@two_sets
def test_a_frozen_tower_costs_no_gradient(
    form: str,
    mining: Any,
    needs: tuple[bool, bool],
    backend: Backend,
    generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs = make_inputs(form, 24, 21, 5, torch.float32, generator).to(backend.device)
    asked: list[tuple[bool, bool]] = []
    serving = BACKENDS[backend.name]
    for operator, flags in (
        ("triplet_backward", slice(-3, -1)),
        ("indexed_distance_backward", slice(-2, None)),
    ):
        original = getattr(serving, operator)

        def seen(*args: Any, original: Any = original, flags: slice = flags) -> Any:
            asked.append(args[flags])
            return original(*args)

        monkeypatch.setattr(serving, operator, seen)
    guards = (None, 0.5) if mining in ("hard", "semihard") else (None,)
    for guard in guards:
        ours, whole = inputs.leaves(needs=needs), inputs.leaves()
        for leaves in (whole, ours):
            asked.clear()
            functional.triplet_margin_loss(
                leaves.embeddings,
                leaves.labels,
                **leaves.keywords,
                mining=mining,
                exclude_closer_than=guard,
            ).backward()
        assert set(asked) == {needs}
        for leaf, other, needed in zip(ours.tensors, whole.tensors, needs, strict=True):
            if needed:
                torch.testing.assert_close(leaf.grad, other.grad)
            else:
                assert leaf.grad is None


X, Y = torch.rand(6, 4), torch.rand(6, 4)
LABELS = torch.arange(6)
REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "guard with all": (
        {"mining": "all", "exclude_closer_than": 0.1},
        ValueError,
        "exclude_closer_than.*'all'",
    ),
    "judge with all": ({"mining": "all", "mining_embeddings": Y}, ValueError, "mining_embeddings.*'all'"),
    "negative guard": ({"exclude_closer_than": -0.1}, ValueError, "exclude_closer_than.*-0.1"),
    "guard as text": ({"exclude_closer_than": "0.1"}, TypeError, "exclude_closer_than.*str"),
    "judge of five rows": ({"mining_embeddings": Y[:5]}, ValueError, "mining_embeddings.*6 rows.*gallery.*5"),
    "judge as a list": ({"mining_embeddings": [1.0]}, TypeError, "mining_embeddings.*list"),
    "judge of integers": ({"mining_embeddings": Y.long()}, TypeError, "mining_embeddings.*int64"),
    "judge elsewhere": ({"mining_embeddings": Y.to("meta")}, ValueError, "mining_embeddings.*cpu.*meta"),
    "symmetric as a number": ({"symmetric": 1}, TypeError, "symmetric.*1"),
    "symmetric, one set": (
        {"symmetric": True, "gallery": None, "labels": LABELS},
        ValueError,
        "gallery.*symmetric.*None",
    ),
    "symmetric judge with labels": (
        {"symmetric": True, "mining_embeddings": Y, "labels": LABELS, "gallery_labels": LABELS},
        ValueError,
        "mining_embeddings.*symmetric",
    ),
    "guarded triplets": (
        {"triplets": (LABELS, LABELS, LABELS), "exclude_closer_than": 0.1},
        ValueError,
        "exclude_closer_than.*triplets",
    ),
    "judged triplets": (
        {"triplets": (LABELS, LABELS, LABELS), "mining_embeddings": Y},
        ValueError,
        "mining_embeddings.*triplets",
    ),
    "symmetric triplets": (
        {"triplets": (LABELS, LABELS, LABELS), "symmetric": True},
        ValueError,
        "symmetric.*triplets",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    given, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        functional.triplet_margin_loss(X, **{"gallery": Y, **given})
