"""What pair sweeps offer to a term, against autograd on dense matrices: inputs, inner products, the symmetric form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fused_rank.ops.dispatch import BACKENDS
from fused_rank.ops.pair import PairTerm, pair_rows
from fused_rank.ops.schemas import PAIR_INPUTS

from . import oracle
from .conftest import Backend
from .gradient_error import assert_gradient_close, assert_value_close
from .inputs import Inputs, make_inputs
from .pairwise import Combo, pairwise
from .tolerances import TOLERANCES

Row = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def logits_of(d: Tensor, members: Tensor) -> Tensor:
    return d.masked_fill(~members, -torch.inf).logsumexp(1)


def sup_con(d: Tensor, same: Tensor, other: Tensor, level: Tensor) -> Tensor:
    logits = -4.0 * d
    mean = (logits * same).sum(1) / same.sum(1).clamp(min=1)
    valid = same.any(1)
    return torch.where(valid, logits_of(logits, (same | other) | ~valid[:, None]) - mean, 0)


def negatives_lse(d: Tensor, same: Tensor, other: Tensor, level: Tensor) -> Tensor:
    return logits_of(0.3 - 5.0 * d, other)


def softplus_negatives(d: Tensor, same: Tensor, other: Tensor, level: Tensor) -> Tensor:
    return functional.softplus(logits_of(-5.0 * d, other) - level)


def softplus_positives(d: Tensor, same: Tensor, other: Tensor, level: Tensor) -> Tensor:
    return functional.softplus(level[:, None] - (0.3 - 5.0 * d)).masked_fill(~same, 0).sum(1)


TERMS: dict[str, tuple[tuple[float, ...], Row]] = {
    "sup_con": ((-4.0,), sup_con),
    "negatives_lse": ((-5.0, 0.3), negatives_lse),
    "softplus_negatives": ((-5.0, math.inf), softplus_negatives),
    "softplus_positives": ((-5.0, 0.3), softplus_positives),
}


def seen_by_terms(inputs: Inputs, metric: str, normalize: bool) -> Tensor:
    """[M, N]: distances or inner products."""
    x, y = inputs.embeddings, inputs.tensors[-1]
    if metric != "dot":
        return oracle.distances(x, y, metric, normalize)
    return oracle.unit(x) @ oracle.unit(y).t() if normalize else x @ y.t()


def dense(inputs: Inputs, level: Tensor, row: Row, metric: str, normalize: bool, symmetric: bool) -> Tensor:
    d = seen_by_terms(inputs, metric, normalize)
    masks = oracle.pairs(inputs.labels, inputs.gallery_labels, *d.shape, inputs.gallery is None)
    m = len(d)
    parts = [row(d, *masks, level[:m])]
    if symmetric:
        parts.append(row(d.t(), *(mask.t() for mask in masks), level[m:]))
    return torch.cat(parts)


CASES = [
    (term, combo)
    for term in TERMS
    for combo in pairwise(
        {
            "shape": [(7, 70, 16), (70, 133, 9), (300, 129, 33)],
            "form": ["self", "two-set", "plain", "two-set symmetric", "plain symmetric"],
            "metric": ["cosine", "euclidean", "dot", "dot of unit rows"],
            "dtype": [torch.float64, torch.float32, torch.bfloat16],
        }
    )
]


def name(case: tuple[str, Combo]) -> str:
    return "-".join((case[0], *(str(value).removeprefix("torch.") for value in case[1].values())))


@pytest.mark.parametrize("case", CASES, ids=name)
def test_against_autograd(case: tuple[str, Combo], backend: Backend, generator: torch.Generator) -> None:
    term, combo = case
    form, metric, dtype = combo["form"], combo["metric"], combo["dtype"]
    served = BACKENDS[backend.name].dtypes
    if served is not None and dtype not in served:
        pytest.skip(f"{backend.name} does not serve {dtype}")
    if backend.interpreted and combo["shape"][0] > 100:
        pytest.skip("the kernels' own tests have more shapes")
    symmetric, normalize = form.endswith("symmetric"), metric != "dot"
    metric = metric.split()[0]
    inputs = make_inputs(form.split()[0], *combo["shape"], dtype, generator)
    if inputs.labels is not None:  # every row has a negative
        inputs = replace(inputs, labels=inputs.labels.clone())
        inputs.labels[0] = -999  # type: ignore[index]
        if inputs.gallery_labels is not None:
            inputs.gallery_labels = torch.cat((torch.tensor([999]), inputs.gallery_labels[1:]))
    truth, ours = inputs.oracle(), inputs.to(backend.device).leaves()
    params, row = TERMS[term]
    count = len(inputs.embeddings) + (len(inputs.tensors[-1]) if symmetric else 0)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    level = torch.randn(count, generator=generator, dtype=wide)
    exact_level, own_level = level.double().requires_grad_(), level.to(backend.device).requires_grad_()
    expected = dense(truth, exact_level, row, metric, normalize, symmetric)
    rows = pair_rows(
        PairTerm("contrastive_loss", term, params),
        ours.embeddings,
        ours.labels,
        ours.gallery,
        ours.gallery_labels,
        metric,
        normalize,
        own_level[None] if PAIR_INPUTS[term] else None,
        symmetric,
    )
    upstream = torch.randn(count, generator=generator, dtype=torch.float64)
    tolerance = TOLERANCES[dtype]
    assert rows.sums.shape == (1, count)
    assert_value_close(rows.sums[0].cpu(), expected, tolerance)
    expected.backward(upstream)
    rows.sums[0].backward(upstream.to(rows.sums))
    for leaf, exact in zip(ours.tensors, truth.tensors, strict=True):
        assert exact.grad is not None
        assert leaf.grad is not None
        assert_gradient_close(leaf.grad.cpu(), exact.grad, tolerance)
    if PAIR_INPUTS[term]:
        assert own_level.grad is not None
        assert exact_level.grad is not None
        assert_gradient_close(own_level.grad.cpu(), exact_level.grad, tolerance, "gradient of the inputs")


@pytest.mark.parametrize("scale", [2.0, 90.0], ids=["fixed shift", "streaming"])
def test_own_numbers_far_from_every_logit(scale: float, backend: Backend) -> None:
    """Losses keep their digits however small they are, and nothing overflows; a row without negatives has 0."""
    own = torch.tensor([[-1e30, -300.0, -20.0, 0.0, 20.0, 80.0, 300.0, 1e30, -300.0]], device=backend.device)
    own = own.requires_grad_()
    x = torch.tensor([[0.6, 0.8]], device=backend.device).repeat(9, 1).requires_grad_()
    y = torch.tensor([[0.8, 0.6], [1.0, 0.0]], device=backend.device)
    labels = torch.tensor([0] * 8 + [1], device=backend.device)
    term = PairTerm("contrastive_loss", "softplus_negatives", (scale, 1.0))
    rows = pair_rows(term, x, labels, y, torch.ones(2, dtype=torch.int64, device=y.device), "dot", False, own)
    rows.sums.sum().backward()
    expected = functional.softplus(
        (scale * (x.double() @ y.double().T)).logsumexp(1) - own.double(), threshold=700
    )
    expected[0, -1] = 0
    torch.testing.assert_close(rows.sums.double(), expected, rtol=1e-5 * scale**0.5, atol=1e-38)
    assert rows.counts[0].tolist() == [1] * 8 + [0]
    assert rows.active[0].tolist() == (expected[0] > 1e-38).float().tolist()
    assert x.grad is not None
    assert own.grad is not None
    assert x.grad.isfinite().all()
    assert ((own.grad <= 0) & (own.grad >= -1)).all()
    assert own.grad[0, -1] == 0
