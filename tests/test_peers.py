"""Agreement with pytorch-metric-learning 2.9.0 and torch.nn where the semantics coincide, in fp64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fused_rank import (
    ContrastiveLoss,
    InfoNCELoss,
    RankedListLoss,
    SupConLoss,
    TripletMarginLoss,
    functional,
)

from .conftest import Backend
from .gradient_error import assert_gradient_close, assert_value_close
from .inputs import Inputs, make_inputs
from .tolerances import TOLERANCES

pml = pytest.importorskip("pytorch_metric_learning")
from pytorch_metric_learning import distances, losses, miners, reducers  # noqa: E402

DOUBLE = TOLERANCES[torch.float64]
B = 60  # rows of the batch: pytorch-metric-learning's epsilon in the ranked list loss is 1e-5 for each


def lp(normalize: bool, power: int = 1) -> distances.LpDistance:
    return distances.LpDistance(normalize_embeddings=normalize, power=power)


def mean() -> reducers.MeanReducer:
    return reducers.MeanReducer()


class Mined(nn.Module):
    """A pytorch-metric-learning loss with its miner."""

    def __init__(self, loss: nn.Module, miner: nn.Module) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(self, x: Tensor, labels: Tensor, **gallery: Any) -> Tensor:
        value: Tensor = self.loss(x, labels, self.miner(x, labels, **gallery), **gallery)
        return value


def triplet_pair(
    mining: str, miner: Callable[[bool], nn.Module] | None, **options: Any
) -> Callable[[bool], Any]:
    """Our triplet loss and theirs with the same meaning."""
    theirs_options = {"margin": options.get("margin", 0.2), "smooth_loss": options.get("soft_margin", False)}

    def build(normalize: bool) -> tuple[nn.Module, nn.Module]:
        reducer = mean() if options.get("reduction") == "mean" else reducers.AvgNonZeroReducer()
        theirs = losses.TripletMarginLoss(**theirs_options, distance=lp(normalize), reducer=reducer)
        ours = TripletMarginLoss(mining=mining, normalize=normalize, **options)
        return ours, theirs if miner is None else Mined(theirs, miner(normalize))

    return build


PAIRS: dict[str, Callable[[bool], tuple[nn.Module, nn.Module]]] = {
    "contrastive, linear": lambda unit: (
        ContrastiveLoss(pos_margin=0.2, neg_margin=1.2, power=1, reduction="mean_active", normalize=unit),
        losses.ContrastiveLoss(pos_margin=0.2, neg_margin=1.2, distance=lp(unit)),
    ),
    "contrastive, squared distance": lambda unit: (
        ContrastiveLoss(
            neg_margin=1.5, power=1, metric="sqeuclidean", reduction="mean_active", normalize=unit
        ),
        losses.ContrastiveLoss(neg_margin=1.5, distance=lp(unit, power=2)),
    ),
    "all triplets": triplet_pair("all", None),
    "all triplets, soft": triplet_pair("all", None, soft_margin=True, margin=0.1),
    "all triplets, mean": triplet_pair("all", None, reduction="mean"),
    "banded triplets": triplet_pair(
        "semihard_all", lambda unit: miners.TripletMarginMiner(0.3, "semihard", distance=lp(unit)), margin=0.3
    ),
    "batch hard": triplet_pair(
        "hard", lambda unit: miners.BatchHardMiner(distance=lp(unit)), reduction="mean"
    ),
    "batch hard, soft": triplet_pair(
        "hard", lambda unit: miners.BatchHardMiner(distance=lp(unit)), reduction="mean", soft_margin=True
    ),
    "batch hard, mean_active": triplet_pair(
        "hard", lambda unit: miners.BatchHardMiner(distance=lp(unit)), reduction="mean_active"
    ),
}


@pytest.mark.parametrize("normalize", [True, False], ids=["unit", "raw"])
@pytest.mark.parametrize("form", ["self", "two-set"])
@pytest.mark.parametrize("pair", PAIRS)
def test_pytorch_metric_learning(
    pair: str, form: str, normalize: bool, backend: Backend, generator: torch.Generator
) -> None:
    ours, theirs = PAIRS[pair](normalize)
    inputs = make_inputs(form, B, 45, 12, torch.float64, generator)
    mine, other = inputs.to(backend.device).leaves(), inputs.leaves()
    value = ours(mine.embeddings, mine.labels, **mine.keywords)
    gallery = {} if form == "self" else {"ref_emb": other.gallery, "ref_labels": other.gallery_labels}
    expected = theirs(other.embeddings, other.labels, **gallery)
    agree(value, expected, mine, other)


# Losses of cosine similarity, with pytorch-metric-learning's defaults and without.
SOFTMAX: dict[str, tuple[nn.Module, nn.Module]] = {
    "supervised contrastive": (SupConLoss(), losses.SupConLoss()),
    "supervised contrastive, another temperature": (SupConLoss(0.5), losses.SupConLoss(0.5)),
}


@pytest.mark.parametrize("form", ["self", "two-set"])
@pytest.mark.parametrize("pair", SOFTMAX)
def test_softmax_losses(pair: str, form: str, backend: Backend, generator: torch.Generator) -> None:
    ours, theirs = SOFTMAX[pair]
    inputs = make_inputs(form, B, 45, 12, torch.float64, generator)
    mine, other = inputs.to(backend.device).leaves(), inputs.leaves()
    gallery = {} if form == "self" else {"ref_emb": other.gallery, "ref_labels": other.gallery_labels}
    value = ours(mine.embeddings, mine.labels, **mine.keywords)
    agree(value, theirs(other.embeddings, other.labels, **gallery), mine, other)


@pytest.mark.parametrize("symmetric", [False, True])
def test_info_nce(symmetric: bool, backend: Backend, generator: torch.Generator) -> None:
    """Cross-entropy over the similarities, one way or (CLIP) the mean of both."""
    inputs = make_inputs("plain", B, B, 12, torch.float64, generator)
    mine, other = inputs.to(backend.device).leaves(), inputs.leaves()
    x, y = (nn.functional.normalize(t) for t in other.tensors)
    logits, own = x @ y.t() / 0.07, torch.arange(B)
    expected = nn.functional.cross_entropy(logits, own)
    if symmetric:
        expected = (expected + nn.functional.cross_entropy(logits.t(), own)) / 2
    agree(InfoNCELoss(symmetric=symmetric)(mine.embeddings, gallery=mine.gallery), expected, mine, other)


def test_info_nce_of_pytorch_metric_learning(backend: Backend, generator: torch.Generator) -> None:
    """Its NTXentLoss is InfoNCE where each query has one positive."""
    inputs = make_inputs("plain", B, B, 12, torch.float64, generator)
    mine, other = inputs.to(backend.device).leaves(), inputs.leaves()
    own = torch.arange(B)
    expected = losses.NTXentLoss()(other.embeddings, own, ref_emb=other.gallery, ref_labels=own.clone())
    agree(InfoNCELoss()(mine.embeddings, gallery=mine.gallery), expected, mine, other)


@pytest.mark.parametrize("normalize", [True, False], ids=["unit", "raw"])
@pytest.mark.parametrize("temperatures", [(4.0, 0.0), (2.0, 3.0), (0.0, 0.0)], ids=str)
@pytest.mark.parametrize("balance", [0.5, 0.2])
def test_ranked_list(
    temperatures: tuple[float, float],
    balance: float,
    normalize: bool,
    backend: Backend,
    generator: torch.Generator,
) -> None:
    """Theirs: gradient of the value, λ on negatives and 1 − λ on positives, 1e-5 · B in the denominators.

    It gives NaN for rows with an empty part unless that epsilon is there, so eps is part of the definition.
    """
    negative, positive = temperatures
    margin = 0.4
    theirs = losses.RankedListLoss(margin, negative, balance, Tp=positive, distance=lp(normalize))
    ours = RankedListLoss(
        alpha=1 + margin / 2,
        margin=margin,
        temperature_neg=negative,
        temperature_pos=positive,
        pos_weight=1 - balance,
        neg_weight=balance,
        gradient="exact",
        eps=B * 1e-5,
        normalize=normalize,
    )
    inputs = make_inputs("self", B, 0, 12, torch.float64, generator)
    mine, other = inputs.to(backend.device).leaves(), inputs.leaves()
    agree(ours(mine.embeddings, mine.labels), theirs(other.embeddings, other.labels), mine, other)


def agree(value: Tensor, expected: Tensor, mine: Inputs, other: Inputs) -> None:
    assert expected > 0
    assert_value_close(value.cpu(), expected, DOUBLE)
    value.backward()
    expected.backward()
    for leaf, exact in zip(mine.tensors, other.tensors, strict=True):
        assert exact.grad is not None
        assert leaf.grad is not None
        assert exact.grad.any()
        assert_gradient_close(leaf.grad.cpu(), exact.grad, DOUBLE)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("margin", [0.2, 1.0])
def test_explicit_triplets_and_torch_nn(
    reduction: str, margin: float, backend: Backend, generator: torch.Generator
) -> None:
    rows = torch.randint(0, 50, (3, 200), generator=generator)
    inputs = make_inputs("two-set", 50, 50, 9, torch.float64, generator)
    mine, other = inputs.to(backend.device).leaves(), inputs.leaves()
    assert other.gallery is not None
    a, p, n = rows.to(backend.device)
    value = functional.triplet_margin_loss(
        mine.embeddings,
        gallery=mine.gallery,
        triplets=(a, p, n),
        margin=margin,
        normalize=False,
        reduction=reduction,
    )
    theirs = nn.TripletMarginLoss(margin, eps=1e-16, reduction=reduction)
    expected = theirs(other.embeddings[rows[0]], other.gallery[rows[1]], other.gallery[rows[2]])
    assert value.shape == expected.shape
    agree(value.sum(), expected.sum(), mine, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_paired_distance_and_torch_nn(
    dtype: torch.dtype, backend: Backend, generator: torch.Generator
) -> None:
    inputs = make_inputs("plain", 80, 80, 9, dtype, generator)
    mine, other = inputs.to(backend.device).leaves(), inputs.oracle()
    value = functional.paired_distance(*mine.tensors)
    expected = nn.PairwiseDistance(eps=0)(*other.tensors)
    assert_value_close(value.cpu(), expected, TOLERANCES[dtype])
    upstream = torch.randn(80, generator=generator, dtype=torch.float64)
    value.backward(upstream.to(value))
    expected.backward(upstream)
    for leaf, exact in zip(mine.tensors, other.tensors, strict=True):
        assert leaf.grad is not None
        assert exact.grad is not None
        assert_gradient_close(leaf.grad.cpu(), exact.grad, TOLERANCES[dtype])
