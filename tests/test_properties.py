"""Laws that hold for every input, looked for by hypothesis."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fused_rank import functional, retrieval

from . import brute
from .conftest import Backend
from .inputs import Inputs
from .losses import MAIN_CASES, RANKED_LIST, Loss, Options, case_id, moves_gallery
from .oracle import distances

Case = tuple[Loss, Options]
every_loss = pytest.mark.parametrize("case", MAIN_CASES, ids=case_id)
relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12)


@st.composite
def batches(draw: st.DrawFn, form: str = "self") -> Inputs:
    """fp64 rows, some of them duplicated, with labels of any sizes."""
    m, width = draw(st.integers(1, 40)), draw(st.integers(2, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    labels = torch.randint(0, draw(st.integers(1, 12)), (2 * m,), generator=generator)
    x = torch.randn(2 * m, width, generator=generator, dtype=torch.float64)
    copies = draw(st.integers(0, m - 1))
    x[:copies] = x[m : m + copies]
    if form == "self":
        return Inputs(x[:m].contiguous(), labels[:m])
    return Inputs(x[:m].contiguous(), labels[:m], x[m:].contiguous(), labels[m:])


def per_query(case: Case, inputs: Inputs, device: str) -> Tensor:
    loss, options = case
    return loss(inputs.to(device), **options, reduction="none").cpu()


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


@every_loss
@relaxed
@given(inputs=batches(), seed=st.integers(0, 2**31))
def test_permuting_the_batch_permutes_the_losses(
    case: Case, backend: Backend, inputs: Inputs, seed: int
) -> None:
    order = torch.randperm(len(inputs.embeddings), generator=torch.Generator().manual_seed(seed))
    assert inputs.labels is not None
    moved = Inputs(inputs.embeddings[order], inputs.labels[order])
    close(per_query(case, moved, backend.device), per_query(case, inputs, backend.device)[order])


@every_loss
@relaxed
@given(inputs=batches("two-set"), seed=st.integers(0, 2**31))
def test_permuting_the_gallery_changes_nothing(
    case: Case, backend: Backend, inputs: Inputs, seed: int
) -> None:
    assert inputs.gallery is not None
    assert inputs.gallery_labels is not None
    order = torch.randperm(len(inputs.gallery), generator=torch.Generator().manual_seed(seed))
    moved = replace(inputs, gallery=inputs.gallery[order], gallery_labels=inputs.gallery_labels[order])
    close(per_query(case, moved, backend.device), per_query(case, inputs, backend.device))


@every_loss
@relaxed
@given(
    inputs=batches(), multiplier=st.integers(-(2**40), 2**40).map(lambda n: 2 * n + 1), shift=st.integers()
)
def test_relabelling_changes_nothing(
    case: Case, backend: Backend, inputs: Inputs, multiplier: int, shift: int
) -> None:
    assert inputs.labels is not None
    shift = (shift + 2**62) % 2**63 - 2**62
    renamed = replace(
        inputs, labels=inputs.labels * multiplier + shift
    )  # an odd multiplier is injective mod 2**64
    close(per_query(case, renamed, backend.device), per_query(case, inputs, backend.device))


@every_loss
@relaxed
@given(inputs=batches(), scale=st.floats(1e-3, 1e3))
def test_normalised_losses_ignore_scale(case: Case, backend: Backend, inputs: Inputs, scale: float) -> None:
    scaled = replace(inputs, embeddings=inputs.embeddings * scale)
    close_where_clear(case, case[0].geometry(normalize=True), inputs, scaled, backend)


@every_loss
@relaxed
@given(inputs=batches("two-set"), size=st.floats(0, 100))
def test_distances_ignore_translation(case: Case, backend: Backend, inputs: Inputs, size: float) -> None:
    assert inputs.gallery is not None
    moved = replace(inputs, embeddings=inputs.embeddings + size, gallery=inputs.gallery + size)
    close_where_clear(case, case[0].geometry(metric="euclidean", normalize=False), inputs, moved, backend)


@every_loss
@relaxed
@given(inputs=batches("two-set"), seed=st.integers(0, 2**31), normalize=st.booleans())
def test_distances_ignore_rotation(
    case: Case, backend: Backend, inputs: Inputs, seed: int, normalize: bool
) -> None:
    assert inputs.gallery is not None
    width = inputs.embeddings.shape[1]
    generator = torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))
    moved = replace(inputs, embeddings=inputs.embeddings @ turn, gallery=inputs.gallery @ turn)
    geometry = case[0].geometry(normalize=normalize) if case[0].has(normalize=normalize) else {}
    close_where_clear(case, geometry, inputs, moved, backend)


def close_where_clear(case: Case, more: Options, first: Inputs, second: Inputs, backend: Backend) -> None:
    """The moved rows are rounded: only queries without close decisions must agree."""
    loss, options = case
    both = (loss, {**options, **more})
    clear = loss.oracle(first.oracle(), **both[1]).gap > 1e-8
    close(per_query(both, first, backend.device)[clear], per_query(both, second, backend.device)[clear])


@every_loss
@relaxed
@given(inputs=batches())
def test_self_form_is_two_set_form_without_the_diagonal(case: Case, backend: Backend, inputs: Inputs) -> None:
    """A row alone against all the others as its gallery has the number it has in self form."""
    assert inputs.labels is not None
    whole = per_query(case, inputs, backend.device)
    m = len(inputs.embeddings)
    for i in {0, m // 2, m - 1} if m > 1 else set():
        others = torch.arange(m) != i
        alone = Inputs(
            inputs.embeddings[i : i + 1],
            inputs.labels[i : i + 1],
            inputs.embeddings[others],
            inputs.labels[others],
        )
        close(per_query(case, alone, backend.device)[0], whole[i])


@relaxed
@given(inputs=batches("two-set"))
def test_both_sides_move_alike(backend: Backend, inputs: Inputs) -> None:
    """Distances only see differences: without normalising, all gradients together sum to zero."""
    for loss, options in MAIN_CASES:
        raw = {"metric": "euclidean", "normalize": False}
        if not moves_gallery(options, loss) or not loss.has(**raw):
            continue
        leaves = inputs.to(backend.device).leaves()
        loss(leaves, **options, **raw).backward()
        assert leaves.gallery is not None
        assert leaves.gallery.grad is not None
        assert leaves.embeddings.grad is not None
        total = leaves.embeddings.grad.sum(0) + leaves.gallery.grad.sum(0)
        assert total.abs().max() < 1e-9


@relaxed
@given(inputs=batches("two-set"), weight=st.floats(0, 10))
def test_ranked_list_parts_add_up(backend: Backend, inputs: Inputs, weight: float) -> None:
    parts = [
        per_query((RANKED_LIST, {"pos_weight": p, "neg_weight": n}), inputs, backend.device)
        for p, n in ((1.0, 0.0), (0.0, 1.0), (1.0, weight))
    ]
    close(parts[0] + weight * parts[1], parts[2])


@relaxed
@given(
    inputs=batches("two-set"),
    k=st.integers(1, 40),
    metric=st.sampled_from(["euclidean", "sqeuclidean", "cosine"]),
)
def test_topk(backend: Backend, inputs: Inputs, k: int, metric: str) -> None:
    assert inputs.gallery is not None
    k = min(k, len(inputs.gallery))
    d = distances(inputs.embeddings, inputs.gallery, metric)
    values, indices = retrieval.topk(
        *(t.to(backend.device) for t in inputs.tensors), k, metric=metric, normalize=False
    )
    close(values.cpu(), d.gather(1, indices.cpu()))
    close(values.cpu(), d.sort(1).values[:, :k])
    assert all(len(set(row)) == k for row in indices.tolist())
    if (d.sort(1).values.diff(dim=1) > 1e-9).all():
        assert indices.tolist() == brute.topk(d, k)


@relaxed
@given(inputs=batches("two-set"), metric=st.sampled_from(["euclidean", "sqeuclidean", "cosine"]))
def test_pairwise_distance_is_symmetric(backend: Backend, inputs: Inputs, metric: str) -> None:
    x, y = (t.to(backend.device) for t in inputs.to(backend.device).tensors)
    close(
        functional.pairwise_distance(x, y, metric=metric),
        functional.pairwise_distance(y, x, metric=metric).t(),
    )
    own = functional.pairwise_distance(x, metric=metric)
    assert torch.equal(own.diagonal(), torch.zeros(len(x)).to(own))
    assert torch.equal(own, own.t())
